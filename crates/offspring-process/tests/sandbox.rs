//! Systems that lack what the zygote needs, forbid it, as sandboxes do, or have none left.
//
// UNSAFETY: the tests install a seccomp filter and limit processes by system calls.
#![cfg(all(feature = "start-hook", target_env = "gnu"))]
#![expect(unsafe_code, reason = "seccomp, limits")]

use std::fs::File;
use std::time::Duration;

use offspring_process::{Arguments, Child, EntryPoint, ExitStatus, Launcher, Resource, StartMethod, zygote};
use offspring_testing::{LeakCheck, watchdog};

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// From now on, also in programs that are executed, a system call fails with `errno`; if a first argument is given, only
/// with that.
fn forbid(call: libc::c_long, first_argument: Option<u32>, errno: i32) {
    let refuse = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    let argument = first_argument.unwrap_or(0);
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(EQUAL, call as u32, 0, 3),
        // The low half of the first argument.
        step(LOAD, 16, 0, 0),
        step(EQUAL, argument, 0, if first_argument.is_some() { 1 } else { 0 }),
        step(RETURN, refuse, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program lives until the call returns.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            0
        );
    }
}

static CODE: EntryPoint = EntryPoint::new("code", |arguments: Arguments| i32::from(arguments.payload[0]));

fn starts_work() {
    let leaks = LeakCheck::new();
    for code in 0..5 {
        assert_eq!(
            Launcher::new().start(&CODE, &[code], &[]).unwrap().wait().unwrap(),
            ExitStatus::Code(code.into())
        );
    }
    zygote::shutdown().unwrap();
    leaks.finish();
}

static SANDBOXED: EntryPoint = EntryPoint::new("sandboxed", |arguments: Arguments| {
    match arguments.payload[0] {
        0 => {
            // Docker's old default: the C library falls back to clone, and so does the zygote.
            forbid(libc::SYS_clone3, None, libc::ENOSYS);
            starts_work();
            Launcher::new().start(&CODE, &[0], &[]).unwrap().wait().unwrap();
            assert!(zygote::pid().is_some(), "{}", zygote::describe());
        }
        1 => {
            forbid(
                libc::SYS_prctl,
                Some(libc::PR_GET_TID_ADDRESS.cast_unsigned()),
                libc::EINVAL,
            );
            starts_work();
            assert_eq!(zygote::pid(), None);
            assert!(
                zygote::describe().contains("PR_GET_TID_ADDRESS"),
                "{}",
                zygote::describe()
            );
            assert!(format!("{:?}", Launcher::new()).contains("PR_GET_TID_ADDRESS"));
        }
        2 => {
            forbid(libc::SYS_close_range, None, libc::ENOSYS);
            starts_work();
        }
        _ => {
            forbid(libc::SYS_pidfd_open, None, libc::ENOSYS);
            let error = Launcher::new().start(&CODE, &[0], &[]).unwrap_err();
            assert!(error.to_string().contains("pidfd"), "{error}");
        }
    }
    0
});

#[test]
fn what_a_sandbox_forbids_is_done_otherwise() {
    let _watchdog = watchdog(Duration::from_secs(60));
    for case in 0..4 {
        let child = Launcher::new().start(&SANDBOXED, &[case], &[]).unwrap();
        assert_eq!(child.wait().unwrap(), ExitStatus::Code(0), "case {case}");
    }
}

fn code(code: u8) -> Child {
    Launcher::new().start(&CODE, &[code], &[]).unwrap()
}

static NO_DESCRIPTORS: EntryPoint = EntryPoint::new("no-descriptors", |_: Arguments| {
    for before in [false, true] {
        if before {
            code(0).wait().unwrap();
        }
        let leaks = LeakCheck::new();
        let mut files = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            files.push(file);
        }
        // From none free to enough.
        let mut errors = 0;
        for _ in 0..20 {
            for method in [StartMethod::Zygote, StartMethod::Spawn] {
                match Launcher::new().method(method).start(&CODE, &[1], &[]) {
                    Ok(child) => assert_eq!(child.wait().unwrap(), ExitStatus::Code(1)),
                    Err(error) => {
                        assert!(error.to_string().contains("Too many open files"), "{error}");
                        errors += 1;
                    }
                }
            }
            files.pop();
        }
        assert!(errors > 2, "{errors} errors");
        assert_eq!(code(1).wait().unwrap(), ExitStatus::Code(1));
        drop(files);
        if !before {
            zygote::shutdown().unwrap();
        }
        leaks.finish();
    }
    0
});

#[test]
fn without_free_descriptors_it_is_an_error() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let child = Launcher::new()
        .rlimit(Resource::OpenFiles, 40, 40)
        .start(&NO_DESCRIPTORS, &[], &[])
        .unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}

static NO_PROCESSES: EntryPoint = EntryPoint::new("no-processes", |_: Arguments| {
    // The limit counts a user's processes, and does not bind root.
    // SAFETY: no pointers.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!(libc::setresgid(54_321, 54_321, 54_321), 0);
            assert_eq!(libc::setresuid(54_321, 54_321, 54_321), 0);
        }
    }
    let limit = |count| {
        let limit = libc::rlimit {
            rlim_cur: count,
            rlim_max: 1000,
        };
        // SAFETY: the limits live until the call returns.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) }, 0);
    };
    limit(1);
    let error = Launcher::new().start(&CODE, &[1], &[]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    limit(1000);
    code(0).wait().unwrap();
    let zygote = zygote::pid().unwrap();
    let few = libc::rlimit {
        rlim_cur: 1,
        rlim_max: 1000,
    };
    // SAFETY: the limits live until the call returns; the old ones are not asked for.
    let result = unsafe {
        libc::prlimit(
            zygote.cast_signed(),
            libc::RLIMIT_NPROC,
            &raw const few,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(result, 0);
    let error = Launcher::new().start(&CODE, &[1], &[]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
    assert!(error.to_string().contains("cannot start a process"), "{error}");
    assert_eq!(zygote::pid(), Some(zygote));
    0
});

#[test]
fn without_free_processes_it_is_an_error() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let child = Launcher::new().start(&NO_PROCESSES, &[], &[]).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}
