//! Forked members of the family, and what a test leaves in the arena.

// UNSAFETY: forks, speaks for children to the family, releases what the dead held, installs signal handlers and filters, and
// borrows a descriptor that is not open.
#![expect(unsafe_code, reason = "fork, signals, seccomp, and the family's unsafe functions")]
#![allow(dead_code, reason = "not every test binary uses everything")]

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork as os_fork};
use offspring_shm::{Census, Owner, family};
use offspring_sync::Membership;
use offspring_testing::{LeakCheck, Watchdog, wait_until, watchdog};

/// A forked child of the family; killed, reaped and released when it is dropped.
pub(crate) struct Child {
    pid: Pid,
    owner: Owner,
    ended: bool,
}

/// Runs `body` in a child that ends with it.
pub(crate) fn fork(body: impl FnOnce()) -> Child {
    Membership::family().unwrap();
    let owner = family::reserve_fork().unwrap();
    // SAFETY: the test binary has one thread; the child leaves by _exit.
    match unsafe { os_fork() }.unwrap() {
        ForkResult::Parent { child } => Child {
            pid: child,
            owner,
            ended: false,
        },
        ForkResult::Child => {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                // SAFETY: the tag was reserved for this child, which has one thread.
                unsafe { family::become_child(owner) }.unwrap();
                body();
            }));
            // SAFETY: ends the child at once, without the parent's destructors.
            unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 99 }) };
        }
    }
}

/// From now on membarrier(2) fails in this process.
pub(crate) fn forbid_membarrier() {
    forbid(libc::SYS_membarrier, libc::EPERM);
}

/// From now on a system call of this process fails with `errno`.
pub(crate) fn forbid(call: libc::c_long, errno: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jf| libc::sock_filter { code, jt: 0, jf, k };
    let mut filter = [
        step(LOAD, 0, 0),
        step(EQUAL, call as u32, 1),
        step(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned(), 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program lives until the call returns, which writes to no memory.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let filter = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, filter, &raw const program), 0);
    }
}

impl Child {
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    pub(crate) fn signal(&self, signal: Signal) {
        assert!(!self.ended);
        kill(self.pid, signal).unwrap();
    }

    /// Kills the child, and releases what it held.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.reap();
        self.release();
    }

    /// Kills the child but does not reap it yet.
    pub(crate) fn kill_only(&self) {
        self.signal(Signal::SIGKILL);
        assert!(wait_until(Duration::from_secs(10), || self.state() == Some('Z')));
    }

    /// Waits for the child, which must end well, and releases what it held.
    #[track_caller]
    pub(crate) fn join(mut self) {
        let status = self.reap();
        self.release();
        assert_eq!(status, WaitStatus::Exited(self.pid, 0), "the child failed");
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.ended |= !matches!(
            waitpid(self.pid, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive)
        );
        self.ended
    }

    /// Whether the child has not ended by itself; leaves it to be reaped.
    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.state(), Some('Z' | 'X') | None)
    }

    fn reap(&mut self) -> WaitStatus {
        let status = loop {
            match waitpid(self.pid, None) {
                Err(nix::errno::Errno::EINTR) => {}
                status => break status.unwrap(),
            }
        };
        self.ended = true;
        status
    }

    fn release(&self) {
        // SAFETY: the child has been reaped, and only this process knows its tag.
        unsafe { family::release(self.owner).unwrap() };
    }

    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit(')').next()?.trim_start().chars().next()
    }

    /// Waits until the child sleeps.
    #[track_caller]
    pub(crate) fn await_sleep(&self) {
        // Twice, with time in between: a child may sleep for a moment on its way.
        for _ in 0..2 {
            assert!(
                wait_until(Duration::from_secs(10), || self.state() == Some('S')),
                "the child never slept"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill(self.pid, Signal::SIGKILL);
            self.reap();
            self.release();
        }
    }
}

/// Checks at its end that a test left nothing behind: no descriptor, no child, no block in the arena.
pub(crate) struct Scene {
    before: Census,
    _watchdog: Watchdog,
    leaks: Option<LeakCheck>,
}

pub(crate) fn scene() -> Scene {
    scene_of(Duration::from_secs(60))
}

/// A scene that may take longer.
pub(crate) fn scene_of(limit: Duration) -> Scene {
    Membership::family().unwrap();
    Scene {
        before: census(),
        _watchdog: watchdog(limit),
        leaks: Some(LeakCheck::new()),
    }
}

/// What is in use after everybody has given back what is only kept for the next use.
fn census() -> Census {
    let arena = family::arena().unwrap();
    arena.flush();
    let mut census = arena.census();
    // Memory that stays warm, and slabs that stay cut, are in nobody's hands.
    census.committed = 0;
    census.slabs = 0;
    census
}

impl Scene {
    /// The end of the test.
    #[track_caller]
    pub(crate) fn end(mut self) {
        assert_eq!(census(), self.before, "blocks were left behind");
        self.leaks.take().unwrap().finish();
    }
}

/// Has `signal` interrupt system calls and do nothing else.
pub(crate) fn interrupt_with(signal: Signal) {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it may run anywhere.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// A number that is no open descriptor's, as one that a wrong program would wait for.
pub(crate) fn closed_descriptor() -> BorrowedFd<'static> {
    // SAFETY: this is what the test is about: the library is told a lie, and only passes it to the kernel.
    unsafe { BorrowedFd::borrow_raw(1_000_000) }
}
