// UNSAFETY: a measurement of processes forks, and no safe interface does without cost.
#![expect(unsafe_code, reason = "fork, _exit, waitpid and kill")]
//! Forked children of a measuring process, which has one thread.

use std::fs;
use std::io::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A forked child; killed and reaped when it is dropped before it was waited for.
#[derive(Debug)]
pub struct Forked {
    pid: i32,
    reaped: bool,
}

/// Runs a function in a forked child, which exits with 0 when the function returns and with 1 when it panics.
///
/// # Panics
///
/// When this process has more than one thread, or the kernel refuses.
pub fn fork(child: impl FnOnce()) -> Forked {
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count);
    assert!(
        matches!(threads, Ok(1)),
        "a measuring process forks from its only thread, but has {threads:?}"
    );
    // SAFETY: this process has one thread, so the child is a whole copy of it.
    match unsafe { libc::fork() } {
        -1 => panic!("cannot fork: {}", Error::last_os_error()),
        0 => {
            let code = i32::from(catch_unwind(AssertUnwindSafe(child)).is_err());
            // SAFETY: _exit ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        pid => Forked { pid, reaped: false },
    }
}

impl Forked {
    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        // SAFETY: the child was not reaped, so the number is still its own.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// When the child did not exit with 0.
    pub fn wait(mut self) -> Result<(), String> {
        match self.reap() {
            0 => Ok(()),
            status => Err(format!("a forked child ended with the wait status {status:#x}")),
        }
    }

    fn reap(&mut self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is valid for the length of the call.
        while unsafe { libc::waitpid(self.pid, &mut status, 0) } == -1 {
            let error = Error::last_os_error();
            assert_eq!(
                error.raw_os_error(),
                Some(libc::EINTR),
                "cannot wait for a child: {error}"
            );
        }
        self.reaped = true;
        status
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}
