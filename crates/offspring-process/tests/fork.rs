//! Forks of a process with one thread, which a test under libtest never is.
//
// UNSAFETY: the tests fork, behind the crate's back as well.
#![expect(unsafe_code, reason = "fork")]

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use offspring_process::{Arguments, Child, EntryPoint, ExitStatus, Forked, Launcher, Resource, Stdio, fork, zygote};
use offspring_testing::{LeakCheck, process_gone, run_single_threaded, wait_until, watchdog};

fn main() -> ExitCode {
    offspring_process::init();
    run_single_threaded(&[
        ("closures_capture", closures_capture),
        ("panics_are_reported", panics_are_reported),
        ("settings_apply", settings_apply),
        ("a_refused_setting_is_an_error", a_refused_setting_is_an_error),
        ("output_is_not_written_twice", output_is_not_written_twice),
        ("threads_are_refused", threads_are_refused),
        ("a_joined_thread_is_no_thread", a_joined_thread_is_no_thread),
        ("the_child_becomes_another_program", the_child_becomes_another_program),
        ("forks_die_with_their_parent", forks_die_with_their_parent),
        ("a_foreign_fork_keeps_nobody_alive", a_foreign_fork_keeps_nobody_alive),
        ("inherited_handles_do_no_harm", inherited_handles_do_no_harm),
        ("a_forked_copy_has_its_own_zygote", a_forked_copy_has_its_own_zygote),
        (
            "without_free_descriptors_it_is_an_error",
            without_free_descriptors_it_is_an_error,
        ),
        (
            "without_free_processes_it_is_an_error",
            without_free_processes_it_is_an_error,
        ),
    ])
}

static SLEEP: EntryPoint = EntryPoint::new("sleep", |_: Arguments| {
    thread::sleep(Duration::from_secs(1000));
    0
});

static CODE: EntryPoint = EntryPoint::new("code", |arguments: Arguments| i32::from(arguments.payload[0]));

fn sleep() -> i32 {
    thread::sleep(Duration::from_secs(1000));
    0
}

fn forked(run: impl FnOnce() -> i32) -> Child {
    Launcher::new().fork(run).unwrap()
}

fn closures_capture() {
    let leaks = LeakCheck::new();
    let numbers = Vec::from([1, 2, 3]);
    let not_send = Cell::new(4);
    let status = forked(|| numbers.iter().sum::<i32>() + not_send.get()).wait();
    assert_eq!(status.unwrap(), ExitStatus::Code(10));
    // SAFETY: the child only exits.
    match unsafe { fork() }.unwrap() {
        Forked::Child => std::process::exit(9),
        Forked::Parent(child) => assert_eq!(child.wait().unwrap(), ExitStatus::Code(9)),
    }
    drop(forked(sleep));
    leaks.finish();
}

fn panics_are_reported() {
    let status = Launcher::new()
        .stderr(Stdio::Null)
        .fork(|| panic!("in a fork"))
        .unwrap()
        .wait()
        .unwrap();
    if cfg!(panic = "unwind") {
        let panic = status.panic().unwrap();
        assert_eq!(panic.message(), "in a fork");
        assert!(panic.location().contains("fork.rs:"));
    } else {
        assert_eq!(status.signal(), Some(libc::SIGABRT));
    }
    assert_eq!(forked(|| 101).wait().unwrap(), ExitStatus::Code(101));
    let status = Launcher::new()
        .rlimit(Resource::CoreSize, 0, 0)
        .stderr(Stdio::Null)
        .fork(|| {
            fn recurse(depth: u64) -> u64 {
                let block = std::hint::black_box([depth; 512]);
                if depth == 0 { 0 } else { recurse(depth - 1) + block[3] }
            }
            recurse(u64::MAX) as i32
        })
        .unwrap()
        .wait()
        .unwrap();
    assert!(
        matches!(status.signal(), Some(libc::SIGSEGV | libc::SIGABRT)),
        "{status}"
    );
}

fn settings_apply() {
    let (mut output, of_child) = std::io::pipe().unwrap();
    let child = Launcher::new()
        .name("a-name")
        .env("FORK_TEST", "set")
        .current_dir("/")
        .nice(3)
        .stdout(of_child)
        .fork(|| {
            println!("{}", std::env::var("FORK_TEST").unwrap());
            println!("{}", std::env::current_dir().unwrap().display());
            println!("{}", std::fs::read_to_string("/proc/self/comm").unwrap().trim_end());
            std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).unwrap() as i32
        })
        .unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0), "standard input is empty");
    let mut text = [0; 13];
    output.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"set\n/\na-name\n");
    assert_eq!(std::env::var_os("FORK_TEST"), None);
}

fn a_refused_setting_is_an_error() {
    let leaks = LeakCheck::new();
    let error = Launcher::new().current_dir("/does/not/exist").fork(|| 0).unwrap_err();
    assert!(error.to_string().contains("/does/not/exist"), "{error}");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    leaks.finish();
}

fn output_is_not_written_twice() {
    let (mut output, of_child) = std::io::pipe().unwrap();
    let outer = Launcher::new()
        .stdout(of_child)
        .fork(|| {
            print!("once");
            let inner = forked(|| {
                print!("more");
                0
            });
            inner.wait().unwrap().code().unwrap()
        })
        .unwrap();
    assert_eq!(outer.wait().unwrap(), ExitStatus::Code(0));
    let mut text = [0; 8];
    output.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"oncemore");
}

fn threads_are_refused() {
    thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        for _ in 0..2 {
            let _ = scope.spawn(|| thread::sleep(Duration::from_millis(200)));
        }
        let error = Launcher::new().fork(|| 0).unwrap_err();
        assert!(error.to_string().contains("3 threads"), "{error}");
        drop((sender, receiver));
    });
}

fn a_joined_thread_is_no_thread() {
    for _ in 0..200 {
        thread::spawn(|| ()).join().unwrap();
        assert_eq!(forked(|| 1).wait().unwrap(), ExitStatus::Code(1));
    }
}

fn the_child_becomes_another_program() {
    let child = forked(|| {
        let error = Command::new("sh").args(["-c", "exit 6"]).exec();
        eprintln!("{error}");
        127
    });
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(6));
    let child = forked(|| {
        let error = Command::new("sleep").arg("1000").exec();
        eprintln!("{error}");
        127
    });
    assert_eq!(child.wait_timeout(Duration::from_millis(50)).unwrap(), None);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

/// Starts a fork that starts `inner` and tells the pids that `inner` returns, and kills it. Returns the pids.
fn pids_of_a_killed(inner: impl FnOnce() -> Vec<u32>) -> Vec<u32> {
    let (mut output, of_child) = std::io::pipe().unwrap();
    let parent = forked(|| {
        let pids = inner();
        for pid in &pids {
            (&of_child).write_all(&pid.to_le_bytes()).unwrap();
        }
        (&of_child).write_all(&0_u32.to_le_bytes()).unwrap();
        sleep()
    });
    let mut pids = Vec::new();
    loop {
        let mut pid = [0; 4];
        output.read_exact(&mut pid).unwrap();
        match u32::from_le_bytes(pid) {
            0 => break,
            pid => pids.push(pid),
        }
    }
    assert!(!pids.is_empty() && !pids.iter().any(|&pid| process_gone(pid)));
    parent.kill().unwrap();
    assert_eq!(parent.wait().unwrap().signal(), Some(libc::SIGKILL));
    pids
}

fn forks_die_with_their_parent() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let pids = pids_of_a_killed(|| {
        let children: Vec<Child> = (0..5).map(|_| forked(sleep)).collect();
        let pids = children.iter().map(Child::pid).collect();
        std::mem::forget(children);
        pids
    });
    for pid in pids {
        assert!(
            wait_until(Duration::from_secs(10), || process_gone(pid)),
            "{pid} outlived its parent"
        );
    }
}

/// A fork that this crate knows nothing of has copies of all descriptors of its parent, and must not thereby keep the
/// parent's children or its zygote alive.
fn a_foreign_fork_keeps_nobody_alive() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let mut pids = pids_of_a_killed(|| {
        let children = [Launcher::new().start(&SLEEP, &[], &[]).unwrap(), forked(sleep)];
        let mut pids: Vec<u32> = children.iter().map(Child::pid).collect();
        pids.push(zygote::pid().unwrap());
        // SAFETY: the child only sleeps.
        let foreign = unsafe { libc::fork() };
        if foreign == 0 {
            sleep();
        }
        pids.push(foreign.cast_unsigned());
        std::mem::forget(children);
        pids
    });
    let foreign = pids.pop().unwrap();
    for pid in pids {
        assert!(
            wait_until(Duration::from_secs(10), || process_gone(pid)),
            "{pid} outlived its parent"
        );
    }
    assert!(!process_gone(foreign));
    // SAFETY: no pointers; the process sleeps for long, so the pid is still its.
    unsafe { libc::kill(foreign.cast_signed(), libc::SIGKILL) };
    assert!(wait_until(Duration::from_secs(10), || process_gone(foreign)));
}

fn inherited_handles_do_no_harm() {
    let child = Launcher::new().start(&SLEEP, &[], &[]).unwrap();
    // SAFETY: this process has one thread.
    match unsafe { fork() }.unwrap() {
        Forked::Child => {
            let errors = [
                child.try_wait().unwrap_err(),
                child.wait().unwrap_err(),
                child.wait_timeout(Duration::from_secs(1000)).unwrap_err(),
            ];
            drop(child);
            std::process::exit(i32::from(
                !errors.iter().all(|error| error.to_string().contains("forked copy")),
            ));
        }
        Forked::Parent(copy) => assert_eq!(copy.wait().unwrap(), ExitStatus::Code(0)),
    }
    assert_eq!(child.try_wait().unwrap(), None, "dropped by a copy it lives on");
}

fn a_forked_copy_has_its_own_zygote() {
    let leaks = LeakCheck::new();
    assert_eq!(
        Launcher::new().start(&CODE, &[1], &[]).unwrap().wait().unwrap(),
        ExitStatus::Code(1)
    );
    let ours = zygote::pid().unwrap();
    let status_of_copy = forked(|| {
        assert_eq!(zygote::pid(), None);
        let code = Launcher::new()
            .start(&CODE, &[2], &[])
            .unwrap()
            .wait()
            .unwrap()
            .code()
            .unwrap();
        assert_ne!(zygote::pid(), Some(ours));
        code
    })
    .wait();
    assert_eq!(status_of_copy.unwrap(), ExitStatus::Code(2));
    assert_eq!(zygote::pid(), Some(ours));
    assert_eq!(
        Launcher::new().start(&CODE, &[3], &[]).unwrap().wait().unwrap(),
        ExitStatus::Code(3)
    );
    assert_eq!(zygote::pid(), Some(ours));
    zygote::shutdown().unwrap();
    leaks.finish();
}

fn without_free_descriptors_it_is_an_error() {
    let child = Launcher::new().rlimit(Resource::OpenFiles, 40, 40).fork(|| {
        let leaks = LeakCheck::new();
        let mut files = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
        let mut errors = 0;
        for _ in 0..10 {
            match Launcher::new().fork(|| 1) {
                Ok(child) => assert_eq!(child.wait().unwrap(), ExitStatus::Code(1)),
                Err(error) => {
                    assert!(error.to_string().contains("Too many open files"), "{error}");
                    errors += 1;
                }
            }
            files.pop();
        }
        assert!((2..10).contains(&errors), "{errors} errors");
        drop(files);
        leaks.finish();
        0
    });
    assert_eq!(child.unwrap().wait().unwrap(), ExitStatus::Code(0));
}

fn without_free_processes_it_is_an_error() {
    let child = forked(|| {
        let few = libc::rlimit {
            rlim_cur: 1,
            rlim_max: 1,
        };
        // SAFETY: the limits live until the call returns. The limit counts a user's processes, and does not bind root.
        unsafe {
            assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const few), 0);
            if libc::geteuid() == 0 {
                assert_eq!(libc::setresuid(54_322, 54_322, 54_322), 0);
            }
        }
        let error = Launcher::new().fork(|| 1).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
        assert!(error.to_string().contains("cannot fork"), "{error}");
        0
    });
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}
