//! A hung test is aborted and named, and a watchdog that was dropped stays silent.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use offspring_testing::{run_single_threaded, watchdog};

const HANG: &str = "--hang-for-the-test";

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == HANG) {
        return run_single_threaded(&[("sleeps_for_ever", sleeps_for_ever)]);
    }
    run_single_threaded(&[
        ("a_hung_test_is_aborted_and_named", a_hung_test_is_aborted_and_named),
        ("a_dropped_watchdog_stays_silent", a_dropped_watchdog_stays_silent),
        ("a_watchdog_starts_no_thread", a_watchdog_starts_no_thread),
    ])
}

fn sleeps_for_ever() {
    let _watchdog = watchdog(Duration::from_millis(50));
    sleep(Duration::from_secs(60));
}

fn a_hung_test_is_aborted_and_named() {
    let start = Instant::now();
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program).arg(HANG).output().expect("this program starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{words}");
    assert!(
        words.contains("the test sleeps_for_ever still runs after 50ms"),
        "{words}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "it did not wait for the sleep to end"
    );
}

fn a_dropped_watchdog_stays_silent() {
    for _ in 0..200 {
        drop(watchdog(Duration::from_micros(200)));
    }
    let watchdog = watchdog(Duration::from_millis(10));
    drop(watchdog);
    sleep(Duration::from_millis(30));
}

fn a_watchdog_starts_no_thread() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let threads = std::fs::read_dir("/proc/self/task")
        .expect("the threads can be listed")
        .count();
    assert_eq!(threads, 1);
}
