//! Tasks that fail and workers that die, in every way: exactly the guilty item pays.
//
// UNSAFETY: tasks kill themselves and saw at what they sit on.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "tasks that crash, close descriptors and unmap memory")]

#[path = "../scene/mod.rs"]
mod scene;
mod tasks;
mod workers;

use std::panic::panic_any;
use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use offspring_pool::{Error, Pool};
use offspring_process::ExitStatus;
use offspring_shm::{Shared, SharedSlice};
use scene::{Scene, assert_gone, eventually};

type Flags = SharedSlice<AtomicU32>;

fn flags(count: usize) -> Flags {
    SharedSlice::from_fn(count, |_| AtomicU32::new(0)).unwrap()
}

fn double(n: u64) -> u64 {
    n * 2
}

fn kill(pid: u32, signal: i32) {
    // SAFETY: a signal to a child of this process, or to this process itself.
    unsafe { libc::kill(pid as i32, signal) };
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug, Clone, Copy, PartialEq)]
enum End {
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

const ENDS: [(End, Option<i32>, &str); 9] = [
    (End::Exit(3), None, "exited with code 3"),
    (End::ExitAtOnce, None, "exited with code 0"),
    (End::ExitInThread, None, "exited with code 4"),
    (End::Abort, Some(libc::SIGABRT), "killed by SIGABRT"),
    (End::Kill, Some(libc::SIGKILL), "killed by SIGKILL"),
    (End::Terminate, Some(libc::SIGTERM), "killed by SIGTERM"),
    (End::Fault, Some(libc::SIGSEGV), "killed by SIGSEGV"),
    (End::Overflow, None, "killed by SIG"),
    (End::UnmapArena, None, "killed by SIG"),
];

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

fn die(end: End) -> u64 {
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

fn die_at(guilty: u64, n: u64, end: End) -> u64 {
    if n == guilty { die(end) } else { n * 2 }
}

fn check_death(error: &Error, item: usize, signal: Option<i32>, words: &str) {
    assert!(
        error.is_worker_death() && !error.is_panic() && !error.is_closed() && !error.is_broken(),
        "{error}"
    );
    assert_eq!(error.item(), Some(item), "{error}");
    let text = error.to_string();
    assert!(text.contains(words), "{text}");
    assert!(text.contains(&format!("process {}", error.pid().unwrap())), "{text}");
    assert!(text.contains(&format!("item {item}")), "{text}");
    if signal.is_some() {
        assert_eq!(error.exit_status().and_then(ExitStatus::signal), signal);
    }
}
