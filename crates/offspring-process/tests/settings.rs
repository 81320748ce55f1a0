//! What a launcher changes about its processes, and what it says when the system refuses.
//
// UNSAFETY: a process with one thread changes its environment.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "set_var")]

use std::io;
use std::io::Read;
use std::time::Duration;

use offspring_process::{Arguments, EntryPoint, ExitStatus, Launcher, Resource, StartMethod, zygote};
use offspring_testing::{LeakCheck, watchdog};

const METHODS: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

/// Runs a question in a process and returns what it printed.
fn answer_of(launcher: &mut Launcher, entry: &'static EntryPoint) -> String {
    let (mut output, of_child) = io::pipe().unwrap();
    let child = launcher.stdout(of_child).start(entry, &[], &[]).unwrap();
    // The launcher holds a writing end, too.
    launcher.stdout(offspring_process::Stdio::Null);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
    text
}

static ENVIRONMENT: EntryPoint = EntryPoint::new("environment", |_: Arguments| {
    let mut variables: Vec<_> = std::env::vars().filter(|(key, _)| key.starts_with("TEST_")).collect();
    variables.sort();
    println!("{variables:?} {}", std::env::vars_os().count());
    0
});

#[test]
fn environment_variables() {
    for method in METHODS {
        let mut launcher = Launcher::new();
        launcher
            .method(method)
            .env("TEST_GONE", "x")
            .env_clear()
            .env("TEST_A", "1")
            .env("TEST_B", "2")
            .env_remove("TEST_B");
        assert_eq!(answer_of(&mut launcher, &ENVIRONMENT), "[(\"TEST_A\", \"1\")] 1\n");
    }
    for key in ["", "A=B", "A\0"] {
        let error = Launcher::new().env(key, "1").start(&ENVIRONMENT, &[], &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}

static DIRECTORY: EntryPoint = EntryPoint::new("directory", |_: Arguments| {
    println!("{}", std::env::current_dir().unwrap().display());
    0
});

#[test]
fn current_directory() {
    for method in METHODS {
        assert_eq!(
            answer_of(Launcher::new().method(method).current_dir("/"), &DIRECTORY),
            "/\n"
        );
        let here = format!("{}\n", std::env::current_dir().unwrap().display());
        assert_eq!(answer_of(Launcher::new().method(method), &DIRECTORY), here);
    }
}

static LIMITS: EntryPoint = EntryPoint::new("limits", |_: Arguments| {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    for line in limits
        .lines()
        .filter(|line| line.starts_with("Max core") || line.starts_with("Max open files"))
    {
        println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    println!(
        "nice {}",
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap()
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!(
        "{}",
        status
            .lines()
            .find(|line| line.starts_with("Cpus_allowed_list"))
            .unwrap()
    );
    println!("{}", std::fs::read_to_string("/proc/self/comm").unwrap().trim_end());
    0
});

#[test]
fn limits_nice_value_processors_and_name() {
    for method in METHODS {
        let mut launcher = Launcher::new();
        launcher
            .method(method)
            .name("a-name-that-is-too-long")
            .rlimit(Resource::CoreSize, 0, 1024)
            .rlimit(Resource::OpenFiles, 100, 200)
            .nice(7)
            .cpu_affinity(&[0]);
        assert_eq!(
            answer_of(&mut launcher, &LIMITS),
            "Max core file size 0 1024 bytes\nMax open files 100 200 files\nnice 7\nCpus_allowed_list:\t0\na-name-that-is-\n"
        );
    }
}

static NEVER: EntryPoint = EntryPoint::new("never", |_: Arguments| {
    println!("this runs although a setting failed");
    0
});

#[test]
fn a_refused_setting_is_an_error_that_names_it() {
    let _watchdog = watchdog(Duration::from_secs(60));
    Launcher::new().start(&DIRECTORY, &[], &[]).unwrap().wait().unwrap();
    let leaks = LeakCheck::new();
    for method in METHODS {
        let refused = |change: &dyn Fn(&mut Launcher)| {
            let mut launcher = Launcher::new();
            change(launcher.method(method));
            launcher.start(&NEVER, &[], &[]).unwrap_err()
        };
        let error = refused(&|launcher| _ = launcher.current_dir("/does/not/exist"));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(
            error.to_string().contains("current directory to /does/not/exist"),
            "{error}"
        );
        let source = error
            .get_ref()
            .and_then(|inner| inner.source())
            .unwrap()
            .downcast_ref::<io::Error>()
            .unwrap();
        assert_eq!(source.raw_os_error(), Some(libc::ENOENT));

        let error = refused(&|launcher| _ = launcher.cpu_affinity(&[0, 5000]));
        assert!(error.to_string().contains("processors [0, 5000]"), "{error}");
        // Not even root may have more than the kernel's own maximum.
        let error = refused(&|launcher| _ = launcher.rlimit(Resource::OpenFiles, u64::MAX - 1, u64::MAX - 1));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("OpenFiles"), "{error}");
        for error in [
            refused(&|launcher| _ = launcher.nice(40)),
            refused(&|launcher| _ = launcher.cpu_affinity(&[])),
            refused(&|launcher| _ = launcher.rlimit(Resource::Data, 2, 1)),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
    }
    leaks.finish();
}

static SIGNALS: EntryPoint = EntryPoint::new("signals", |_: Arguments| {
    println!("{:x} {:x}", signals("SigBlk:"), signals("SigIgn:"));
    0
});

/// A set of signals of this process, without the two that the C library keeps for itself (posix_spawn ignores them).
fn signals(set: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & !(3 << 31)
}

#[test]
fn signals_are_as_in_a_fresh_program() {
    let (pipe, interrupt) = (1 << (libc::SIGPIPE - 1), 1 << (libc::SIGINT - 1));
    for method in METHODS {
        for (ignored, extra) in [(false, 0), (true, interrupt)] {
            // What this test's own parent made it ignore stays ignored.
            let expected = format!("0 {:x}\n", signals("SigIgn:") | pipe | extra);
            assert_eq!(
                answer_of(Launcher::new().method(method).ignore_interrupt(ignored), &SIGNALS),
                expected
            );
        }
    }
}

static MOVES: EntryPoint = EntryPoint::new("moves", |_: Arguments| {
    Launcher::new().start(&DIRECTORY, &[], &[]).unwrap().wait().unwrap();
    let zygote = zygote::pid().unwrap();
    let directory = offspring_testing::temp_dir();
    let inner = directory.path().canonicalize().unwrap().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::env::set_current_dir(&inner).unwrap();
    assert_eq!(
        answer_of(&mut Launcher::new(), &DIRECTORY),
        format!("{}\n", inner.display())
    );
    std::fs::remove_dir(&inner).unwrap();
    assert_eq!(answer_of(&mut Launcher::new(), &GONE_DIRECTORY), "gone\n");
    std::env::set_current_dir("/").unwrap();
    assert_eq!(answer_of(&mut Launcher::new(), &DIRECTORY), "/\n");
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("TEST_LATER", "1") };
    assert!(answer_of(&mut Launcher::new(), &ENVIRONMENT).starts_with("[(\"TEST_LATER\", \"1\")]"));
    // SAFETY: as above.
    unsafe { std::env::remove_var("TEST_LATER") };
    assert!(answer_of(&mut Launcher::new(), &ENVIRONMENT).starts_with("[]"));
    assert_eq!(zygote::pid(), Some(zygote), "no new zygote was needed for that");
    0
});

static GONE_DIRECTORY: EntryPoint = EntryPoint::new("gone-directory", |_: Arguments| {
    println!(
        "{}",
        if std::env::current_dir().is_err() {
            "gone"
        } else {
            "there"
        }
    );
    0
});

#[test]
fn what_the_caller_is_now_counts_not_what_it_was_at_the_first_start() {
    let child = Launcher::new().start(&MOVES, &[], &[]).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}
