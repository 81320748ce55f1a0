//! The machine's own atomics and futex(2).
//!
//! All futexes are shared ones (no `FUTEX_PRIVATE_FLAG`): the kernel keys them by the page behind the word, so that each process
//! may map it where it likes. Deadlines are absolute on `CLOCK_MONOTONIC`; a signal never ends a wait.

// UNSAFETY: futex(2), futex_waitv(2), membarrier(2) and clock_gettime(2) have no safe wrapper in the crates this one may use.
#![expect(unsafe_code, reason = "futex, futex_waitv and membarrier are raw system calls")]

use std::io;
use std::time::{Duration, Instant};

use super::{Ordering, Waited};

/// A 32-bit atomic word; also a futex.
#[allow(clippy::disallowed_types, reason = "this alias is the door")]
pub type AtomicU32 = core::sync::atomic::AtomicU32;

/// A 64-bit atomic word.
#[allow(clippy::disallowed_types, reason = "this alias is the door")]
pub type AtomicU64 = core::sync::atomic::AtomicU64;

/// A cell whose contents are guarded by a protocol over atomics.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct UnsafeCell<T: ?Sized>(core::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        UnsafeCell(core::cell::UnsafeCell::new(value))
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> UnsafeCell<T> {
    /// Calls `read` with a pointer that is good for reading while the protocol grants shared access.
    #[inline]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Calls `write` with a pointer that is good for writing while the protocol grants exclusive access.
    #[inline]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }

    /// The pointer itself, for a guard that keeps it.
    #[inline]
    pub const fn get(&self) -> *mut T {
        self.0.get()
    }
}

/// How many words [`futex_wait_many`] can watch at once (`FUTEX_WAITV_MAX`).
pub const FUTEX_WAIT_MANY_MAX: usize = 128;

/// How long a wait may sleep on the first word alone where futex_waitv(2) is missing or forbidden.
const BLIND_NAP: Duration = Duration::from_millis(5);

/// Sleeps while `word` holds `expected`, until somebody wakes it or `deadline` passes.
#[inline]
pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Waited {
    let until = deadline.map(on_the_clock);
    let until_pointer = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    loop {
        // SAFETY: the word is a live, aligned atomic for the whole call and the timespec outlives it. FUTEX_WAIT_BITSET reads an
        // absolute CLOCK_MONOTONIC time, where FUTEX_WAIT would read a relative one. The kernel writes nothing.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT_BITSET,
                expected,
                until_pointer,
                std::ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        match outcome(answer) {
            Some(waited) => return waited,
            None => continue,
        }
    }
}

/// One entry of futex_waitv(2), `struct futex_waitv` of `linux/futex.h`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Waiter {
    expected: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// `FUTEX2_SIZE_U32`, shared.
const FUTEX2_SIZE_U32: u32 = 2;

/// Sleeps while every one of `words` holds the value beside it, until somebody wakes one of them or `deadline` passes.
///
/// The first word matters most: where the kernel has no futex_waitv(2) (before 5.16), or a sandbox forbids it, the wait is a
/// short nap on that word alone. Words past [`FUTEX_WAIT_MANY_MAX`] are not watched.
pub fn futex_wait_many(words: &[(&AtomicU32, u32)], deadline: Option<Instant>) -> Waited {
    let Some(&(first, first_expected)) = words.first() else {
        return Waited::TimedOut;
    };
    // Two words (a lock and its owner's life) are the common case: do not clear a kilobyte of stack for it.
    if words.len() <= 4 {
        wait_many::<4>(words, deadline)
    } else {
        wait_many::<FUTEX_WAIT_MANY_MAX>(words, deadline)
    }
    .unwrap_or_else(|| {
        let nap = Instant::now() + BLIND_NAP;
        match deadline {
            Some(deadline) if deadline <= nap => futex_wait(first, first_expected, Some(deadline)),
            _ => {
                futex_wait(first, first_expected, Some(nap));
                Waited::Woken
            }
        }
    })
}

/// futex_waitv(2) over at most `N` words; `None` if the kernel will not have it.
fn wait_many<const N: usize>(words: &[(&AtomicU32, u32)], deadline: Option<Instant>) -> Option<Waited> {
    let mut waiters = [Waiter {
        expected: 0,
        address: 0,
        flags: FUTEX2_SIZE_U32,
        reserved: 0,
    }; N];
    let count = words.len().min(N);
    for (waiter, (word, expected)) in waiters.iter_mut().zip(words) {
        waiter.expected = u64::from(*expected);
        waiter.address = word.as_ptr().expose_provenance() as u64;
    }
    let until = deadline.map(on_the_clock);
    let until_pointer = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    loop {
        // SAFETY: `waiters` holds `count` entries that name live, aligned words; both it and the timespec outlive the call, and the
        // kernel writes to neither. A null timespec means no deadline.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_futex_waitv,
                waiters.as_ptr(),
                count as libc::c_uint,
                0 as libc::c_uint,
                until_pointer,
                libc::CLOCK_MONOTONIC,
            )
        };
        if answer < 0 && matches!(errno(), libc::ENOSYS | libc::EPERM) {
            return None;
        }
        if let Some(waited) = outcome(answer) {
            return Some(waited);
        }
    }
}

/// Wakes up to `count` sleepers of `word` and says how many there were.
#[inline]
pub fn futex_wake(word: &AtomicU32, count: u32) -> usize {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    // SAFETY: FUTEX_WAKE only uses the address as a key; the word is a live atomic.
    let answer = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    usize::try_from(answer).unwrap_or(0)
}

/// What a futex call's answer means; `None`: a signal came, sleep on.
fn outcome(answer: libc::c_long) -> Option<Waited> {
    if answer >= 0 {
        return Some(Waited::Woken);
    }
    match errno() {
        libc::EINTR => None,
        libc::ETIMEDOUT => Some(Waited::TimedOut),
        // EAGAIN: the word had changed. Anything else cannot happen with a live, aligned word; the caller looks again.
        _ => Some(Waited::Woken),
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// `deadline` as the kernel wants it. [`Instant`] is this clock on Linux, but hides its number: so by the distance from now.
fn on_the_clock(deadline: Instant) -> libc::timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    let now = clock();
    let nanoseconds = now.tv_nsec + libc::c_long::from(left.subsec_nanos() as i32);
    let seconds = libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX);
    libc::timespec {
        // The kernel refuses times past its own range (EINVAL): half of it is as good as for ever.
        tv_sec: now
            .tv_sec
            .saturating_add(seconds)
            .saturating_add(nanoseconds / 1_000_000_000)
            .min(libc::time_t::MAX / 2_000_000_000),
        tv_nsec: nanoseconds % 1_000_000_000,
    }
}

fn clock() -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for one timespec. CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now
}

/// `CLOCK_MONOTONIC` as a number, which all processes of the machine agree on.
pub fn monotonic_nanoseconds() -> u64 {
    let now = clock();
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How many processors are online.
pub(crate) fn online_processors() -> usize {
    // SAFETY: sysconf takes a number and answers with one.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1)
}

/// Tells the processor that this is a spin loop.
#[inline]
pub fn spin_loop() {
    core::hint::spin_loop();
}

/// Gives the rest of the time slice away.
#[inline]
pub fn yield_now() {
    std::thread::yield_now();
}

/// An ordinary fence.
#[inline]
pub fn fence(order: Ordering) {
    core::sync::atomic::fence(order);
}

/// Stands between a `SeqCst` read-modify-write and a `SeqCst` load of another word, where the two must not pass each other.
///
/// The language's single order of `SeqCst` operations already forbids it, so nothing is emitted; the model checker treats `SeqCst`
/// accesses as acquire-release and needs the fence spelt out.
#[inline]
pub fn full_fence_after_rmw() {}

/// How the two sides of a store-then-load protocol keep their order; all parties of one object must use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The frequent side pays nothing, the rare side interrupts every registered processor (membarrier(2)).
    Asymmetric,
    /// Both sides pay for a full fence.
    Full,
}

const MEMBARRIER_CMD_GLOBAL_EXPEDITED: libc::c_int = 1 << 1;
const MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED: libc::c_int = 1 << 2;

/// Registers this process for [`Mode::Asymmetric`]; cheap and idempotent.
///
/// Each process must do so before it touches an object in that mode; a forked child inherits it. A process that is not registered
/// is not interrupted by [`heavy_fence`], and its [`light_fence`] then orders nothing.
///
/// # Errors
///
/// The kernel lacks membarrier(2), or a sandbox forbids it: use [`Mode::Full`].
pub fn register_asymmetric() -> io::Result<()> {
    membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
}

/// The frequent side's fence: between its store and its load.
#[inline]
pub fn light_fence(mode: Mode) {
    match mode {
        Mode::Asymmetric => core::sync::atomic::compiler_fence(Ordering::SeqCst),
        Mode::Full => fence(Ordering::SeqCst),
    }
}

/// The rare side's fence: between its store and its load. Makes every [`light_fence`] of a registered process a full one.
///
/// # Errors
///
/// membarrier(2) failed, in [`Mode::Asymmetric`] only: the order is not kept, do not rely on what the following loads say.
#[cold]
pub fn heavy_fence(mode: Mode) -> io::Result<()> {
    fence(Ordering::SeqCst);
    match mode {
        Mode::Asymmetric => membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED),
        Mode::Full => Ok(()),
    }
}

fn membarrier(command: libc::c_int) -> io::Result<()> {
    // SAFETY: membarrier takes three integers and touches no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, command, 0 as libc::c_uint, 0 as libc::c_int) };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_word_is_not_slept_on() {
        let word = AtomicU32::new(7);
        assert_eq!(futex_wait(&word, 6, None), Waited::Woken);
        let other = AtomicU32::new(1);
        assert_eq!(futex_wait_many(&[(&other, 1), (&word, 6)], None), Waited::Woken);
    }

    #[test]
    fn deadlines_are_kept_in_both_calls() {
        let word = AtomicU32::new(0);
        let other = AtomicU32::new(0);
        let started = Instant::now();
        let deadline = started + Duration::from_millis(30);
        assert_eq!(futex_wait(&word, 0, Some(deadline)), Waited::TimedOut);
        let first = started.elapsed();
        assert!(first >= Duration::from_millis(30), "came back after {first:?}");
        while futex_wait_many(&[(&word, 0), (&other, 0)], Some(started + Duration::from_millis(60))) == Waited::Woken {}
        assert!(started.elapsed() >= Duration::from_millis(60));
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_deadline_in_the_past_and_one_beyond_time_both_work() {
        let word = AtomicU32::new(0);
        assert_eq!(futex_wait(&word, 0, Some(Instant::now())), Waited::TimedOut);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                word.store(1, Ordering::Release);
                futex_wake(&word, 1);
            });
            let century = Instant::now() + Duration::from_secs(3_000_000_000);
            while word.load(Ordering::Acquire) == 0 {
                assert_eq!(futex_wait(&word, 0, Some(century)), Waited::Woken);
            }
        });
    }

    #[test]
    fn any_of_many_words_wakes() {
        let words: Vec<AtomicU32> = (0..20).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                words[13].store(1, Ordering::Release);
                futex_wake(&words[13], 1);
            });
            let watched: Vec<_> = words.iter().map(|word| (word, 0)).collect();
            while words[13].load(Ordering::Acquire) == 0 {
                assert_eq!(futex_wait_many(&watched, None), Waited::Woken);
            }
        });
    }
}
