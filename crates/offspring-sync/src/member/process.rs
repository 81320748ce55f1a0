//! What /proc knows: the slower answer to "who is dead".

use std::fs;
use std::os::unix::fs::MetadataExt;

/// The inode of this process's PID namespace; 0 where /proc does not tell.
pub(crate) fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino())
}

/// When a thread started, in ticks since boot; with its id, a name that no other thread ever has.
pub(crate) fn start_time(pid: u32, tid: u32) -> Start {
    let stat = match fs::read(format!("/proc/{pid}/task/{tid}/stat")) {
        Ok(stat) => stat,
        // ESRCH: it ended between open and read.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {
            return if fs::exists("/proc/self/stat").unwrap_or(false) {
                Start::Gone
            } else {
                Start::Unknown
            };
        }
        Err(_) => return Start::Unknown,
    };
    parse_stat(&stat).unwrap_or(Start::Unknown)
}

/// The answer of [`start_time`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The thread runs, since then.
    At(u64),
    /// There is no such thread, or only its zombie.
    Gone,
    /// /proc is not there or does not say.
    Unknown,
}

fn parse_stat(stat: &[u8]) -> Option<Start> {
    // The name, in parentheses, may hold anything, parentheses too: what follows the last one is fixed (proc_pid_stat(5)).
    let close = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(close + 1..)?)
        .ok()?
        .split_ascii_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some(if matches!(state, "Z" | "X" | "x") {
        Start::Gone
    } else {
        Start::At(start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_start_time_is_known_and_stable() {
        let pid = std::process::id();
        let Start::At(start) = start_time(pid, pid) else {
            panic!("no start time")
        };
        assert!(start > 0);
        assert_eq!(start_time(pid, pid), Start::At(start));
    }

    #[test]
    fn a_thread_that_never_was_is_gone() {
        assert_eq!(start_time(std::process::id(), 0x3fff_fff0), Start::Gone);
    }

    #[test]
    fn names_with_parentheses_do_not_fool_it() {
        let tail = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(
            parse_stat(format!("7 (a) S) Z (x) R {tail}").as_bytes()),
            Some(Start::At(4242))
        );
        assert_eq!(parse_stat(format!("7 (a) Z {tail}").as_bytes()), Some(Start::Gone));
        assert_eq!(parse_stat(b"7 a"), None);
    }
}
