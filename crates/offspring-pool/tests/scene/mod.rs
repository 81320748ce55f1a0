//! What stands around every test here: nothing may be left behind, nothing may hang, and a test that needs a process
//! of its own gets one.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::env;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use offspring_process::zygote;
use offspring_shm::family;
use offspring_testing::{LeakCheck, Watchdog, process_gone, wait_until, watchdog};

/// Longer than anything here takes on a busy machine; what takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(100);

const ALONE: &str = "OFFSPRING_TEST_ALONE";

/// Checks, when it is dropped, that nothing is left: no process, descriptor, name or mapping, no block of the arena.
#[must_use = "the check compares when it is dropped"]
pub(crate) struct Scene {
    blocks: usize,
    leaks: Option<LeakCheck>,
    _watchdog: Watchdog,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::lasting(LIMIT)
    }

    /// For a test that takes longer than others.
    pub(crate) fn lasting(limit: Duration) -> Self {
        let watchdog = watchdog(limit);
        // The arena is made once for the life of the process. The hook for panics is, too.
        family::arena().expect("the arena can be made");
        let leaks = LeakCheck::new();
        Self {
            blocks: blocks(),
            leaks: Some(leaks),
            _watchdog: watchdog,
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        zygote::shutdown().expect("the zygote can be ended");
        assert!(
            wait_until(Duration::from_secs(5), || blocks() <= self.blocks),
            "left in the arena: {}",
            census()
        );
        self.leaks.take();
    }
}

/// The blocks of the arena that are in use, leaving out those that processes keep for their next allocation.
fn blocks() -> usize {
    let arena = family::arena().expect("the arena is there");
    arena.flush();
    let census = arena.census();
    census.blocks + census.orphans + census.garbage
}

pub(crate) fn census() -> String {
    let arena = family::arena().expect("the arena is there");
    arena.flush();
    format!("{:?}", arena.census())
}

/// Runs the rest of a test in a process of its own, a copy of this test binary that runs this test alone, and checks
/// that it succeeds. For what cannot be undone: resource limits, another user, a small arena.
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return body();
    }
    let _watchdog = watchdog(LIMIT);
    let output = program(test, "alone")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let output = output
        .and_then(Child::wait_with_output)
        .expect("the test binary can be run again");
    assert_success(&output);
}

/// What [`program`] told this process to be, if it is such a copy.
pub(crate) fn role() -> Option<String> {
    env::var(ALONE).ok()
}

/// A copy of this test binary that runs one test, which asks for its [`role`].
pub(crate) fn program(test: &str, role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("a test knows its binary"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, role)
        .stdin(Stdio::null());
    command
}

pub(crate) fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Waits until a process has ended.
#[track_caller]
pub(crate) fn assert_gone(pid: u32) {
    assert!(
        wait_until(Duration::from_secs(20), || process_gone(pid)),
        "process {pid} is still there"
    );
}

/// Waits until a condition is met, for as long as a busy machine may need.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(wait_until(Duration::from_secs(30), condition), "not in time: {what}");
}

/// All processes below one: its children, and theirs.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .expect("/proc can be listed")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, parent_of(pid)?)))
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// The children of this process, zombies included.
pub(crate) fn children() -> Vec<u32> {
    let me = std::process::id();
    descendants(me)
        .into_iter()
        .filter(|&pid| parent_of(pid) == Some(me))
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
