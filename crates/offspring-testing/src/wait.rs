//! Waiting for a condition that another process brings about.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Asks `condition` again and again until it is true or `limit` has passed; says whether it became true.
///
/// The pauses grow from 50 microseconds to 10 milliseconds, so that a condition that is met at once is seen at once and a long wait
/// takes no processor time from the processes it waits for.
///
/// ```
/// use std::time::{Duration, Instant};
/// use offspring_testing::wait_until;
///
/// let soon = Instant::now() + Duration::from_millis(2);
/// assert!(wait_until(Duration::from_secs(10), || Instant::now() > soon));
/// assert!(!wait_until(Duration::from_millis(1), || false));
/// ```
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_micros(50);
    loop {
        if condition() {
            return true;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Says whether no process with this number runs any more.
///
/// A zombie counts as gone: it runs nothing, and when its parent died with it, who reaps it is up to the machine's
/// init. Whether *this* process left a zombie is what [`LeakCheck`](crate::LeakCheck) asks.
pub fn process_gone(pid: u32) -> bool {
    matches!(state_of(pid), None | Some('Z' | 'X'))
}

/// The state letter of `/proc/PID/stat`, `None` when there is no such process.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself contain any character; the state follows the last one.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_gone_when_it_was_killed_but_not_before() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat starts");
        assert!(!process_gone(child.id()));
        child.kill().expect("the child is ours");
        assert!(
            wait_until(Duration::from_secs(10), || process_gone(child.id())),
            "the zombie counts as gone"
        );
        child.wait().expect("the child is ours");
        assert!(process_gone(child.id()));
    }

    #[test]
    fn waiting_ends_at_the_limit() {
        let start = Instant::now();
        assert!(!wait_until(Duration::from_millis(30), || false));
        assert!(start.elapsed() >= Duration::from_millis(30));
    }
}
