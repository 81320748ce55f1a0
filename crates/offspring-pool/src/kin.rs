// UNSAFETY: gives back what processes owned that are known to be gone.
#![expect(unsafe_code, reason = "releases the tags of processes that have ended")]

use std::fs;
use std::time::{Duration, Instant};

use offspring_process::Pidfd;
use offspring_shm::{Owner, family};

/// How long the death of an orphan is waited for: its parent's death is a SIGKILL for it, which the kernel delivers at
/// once. One that takes longer hangs in the kernel, and keeps its tag and its memory.
const ORPHAN: Duration = Duration::from_secs(10);

/// Gives back all that a process of the family owned which has ended, and what its children owned, who end with it.
///
/// The process must have been reaped, or never started.
pub(crate) fn release(owner: Owner) {
    for child in family::children_of(owner) {
        if is_gone(child) {
            release(child);
        }
    }
    // SAFETY: the process has ended: the callers have reaped it, or `is_gone` has seen the end of it. It was handed
    // nothing since, for only its parent knew its tag.
    if let Err(error) = unsafe { family::release(owner) } {
        eprintln!("offspring: what {owner} owned is not given back: {error}");
    }
}

/// Waits until an orphan has ended; false if it does not.
fn is_gone(orphan: Owner) -> bool {
    let Some((pid, since)) = family::arena().ok().and_then(|arena| arena.process_of(orphan)) else {
        // It never joined, and now that its tag goes it cannot any more.
        return true;
    };
    let Ok(pidfd) = Pidfd::open(pid) else { return true };
    // Only now is it certain whose pid this is: one that started after the orphan had joined is somebody else's.
    match started(pid) {
        Some(started) if started <= since => pidfd.wait_exit(Some(Instant::now() + ORPHAN)).unwrap_or(false),
        _ => true,
    }
}

/// When a process started, since boot; `None` if it is gone.
fn started(pid: u32) -> Option<Duration> {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the 20th field behind it is the start time in clock ticks, which
    // the kernel gives to user space at 100 a second on every architecture that this library runs on.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}
