//! The harness with one thread runs what is asked for and reports what failed.

use std::process::{Command, ExitCode, Output};

use offspring_testing::{run_single_threaded, test_name};

const INNER: &str = "--inner";

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == INNER) {
        return run_single_threaded(&[("fails", fails), ("passes", passes)]);
    }
    run_single_threaded(&[
        ("runs_on_the_only_thread", runs_on_the_only_thread),
        ("a_failure_fails_the_binary", a_failure_fails_the_binary),
        ("a_filter_leaves_the_failure_out", a_filter_leaves_the_failure_out),
        ("lists_for_nextest", lists_for_nextest),
    ])
}

fn passes() {
    assert_eq!(test_name(), "passes");
}

fn fails() {
    panic!("on purpose, in {}", test_name());
}

fn inner(arguments: &[&str]) -> Output {
    let program = std::env::current_exe().expect("this program has a path");
    Command::new(program)
        .arg(INNER)
        .args(arguments)
        .output()
        .expect("this program starts")
}

fn runs_on_the_only_thread() {
    let threads = std::fs::read_dir("/proc/self/task")
        .expect("the threads can be listed")
        .count();
    assert_eq!(threads, 1);
}

fn a_failure_fails_the_binary() {
    let output = inner(&[]);
    let words = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(101), "{words}");
    assert!(words.contains("test fails ... FAILED: on purpose, in fails"), "{words}");
    assert!(words.contains("test passes ... ok"), "{words}");
    assert!(words.contains("test result: FAILED. 1 passed; 1 failed"), "{words}");
}

fn a_filter_leaves_the_failure_out() {
    let output = inner(&["--exact", "passes", "--nocapture"]);
    let words = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(
        words.contains("1 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out"),
        "{words}"
    );
}

fn lists_for_nextest() {
    assert_eq!(
        inner(&["--list", "--format", "terse"]).stdout,
        b"fails: test\npasses: test\n"
    );
    assert_eq!(inner(&["--list", "--format", "terse", "--ignored"]).stdout, b"");
}
