//! The program's file after the program was started: deleted, replaced, out of sight; and programs without /proc.
//
// UNSAFETY: the tests forge mounts.
#![expect(unsafe_code, reason = "unshare and mount")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use offspring_process::{Arguments, EntryPoint, ExitStatus, Launcher, StartMethod, zygote};
use offspring_testing::{TempDir, run_single_threaded, temp_dir, watchdog};

const METHODS: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

fn main() -> ExitCode {
    offspring_process::init();
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(role) = arguments.get(1).and_then(|argument| argument.strip_prefix("role:")) {
        run_role(role, &arguments[2..]);
        println!("role played");
        return ExitCode::SUCCESS;
    }
    run_single_threaded(&[
        ("a_deleted_program", a_deleted_program),
        ("a_replaced_program", a_replaced_program),
        ("a_program_without_proc", a_program_without_proc),
        ("a_moved_program_without_proc", a_moved_program_without_proc),
        ("a_token_without_a_socket", a_token_without_a_socket),
        ("a_program_under_another_name", a_program_under_another_name),
    ])
}

static CODE: EntryPoint = EntryPoint::new("code", |arguments: Arguments| i32::from(arguments.payload[0]));

fn start(method: StartMethod) -> io::Result<ExitStatus> {
    Launcher::new().method(method).start(&CODE, &[42], &[])?.wait()
}

/// Runs in a copy of this program.
fn run_role(role: &str, arguments: &[String]) {
    let _watchdog = watchdog(Duration::from_secs(60));
    let own = std::env::current_exe().unwrap();
    match role {
        "deleted" => {
            fs::remove_file(own).unwrap();
            starts_work();
        }
        "replaced" => {
            replace(&own);
            starts_work();
        }
        "without-proc" => {
            hide_proc();
            assert!(own.exists());
            starts_work();
            let error = Launcher::new().fork(|| 0).unwrap_err();
            assert!(error.to_string().contains("cannot count the threads"), "{error}");
        }
        "moved-without-proc" => {
            hide_proc();
            fs::remove_file(&own).unwrap();
            for method in METHODS {
                let error = start(method).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::NotFound);
                assert!(error.to_string().contains("without /proc"), "{error}");
            }
            replace(&own);
            for method in METHODS {
                let error = start(method).unwrap_err();
                assert!(error.to_string().contains("replaced by another program"), "{error}");
            }
        }
        "arguments" => {
            assert_eq!(arguments, ["one", "", "three words here"]);
            starts_work();
        }
        _ => panic!("unknown role {role}"),
    }
}

fn starts_work() {
    for method in METHODS {
        assert_eq!(start(method).unwrap(), ExitStatus::Code(42), "{method:?}");
    }
    assert!(zygote::pid().is_some() || !cfg!(target_env = "gnu"));
}

/// Puts another program, one that would print something, in the place of this one.
fn replace(path: &Path) {
    let new = path.with_extension("new");
    fs::write(&new, "#!/bin/sh\necho the other program ran\n").unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, path).unwrap();
}

/// Hides /proc from this process: as root, or in a user namespace, where an unprivileged process is root.
fn hide_proc() {
    // SAFETY: this process has one thread; the strings are C strings.
    unsafe {
        let flags = if libc::geteuid() == 0 {
            libc::CLONE_NEWNS
        } else {
            libc::CLONE_NEWUSER | libc::CLONE_NEWNS
        };
        assert_eq!(libc::unshare(flags), 0, "{}", io::Error::last_os_error());
        let none = std::ptr::null();
        let private = libc::MS_REC | libc::MS_PRIVATE;
        assert_eq!(
            libc::mount(none, c"/".as_ptr(), none, private, none.cast()),
            0,
            "{}",
            io::Error::last_os_error()
        );
        let tmpfs = c"tmpfs".as_ptr();
        assert_eq!(
            libc::mount(tmpfs, c"/proc".as_ptr(), tmpfs, 0, none.cast()),
            0,
            "{}",
            io::Error::last_os_error()
        );
    }
    assert!(fs::read_link("/proc/self/exe").is_err());
}

/// A copy of this program in a directory of its own.
fn copy() -> (TempDir, PathBuf) {
    let directory = temp_dir();
    let path = directory.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    (directory, path)
}

fn play(role: &str, arguments: &[&str]) {
    let (_directory, path) = copy();
    let output = Command::new(path)
        .arg(format!("role:{role}"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "role played\n",
        "nothing else ran"
    );
}

fn a_deleted_program() {
    play("deleted", &[]);
}

fn a_replaced_program() {
    play("replaced", &[]);
}

fn a_program_without_proc() {
    play("without-proc", &[]);
}

fn a_moved_program_without_proc() {
    play("moved-without-proc", &[]);
}

fn a_program_under_another_name() {
    play("arguments", &["one", "", "three words here"]);
}

/// What a user might have in the environment by accident ends with words, not in `main` and not in a hang.
fn a_token_without_a_socket() {
    for token in ["zygote", "process", "nonsense"] {
        let output = Command::new(std::env::current_exe().unwrap())
            .arg("role:arguments")
            .env("OFFSPRING_START_0_1", token)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(70), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("OFFSPRING_START_0_1"), "{text}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}
