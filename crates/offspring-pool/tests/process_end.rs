//! How a process ends, by itself or not, and how its end is told.
//
// UNSAFETY: children do to themselves what only C code does: exit, signals without a handler.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "children that exit, kill themselves and close descriptors")]

mod scene;

use std::os::fd::AsFd;
use std::panic::panic_any;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use offspring_pool::{Process, active_children};
use offspring_process::{ExitStatus, StartMethod, zygote};
use offspring_shm::Shared;
use scene::{Scene, assert_gone, eventually, program, role};

const METHODS: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

fn sleep_long() {
    thread::sleep(Duration::from_secs(1000));
}

fn sleeper() -> Process<()> {
    Process::builder().daemon(true).spawn(sleep_long, ()).unwrap()
}

fn signal_of(process: &Process<()>) -> Option<i32> {
    process.exit_status().unwrap().unwrap().signal()
}

/// Whether a descriptor is readable now.
fn readable(process: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, 0_u8).unwrap() == 1
}

#[test]
fn only_an_ended_process_closes() {
    let _scene = Scene::new();
    let process = sleeper();
    let error = process.close().unwrap_err();
    assert!(error.to_string().contains("still runs"), "{error}");
    let process = error.0;
    process.kill().unwrap();
    process.join().unwrap();
    process.close().unwrap();
}

#[test]
fn a_grandchild_dies_with_its_parent() {
    let _scene = Scene::new();
    for kill in [false, true] {
        let pid = Shared::new(AtomicU32::new(0)).unwrap();
        fn middle(pid: Shared<AtomicU32>) {
            let child = Process::spawn(sleep_long, ()).unwrap();
            pid.store(child.pid(), Relaxed);
            child.join().unwrap();
        }
        let process = Process::spawn(middle, pid.clone()).unwrap();
        eventually("the grandchild starts", || pid.load(Relaxed) != 0);
        let grandchild = pid.load(Relaxed);
        if kill { process.kill() } else { process.terminate() }.unwrap();
        process.join().unwrap();
        assert_gone(grandchild);
    }
}

#[test]
fn signals_end_a_process_and_are_told() {
    let _scene = Scene::new();
    type End = fn(&Process<()>) -> offspring_pool::Result<()>;
    let ends: [(End, i32); 4] = [
        (|process| process.terminate(), libc::SIGTERM),
        (|process| process.kill(), libc::SIGKILL),
        (|process| process.interrupt(), libc::SIGINT),
        (|process| process.signal(libc::SIGUSR1), libc::SIGUSR1),
    ];
    for method in METHODS {
        for (end, signal) in ends {
            let process = Process::builder().start_method(method).spawn(sleep_long, ()).unwrap();
            assert!(!process.join_timeout(Duration::ZERO).unwrap());
            end(&process).unwrap();
            process.join().unwrap();
            assert_eq!(signal_of(&process), Some(signal));
            let error = process.result().unwrap_err();
            assert!(error.is_worker_death() && !error.is_panic(), "{error}");
            assert_eq!(error.pid(), Some(process.pid()));
            assert_eq!(error.exit_status().and_then(ExitStatus::signal), Some(signal));
            assert!(error.to_string().contains("killed by SIG"), "{error}");
            // The dead cannot be killed, and nobody minds.
            end(&process).unwrap();
        }
    }
    assert!(sleeper().signal(1000).is_err(), "there is no signal 1000");
}

#[test]
fn an_ignored_interrupt_is_none() {
    let _scene = Scene::new();
    let process = Process::builder().ignore_interrupt(true).spawn(sleep_long, ()).unwrap();
    process.interrupt().unwrap();
    process.terminate().unwrap();
    process.join().unwrap();
    assert_eq!(signal_of(&process), Some(libc::SIGTERM));
}

#[test]
fn exit_codes_are_told() {
    let _scene = Scene::new();
    fn exit_with(code: i32) -> u32 {
        std::process::exit(code)
    }
    for (code, seen) in [(0, 0), (3, 3), (255, 255), (-1, 255), (256, 0)] {
        let process = Process::spawn(exit_with, code).unwrap();
        let error = process.result().unwrap_err();
        assert!(error.is_worker_death(), "{error}");
        assert_eq!(
            error.exit_status(),
            Some(&ExitStatus::Code(seen)),
            "even a success is a failure to return"
        );
        assert!(
            error.to_string().contains(&format!("exited with code {seen}")),
            "{error}"
        );
    }
    // SAFETY: no pointers.
    let process = Process::spawn(|| -> u8 { unsafe { libc::_exit(9) } }, ()).unwrap();
    process.join().unwrap();
    assert_eq!(process.exit_status().unwrap(), Some(ExitStatus::Code(9)));
    // A panic's code without a panic.
    let process = Process::spawn(exit_with, 101).unwrap();
    let error = process.result().unwrap_err();
    assert!(error.is_worker_death() && !error.is_panic(), "{error}");
}

#[test]
fn a_panic_is_told_with_its_words() {
    let _scene = Scene::new();
    for method in METHODS {
        let process = Process::builder().start_method(method);
        let process = process
            .spawn(|n: u32| -> u32 { panic!("no luck with {n}") }, 5)
            .unwrap();
        let error = process.result().unwrap_err();
        let panic = error.panic().expect("it is a panic");
        assert_eq!(panic.message(), "no luck with 5");
        assert!(panic.location().contains("process_end.rs:"), "{}", panic.location());
        assert!(error.to_string().contains("no luck with 5"), "{error}");
        assert!(error.is_panic() && !error.is_worker_death());
        assert_eq!(
            process.exit_status().unwrap().and_then(|status| status.code()),
            Some(101)
        );
    }
    let error = Process::spawn(|| -> u8 { panic_any(3_u8) }, ())
        .unwrap()
        .result()
        .unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "a value that is not text");
    let error = Process::spawn(|| -> u8 { panic!("{}", "x".repeat(1 << 20)) }, ())
        .unwrap()
        .result()
        .unwrap_err();
    assert!(
        error.panic().unwrap().message().starts_with("xxx"),
        "a long message is cut, not lost"
    );
    let error = Process::spawn(|| -> u8 { thread::spawn(|| panic!("inner")).join().unwrap() }, ())
        .unwrap()
        .result()
        .unwrap_err();
    assert!(error.is_panic(), "{error}");
}

#[test]
fn crashes_are_told() {
    let _scene = Scene::new();
    fn overflow(depth: u64) -> u64 {
        let frame = std::hint::black_box([depth; 512]);
        if frame[0] == u64::MAX {
            0
        } else {
            overflow(depth + 1) + std::hint::black_box(frame)[7]
        }
    }
    fn fault() -> u64 {
        // SAFETY: none. The child is meant to crash.
        unsafe { std::ptr::without_provenance::<u64>(8).read_volatile() }
    }
    let abort = Process::spawn(|| -> u64 { std::process::abort() }, ()).unwrap();
    assert_eq!(
        abort.result().unwrap_err().exit_status().unwrap().signal(),
        Some(libc::SIGABRT)
    );
    let fault = Process::spawn(fault, ()).unwrap();
    assert_eq!(
        fault.result().unwrap_err().exit_status().unwrap().signal(),
        Some(libc::SIGSEGV)
    );
    let overflow = Process::spawn(overflow, 0).unwrap();
    let signal = overflow.result().unwrap_err().exit_status().unwrap().signal();
    assert!(matches!(signal, Some(libc::SIGSEGV | libc::SIGABRT)), "{signal:?}");
}

#[test]
fn the_sentinel_becomes_readable_at_the_end() {
    let _scene = Scene::new();
    let process = sleeper();
    assert!(!readable(&*process));
    process.kill().unwrap();
    eventually("the sentinel tells the end", || readable(&*process));
    process.join().unwrap();
    assert!(readable(&*process), "and goes on to tell it");
}

#[test]
fn dropping_waits_for_a_child_and_kills_a_daemon() {
    let _scene = Scene::new();
    let done = Shared::new(AtomicU32::new(0)).unwrap();
    fn work(done: Shared<AtomicU32>) {
        thread::sleep(Duration::from_millis(50));
        done.store(1, Relaxed);
    }
    drop(Process::spawn(work, done.clone()).unwrap());
    assert_eq!(done.load(Relaxed), 1);

    let daemon = sleeper();
    assert!(daemon.is_daemon());
    let pid = daemon.pid();
    drop(daemon);
    assert_gone(pid);

    // Not even SIGTERM helps with this one; its grace is short.
    fn stubborn(ready: Shared<AtomicU32>) {
        // SAFETY: ignores a signal.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        ready.store(2, Relaxed);
        sleep_long();
    }
    let process = Process::builder()
        .grace(Duration::from_millis(10))
        .spawn(stubborn, done.clone())
        .unwrap();
    eventually("it is stubborn", || done.load(Relaxed) == 2);
    let pid = process.pid();
    drop(process);
    assert_gone(pid);
}

#[test]
fn dropping_in_a_panic_does_not_wait() {
    let _scene = Scene::new();
    let (send, receive) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        let process = Process::spawn(sleep_long, ()).unwrap();
        send.send(process.pid()).unwrap();
        panic!("with a process in hand");
    });
    let pid = receive.recv().unwrap();
    assert!(thread.join().is_err());
    assert_gone(pid);
}

#[test]
fn a_handle_outlives_the_process_value() {
    let _scene = Scene::new();
    let process = sleeper();
    let [handle] = &active_children()[..] else {
        panic!("one child")
    };
    assert_eq!(handle.pid(), process.pid());
    let thread = thread::spawn({
        let handle = handle.clone();
        move || handle.join().unwrap()
    });
    drop(process);
    assert!(handle.is_alive(), "the last handle ends it, not the first");
    handle.kill().unwrap();
    thread.join().unwrap();
    assert_eq!(handle.exit_status().unwrap().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn threads_of_a_child_end_with_it() {
    let _scene = Scene::new();
    let process = Process::spawn(
        || {
            drop(thread::spawn(sleep_long));
            5_u8
        },
        (),
    );
    assert_eq!(process.unwrap().result().unwrap(), 5);
}

#[test]
fn a_killed_zygote_takes_nothing_with_it() {
    let _scene = Scene::new();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV] {
        let gate = Shared::new(AtomicU32::new(0)).unwrap();
        fn wait(gate: Shared<AtomicU32>) -> u32 {
            while gate.load(Relaxed) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            gate.load(Relaxed)
        }
        let before = Process::spawn(wait, gate.clone()).unwrap();
        let zygote = zygote::pid().expect("there is a zygote");
        // SAFETY: a signal to a child of this process that was not waited for.
        unsafe { libc::kill(zygote as i32, signal) };
        if signal != libc::SIGINT {
            assert_gone(zygote);
        }
        let after = Process::spawn(wait, gate.clone()).unwrap();
        gate.store(signal as u32, Relaxed);
        assert_eq!(before.result().unwrap(), signal as u32);
        assert_eq!(after.result().unwrap(), signal as u32);
        assert_eq!(before.exit_status().unwrap(), Some(ExitStatus::Code(0)));
    }
}

#[test]
fn a_panic_is_printed_by_the_child() {
    let _scene = Scene::new();
    const TEST: &str = "a_panic_is_printed_by_the_child";
    if role().is_some() {
        assert!(
            Process::spawn(|| -> u8 { panic!("printed once") }, ())
                .unwrap()
                .result()
                .is_err()
        );
        return;
    }
    let output = program(TEST, "parent").output().unwrap();
    scene::assert_success(&output);
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(words.matches("printed once").count(), 1, "{words}");
    assert!(words.contains("process_end.rs:"), "{words}");
}
