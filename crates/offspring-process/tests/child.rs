//! The handle: waiting, signalling, dropping, and children that outlive nobody.
//
// UNSAFETY: the tests do what foreign code does to a process: waitpid, ignored signals.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "system calls behind the crate's back")]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use offspring_process::{Arguments, Child, EntryPoint, ExitStatus, Launcher, StartMethod, zygote};
use offspring_testing::{LeakCheck, process_gone, wait_until, watchdog};

const METHODS: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];
const KILLED: ExitStatus = ExitStatus::Signal {
    signal: libc::SIGKILL,
    core_dumped: false,
};

static SLEEP: EntryPoint = EntryPoint::new("sleep", |_: Arguments| {
    thread::sleep(Duration::from_secs(1000));
    0
});
static CODE: EntryPoint = EntryPoint::new("code", |arguments: Arguments| i32::from(arguments.payload[0]));

fn sleeper(method: StartMethod) -> Child {
    Launcher::new().method(method).start(&SLEEP, &[], &[]).unwrap()
}

#[test]
fn waiting_with_timeouts() {
    let _watchdog = watchdog(Duration::from_secs(60));
    for method in METHODS {
        let child = sleeper(method);
        assert_eq!(child.try_wait().unwrap(), None);
        let started = Instant::now();
        assert_eq!(child.wait_timeout(Duration::from_millis(30)).unwrap(), None);
        assert!(started.elapsed() >= Duration::from_millis(30));
        assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), None);
        assert_eq!(child.wait_deadline(started).unwrap(), None);
        child.signal(libc::SIGTERM).unwrap();
        // A timeout beyond what the clock can count is none.
        let status = child.wait_timeout(Duration::MAX).unwrap().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGTERM));
        assert_eq!(child.wait().unwrap(), status);
        assert_eq!(child.try_wait().unwrap(), Some(status.clone()));
        assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), Some(status));
    }
}

#[test]
fn signals_to_the_dead_are_no_ops() {
    let child = Launcher::new().start(&CODE, &[7], &[]).unwrap();
    assert!(wait_until(Duration::from_secs(10), || process_gone(child.pid())));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(7));
    child.kill().unwrap();
    child.signal(libc::SIGTERM).unwrap();
    let child = sleeper(StartMethod::Zygote);
    assert_eq!(child.signal(1000).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn many_threads_get_the_same_status() {
    let _watchdog = watchdog(Duration::from_secs(60));
    for _ in 0..20 {
        let child = Arc::new(sleeper(StartMethod::Zygote));
        let waiters: Vec<_> = (0..8)
            .map(|index| {
                let child = Arc::clone(&child);
                thread::spawn(move || match index % 2 {
                    0 => child.wait().unwrap(),
                    _ => child.wait_timeout(Duration::from_secs(50)).unwrap().unwrap(),
                })
            })
            .collect();
        assert_eq!(child.try_wait().unwrap(), None, "a waiter does not block the others");
        child.kill().unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), KILLED);
        }
    }
}

#[test]
fn the_descriptor_is_readable_when_the_child_has_ended() {
    let child = sleeper(StartMethod::Zygote);
    let ready = |timeout: libc::c_int| {
        let mut entry = libc::pollfd {
            fd: std::os::fd::AsRawFd::as_raw_fd(&child.as_fd()),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry that lives until the call returns.
        unsafe { libc::poll(&raw mut entry, 1, timeout) }
    };
    assert_eq!(ready(0), 0);
    child.kill().unwrap();
    assert_eq!(ready(10_000), 1);
}

#[test]
fn a_dropped_child_is_killed_and_reaped() {
    let _watchdog = watchdog(Duration::from_secs(60));
    sleeper(StartMethod::Zygote).kill().unwrap();
    let leaks = LeakCheck::new();
    for method in METHODS {
        let pids: Vec<u32> = (0..10).map(|_| sleeper(method).pid()).collect();
        for pid in pids {
            // SAFETY: asking for a child that must not exist any more.
            let result = unsafe { libc::waitpid(pid.cast_signed(), std::ptr::null_mut(), libc::WNOHANG) };
            assert_eq!(result, -1, "{pid} is still a child");
        }
        // Dropped between its end and the wait for it.
        let child = Launcher::new().method(method).start(&CODE, &[1], &[]).unwrap();
        assert!(wait_until(Duration::from_secs(10), || process_gone(child.pid())));
    }
    leaks.finish();
}

#[test]
fn a_stopped_child_can_be_killed() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let child = sleeper(StartMethod::Zygote);
    child.signal(libc::SIGSTOP).unwrap();
    assert_eq!(
        child.wait_timeout(Duration::from_millis(20)).unwrap(),
        None,
        "stopped is not ended"
    );
    child.signal(libc::SIGCONT).unwrap();
    assert_eq!(child.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    child.signal(libc::SIGSTOP).unwrap();
    drop(child);
}

#[test]
fn a_status_that_foreign_code_took_is_an_error_and_no_hang() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let child = Launcher::new().start(&CODE, &[1], &[]).unwrap();
    // SAFETY: what some C libraries do; the status is not asked for.
    while unsafe { libc::waitpid(child.pid().cast_signed(), std::ptr::null_mut(), 0) } == -1 {}
    for _ in 0..2 {
        let error = child.wait().unwrap_err();
        assert!(error.to_string().contains("taken by other code"), "{error}");
        assert!(child.try_wait().is_err());
    }
    child.kill().unwrap();
}

static IGNORES_CHILDREN: EntryPoint = EntryPoint::new("ignores-children", |_: Arguments| {
    let child = sleeper(StartMethod::Zygote);
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    child.kill().unwrap();
    let error = child.wait().unwrap_err();
    assert!(error.to_string().contains("SIGCHLD"), "{error}");
    drop(sleeper(StartMethod::Zygote));
    // Even its zygote is nobody's zombie; to find it missing is no trouble for the next start.
    let _ = zygote::shutdown();
    drop(sleeper(StartMethod::Zygote));
    0
});

#[test]
fn ignored_children_are_an_error_and_no_hang() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let child = Launcher::new().start(&IGNORES_CHILDREN, &[], &[]).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}

static HAS_CHILDREN: EntryPoint = EntryPoint::new("has-children", |mut arguments: Arguments| {
    use std::io::Write;
    let children: Vec<Child> = METHODS
        .into_iter()
        .flat_map(|method| [sleeper(method), sleeper(method)])
        .collect();
    let mut pids: Vec<u32> = children.iter().map(Child::pid).collect();
    pids.push(zygote::pid().unwrap());
    let mut pipe = std::fs::File::from(arguments.descriptors.remove(0));
    writeln!(
        pipe,
        "{}",
        pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    )
    .unwrap();
    drop(pipe);
    thread::sleep(Duration::from_secs(1000));
    0
});

#[test]
fn grandchildren_die_with_their_parent() {
    use std::io::{BufRead, BufReader};
    let _watchdog = watchdog(Duration::from_secs(60));
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV] {
        for method in METHODS {
            let (output, of_child) = std::io::pipe().unwrap();
            let child = Launcher::new()
                .method(method)
                .rlimit(offspring_process::Resource::CoreSize, 0, 0)
                .start(&HAS_CHILDREN, &[], &[of_child.as_fd()])
                .unwrap();
            drop(of_child);
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).unwrap();
            let pids: Vec<u32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
            assert_eq!(pids.len(), 5);
            assert!(!pids.iter().any(|&pid| process_gone(pid)));
            child.signal(signal).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(signal));
            for pid in pids {
                assert!(
                    wait_until(Duration::from_secs(10), || process_gone(pid)),
                    "{pid} outlived its parent"
                );
            }
        }
    }
}

#[test]
fn a_child_outlives_the_thread_that_started_it() {
    for method in METHODS {
        let child = thread::spawn(move || sleeper(method)).join().unwrap();
        assert_eq!(child.wait_timeout(Duration::from_millis(100)).unwrap(), None);
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap(), KILLED);
    }
}

static DROPS_EVERYTHING: EntryPoint = EntryPoint::new("drops-everything", |_: Arguments| {
    // SAFETY: the process does nothing afterwards that needs a descriptor.
    unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
    panic!("nobody hears this");
});

#[test]
#[cfg(panic = "unwind")]
fn a_child_without_descriptors_can_still_end() {
    let child = Launcher::new().start(&DROPS_EVERYTHING, &[], &[]).unwrap();
    assert_eq!(
        child.wait().unwrap(),
        ExitStatus::Code(101),
        "its report is lost, its code is not"
    );
}
