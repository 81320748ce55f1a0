//! Every way in which a process can end, as its parent sees it.
//
// UNSAFETY: the tests do to processes what C code does.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "exit(3) and raise(3)")]

use offspring_process::{Arguments, EntryPoint, ExitStatus, Launcher, StartMethod, Stdio};

const METHODS: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

fn status_of(method: StartMethod, entry: &'static EntryPoint, payload: &[u8]) -> ExitStatus {
    Launcher::new()
        .method(method)
        .stderr(Stdio::Null)
        .rlimit_core_off()
        .start(entry, payload, &[])
        .unwrap()
        .wait()
        .unwrap()
}

trait NoCore {
    fn rlimit_core_off(&mut self) -> &mut Self;
}

impl NoCore for Launcher {
    /// A core dump of a test is of no use to anyone.
    fn rlimit_core_off(&mut self) -> &mut Self {
        self.rlimit(offspring_process::Resource::CoreSize, 0, 0)
    }
}

static RETURN: EntryPoint = EntryPoint::new("return", |arguments: Arguments| i32::from(arguments.payload[0]));
static EXIT: EntryPoint = EntryPoint::new("exit", |arguments: Arguments| {
    // SAFETY: ends the process as C code would.
    unsafe { libc::exit(i32::from(arguments.payload[0])) }
});

#[test]
fn codes() {
    for method in METHODS {
        for code in [0, 1, 3, 100, 101, 255] {
            assert_eq!(status_of(method, &RETURN, &[code]), ExitStatus::Code(code.into()));
            assert_eq!(status_of(method, &EXIT, &[code]), ExitStatus::Code(code.into()));
        }
    }
}

static RAISE: EntryPoint = EntryPoint::new("raise", |arguments: Arguments| {
    // SAFETY: no pointers.
    unsafe { libc::raise(i32::from(arguments.payload[0])) };
    0
});

#[test]
fn signals() {
    for method in METHODS {
        for signal in [
            libc::SIGTERM,
            libc::SIGKILL,
            libc::SIGINT,
            libc::SIGQUIT,
            libc::SIGSEGV,
            libc::SIGRTMIN() + 3,
        ] {
            let status = status_of(method, &RAISE, &[signal as u8]);
            assert_eq!(
                status,
                ExitStatus::Signal {
                    signal,
                    core_dumped: false
                }
            );
        }
        // As in every Rust program.
        assert_eq!(status_of(method, &RAISE, &[libc::SIGPIPE as u8]), ExitStatus::Code(0));
    }
}

static ABORT: EntryPoint = EntryPoint::new("abort", |_: Arguments| std::process::abort());

#[test]
fn aborts() {
    for method in METHODS {
        assert_eq!(status_of(method, &ABORT, &[]).signal(), Some(libc::SIGABRT));
    }
}

static PANIC: EntryPoint = EntryPoint::new("panic", |arguments: Arguments| {
    panic!("{}", String::from_utf8(arguments.payload).unwrap())
});

#[test]
#[cfg(panic = "unwind")]
fn panics() {
    for method in METHODS {
        for length in [4, 10_000, 300_000] {
            let text = "text".repeat(length / 4);
            let status = status_of(method, &PANIC, text.as_bytes());
            let panic = status.panic().unwrap_or_else(|| panic!("{status}"));
            assert!(panic.message().starts_with(&text[..text.len().min(16 * 1024)]));
            assert!(panic.location().contains("exit_status.rs:"), "{}", panic.location());
            assert_eq!(status.code(), Some(101));
        }
    }
}

static OVERFLOW: EntryPoint = EntryPoint::new("overflow", |arguments: Arguments| {
    fn recurse(depth: u64) -> u64 {
        let block = std::hint::black_box([depth; 512]);
        if depth == 0 { 0 } else { recurse(depth - 1) + block[3] }
    }
    if arguments.payload[0] == 0 {
        recurse(u64::MAX) as i32
    } else {
        std::thread::spawn(|| recurse(u64::MAX)).join().unwrap() as i32
    }
});

#[test]
fn stack_overflows() {
    for method in METHODS {
        for on_thread in [0, 1] {
            let signal = status_of(method, &OVERFLOW, &[on_thread]).signal();
            assert!(matches!(signal, Some(libc::SIGSEGV | libc::SIGABRT)), "{signal:?}");
        }
    }
}

#[test]
fn in_words() {
    assert_eq!(ExitStatus::Code(3).to_string(), "exited with code 3");
    let dumped = ExitStatus::Signal {
        signal: libc::SIGSEGV,
        core_dumped: true,
    };
    assert_eq!(dumped.to_string(), "killed by SIGSEGV (core dumped)");
    assert_eq!(
        ExitStatus::Signal {
            signal: 40,
            core_dumped: false
        }
        .to_string(),
        "killed by signal 40"
    );
    #[cfg(panic = "unwind")]
    {
        let status = status_of(StartMethod::Zygote, &PANIC, b"boom");
        assert!(
            status.to_string().starts_with("panicked at ") && status.to_string().ends_with(": boom"),
            "{status}"
        );
    }
}
