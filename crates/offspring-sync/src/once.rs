//! What is done once, by one thread of all processes.

// UNSAFETY: hands out references to a value that is written once.
#![expect(unsafe_code, reason = "a cell that is written once hands out references")]

use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::fmt;
use std::mem::MaybeUninit;

use offspring_shm::ShmSafe;

use crate::core_lock::{CoreLock, Wait};
use crate::head::{Head, Kind};
use crate::lock_error::LockError;
use crate::member::Membership;
use crate::member::current::Claim;
use crate::primitive::{AtomicU32, Ordering};

const DONE: u32 = 1;

/// Runs an initialisation exactly once, among all threads of all processes.
///
/// # When a thread dies
///
/// - In the initialisation: it was not done. A waiter, or the next who comes, runs its own.
/// - While it waits: nothing happens to the others.
///
/// ```
/// use offspring_sync::Once;
///
/// let once = Once::new();
/// let mut runs = 0;
/// once.call_once(|| runs += 1)?;
/// once.call_once(|| runs += 1)?;
/// assert_eq!(runs, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
pub struct Once {
    core: CoreLock,
    /// [`DONE`] or not; set under the lock.
    done: AtomicU32,
}

// SAFETY: words without addresses, checked before they are used.
unsafe impl ShmSafe for Once {}

impl Once {
    /// Not done yet; for the family's threads.
    pub const fn new() -> Self {
        Once {
            core: CoreLock::new(Head::unbound(Kind::Once)),
            done: AtomicU32::new(0),
        }
    }

    /// Not done yet; for the threads of `membership`.
    pub fn new_in(membership: &Membership) -> Self {
        Once {
            core: CoreLock::bound(Kind::Once, membership),
            done: AtomicU32::new(0),
        }
    }

    /// Runs `init` if nobody has, and waits for whoever is doing it. When it returns, it was done. If `init` panics, it was not.
    ///
    /// # Errors
    ///
    /// [`AlreadyHeld`](LockError::AlreadyHeld) if `init` calls this again; or the memory is no usable `Once`.
    pub fn call_once(&self, init: impl FnOnce()) -> Result<(), LockError<()>> {
        let infallible = || {
            init();
            Ok::<(), Infallible>(())
        };
        match self.try_call_once(infallible)? {
            Ok(()) => Ok(()),
            Err(never) => match never {},
        }
    }

    /// As [`call_once`](Self::call_once), for an initialisation that may fail; then the next who comes tries again.
    ///
    /// # Errors
    ///
    /// Outside, as [`call_once`](Self::call_once); inside, what `init` returned.
    pub fn try_call_once<E>(&self, init: impl FnOnce() -> Result<(), E>) -> Result<Result<(), E>, LockError<()>> {
        if self.is_done() {
            return Ok(Ok(()));
        }
        // A death or panic of an earlier initialiser means only that it was not done: Acquired says no more than `done`.
        let (me, _) = self.core.take_slow(Kind::Once, Wait::ForEver)?;
        let lock = Held {
            core: &self.core,
            claim: me.claim(),
        };
        if self.done.load(Ordering::Relaxed) != DONE {
            if let Err(error) = init() {
                drop(lock);
                return Ok(Err(error));
            }
            // PAIRS: once-done
            self.done.store(DONE, Ordering::Release);
        }
        drop(lock);
        Ok(Ok(()))
    }

    /// Whether it was done; false if the memory holds no `Once`.
    #[inline]
    #[doc(alias = "is_completed")]
    pub fn is_done(&self) -> bool {
        // PAIRS: once-done
        self.done.load(Ordering::Acquire) == DONE && self.core.head.check(Kind::Once).is_ok()
    }
}

/// Gives the lock back also when the initialisation panics.
struct Held<'a> {
    core: &'a CoreLock,
    claim: Claim,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Fails only in a forked child, in which the lock is not this thread's.
        let _ = self.core.give_back(self.claim, None);
    }
}

impl Default for Once {
    fn default() -> Self {
        Once::new()
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Once");
        self.core.describe(Kind::Once, &mut out);
        out.field("done", &self.is_done()).finish()
    }
}

/// A value that is made once, by one thread of all processes, and read by all.
///
/// # When a thread dies
///
/// As for [`Once`]: a value that was not finished was not made.
///
/// ```
/// use offspring_sync::OnceLock;
///
/// let seed = OnceLock::new();
/// assert_eq!(seed.get(), None);
/// assert_eq!(*seed.get_or_init(|| 42_u64)?, 42);
/// assert_eq!(*seed.get_or_init(|| 43)?, 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
pub struct OnceLock<T> {
    once: Once,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: threads share the value, and one of them made it.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}
// SAFETY: nothing but the value and words.
unsafe impl<T: Send> Send for OnceLock<T> {}
// SAFETY: words without addresses, and a value that may live in shared memory itself; the words are checked before they are used.
unsafe impl<T: ShmSafe> ShmSafe for OnceLock<T> {}

impl<T: Copy> OnceLock<T> {
    /// Without a value yet; for the family's threads.
    pub const fn new() -> Self {
        OnceLock {
            once: Once::new(),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Without a value yet; for the threads of `membership`.
    pub fn new_in(membership: &Membership) -> Self {
        OnceLock {
            once: Once::new_in(membership),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// The value, if it was made.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        if !self.once.is_done() {
            return None;
        }
        // SAFETY: done means that the value was written, and it is never written again.
        Some(unsafe { (*self.value.get()).assume_init_ref() })
    }

    /// Makes the value if nobody has; waits for whoever is making it.
    ///
    /// # Errors
    ///
    /// As [`Once::call_once`].
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> Result<&T, LockError<()>> {
        // SAFETY: inside the Once nobody else reads or writes the value.
        self.once.call_once(|| unsafe {
            (*self.value.get()).write(make());
        })?;
        self.get().ok_or(LockError::NotHeld)
    }

    /// Puts `value` there.
    ///
    /// # Errors
    ///
    /// Inside, `value` again, if there is one already; outside, as [`Once::call_once`].
    pub fn set(&self, value: T) -> Result<Result<(), T>, LockError<()>> {
        let mut mine = false;
        self.get_or_init(|| {
            mine = true;
            value
        })?;
        Ok(if mine { Ok(()) } else { Err(value) })
    }
}

impl<T: Copy> Default for OnceLock<T> {
    fn default() -> Self {
        OnceLock::new()
    }
}

impl<T: Copy + fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceLock").field(&self.get()).finish()
    }
}
