//! Children of a single-threaded test, and how they end.

// UNSAFETY: forks, kills and waits.
#![expect(unsafe_code, reason = "fork, kill and waitpid")]
#![allow(dead_code, reason = "not every test binary uses everything")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use offspring_shm::Shared;
use offspring_sync::{Event, Membership};

/// What a child exits with when it panicked.
const PANICKED: i32 = 99;

/// A forked child; killed and reaped when it is dropped.
pub(crate) struct Child {
    pid: i32,
    status: Option<i32>,
}

/// Runs `body` in a child that ends with it.
pub(crate) fn fork(body: impl FnOnce()) -> Child {
    // The table must exist before the fork: the child of a plain fork cannot make one in the family's arena.
    Membership::family().unwrap();
    // SAFETY: the test binary has one thread, so the child has all that it may need; it leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        // SAFETY: asks to be killed with the parent; the parent cannot be gone unnoticed, as the test would have ended.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let outcome = catch_unwind(AssertUnwindSafe(body));
        // SAFETY: ends the child at once, without the parent's destructors.
        unsafe { libc::_exit(if outcome.is_ok() { 0 } else { PANICKED }) };
    }
    Child { pid, status: None }
}

impl Child {
    pub(crate) fn pid(&self) -> u32 {
        self.pid as u32
    }

    pub(crate) fn signal(&self, signal: i32) {
        assert!(self.status.is_none(), "the child was reaped");
        // SAFETY: a child that was not reaped: the number is still its own.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0);
    }

    /// Kills the child and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.reap();
    }

    /// Waits for the child, which must end well.
    #[track_caller]
    pub(crate) fn join(mut self) {
        let status = self.reap();
        assert!(
            libc::WIFEXITED(status),
            "the child was killed by signal {}",
            libc::WTERMSIG(status)
        );
        assert_eq!(libc::WEXITSTATUS(status), 0, "the child failed");
    }

    /// The child's status if it has ended.
    pub(crate) fn try_reap(&mut self) -> Option<i32> {
        if self.status.is_none() {
            let mut status = 0;
            // SAFETY: a place for a status.
            if unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) } == self.pid {
                self.status = Some(status);
            }
        }
        self.status
    }

    pub(crate) fn reap(&mut self) -> i32 {
        if let Some(status) = self.status {
            return status;
        }
        let mut status = 0;
        loop {
            // SAFETY: a place for a status.
            if unsafe { libc::waitpid(self.pid, &raw mut status, 0) } == self.pid {
                break;
            }
        }
        self.status = Some(status);
        status
    }

    /// Whether the child sleeps in the kernel: for tests that need a waiter to be asleep.
    pub(crate) fn is_asleep(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('S'))
    }

    /// Waits until the child sleeps.
    #[track_caller]
    pub(crate) fn await_sleep(&self) {
        // Twice, with time in between: a child may sleep for a moment on its way.
        for _ in 0..2 {
            assert!(
                offspring_testing::wait_until(Duration::from_secs(10), || self.is_asleep()),
                "the child never slept"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            // SAFETY: a child that was not reaped.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            self.reap();
        }
    }
}

/// A child that does `first`, says so, and then sleeps until it is killed.
pub(crate) fn fork_and_hold(first: impl FnOnce()) -> Child {
    let done = Shared::new(Event::new()).unwrap();
    let child = fork(|| {
        first();
        done.set().unwrap();
        sleep_for_ever();
    });
    assert!(
        done.wait_timeout(Duration::from_secs(20)).unwrap(),
        "the child did not get there"
    );
    child
}

/// Whether `body` panics.
pub(crate) fn panics(body: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(body)).is_err()
}

pub(crate) fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

/// Runs `body` and says how long it took.
pub(crate) fn timed<R>(body: impl FnOnce() -> R) -> (R, Duration) {
    let started = Instant::now();
    let result = body();
    (result, started.elapsed())
}

/// The processor time that the calling thread has used, and how often it has given the processor up.
pub(crate) fn usage() -> (Duration, i64) {
    // SAFETY: zeros are a valid rusage, which the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    (time(usage.ru_utime) + time(usage.ru_stime), usage.ru_nvcsw)
}

static SIGNALS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// Counts a signal from now on.
pub(crate) fn handle_and_ignore(signal: i32) {
    extern "C" fn count(_signal: i32) {
        SIGNALS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    // SAFETY: the handler only adds to an atomic; zeros are an empty mask and no flags, so that system calls are interrupted.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// How many signals were counted in this process.
pub(crate) fn signals_seen() -> u32 {
    SIGNALS.load(std::sync::atomic::Ordering::Relaxed)
}

/// Locks so many robust mutexes in memory of its own, for good.
pub(crate) fn hold_robust_mutexes(count: usize) {
    // SAFETY: the mutexes are zeroed, then initialised, in memory that is never freed.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        libc::pthread_mutexattr_init(&raw mut attributes);
        libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST);
        for _ in 0..count {
            let mutex = Box::into_raw(Box::new(std::mem::zeroed::<libc::pthread_mutex_t>()));
            assert_eq!(libc::pthread_mutex_init(mutex, &raw const attributes), 0);
            assert_eq!(libc::pthread_mutex_lock(mutex), 0);
        }
    }
}
