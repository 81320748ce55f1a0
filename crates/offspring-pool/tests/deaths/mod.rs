//! The ways in which a worker ends.
//
// UNSAFETY: processes kill themselves and saw at what they sit on.
#![expect(unsafe_code, reason = "kill, _exit, a fault, munmap")]

use std::process::id;
use std::thread;
use std::time::Duration;

pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: a signal to a child of this process, or to this process itself.
    unsafe { libc::kill(pid as i32, signal) };
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug, Clone, Copy, PartialEq)]
pub(crate) enum End {
    Exit(i32),
    ExitAtOnce,
    ExitInThread,
    Abort,
    Kill,
    Terminate,
    Fault,
    Overflow,
    UnmapArena,
}

fn overflow(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    if frame[0] == u64::MAX {
        0
    } else {
        overflow(depth + 1) + std::hint::black_box(frame)[7]
    }
}

/// Takes the arena's mapping from under this process's feet.
fn unmap_arena() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines().filter(|line| line.contains("/memfd:")) {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16).unwrap());
        // SAFETY: none. The worker is meant to crash.
        unsafe { libc::munmap(std::ptr::without_provenance_mut(start), end - start) };
    }
}

pub(crate) fn die(end: End) -> u64 {
    match end {
        End::Exit(code) => std::process::exit(code),
        // SAFETY: no pointers.
        End::ExitAtOnce => unsafe { libc::_exit(0) },
        End::ExitInThread => thread::spawn(|| std::process::exit(4)).join().unwrap(),
        End::Abort => std::process::abort(),
        End::Kill => kill(id(), libc::SIGKILL),
        End::Terminate => kill(id(), libc::SIGTERM),
        // SAFETY: none. The worker is meant to crash.
        End::Fault => drop(unsafe { std::ptr::without_provenance::<u64>(8).read_volatile() }),
        End::Overflow => drop(overflow(0)),
        End::UnmapArena => unmap_arena(),
    }
    // Where a signal has to arrive first.
    if end != End::UnmapArena {
        thread::sleep(Duration::from_secs(1000));
    }
    0
}
