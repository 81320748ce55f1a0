//! Mutual exclusion between threads of any process.

// UNSAFETY: hands out references to the guarded value, as any mutex does.
#![expect(unsafe_code, reason = "a mutex hands out references to what it guards")]

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use offspring_shm::ShmSafe;

use crate::condvar::Suspend;
use crate::core_lock::{CoreLock, Wait};
use crate::head::{Head, Kind};
use crate::holder::Holder;
use crate::lock_error::{LockError, Ruin};
use crate::member::Membership;
use crate::member::current::Claim;
use crate::raw::{Acquired, NotOwner};

/// A value that one thread at a time may touch, of whatever process, and that outlives a `kill -9` of its owner.
///
/// As [`std::sync::Mutex`], with two differences. It may lie in shared memory: put it into [`Shared`](offspring_shm::Shared), or
/// into a mapping of your own. And the lock of an owner that died is not lost: the next one gets it with
/// [`LockError::OwnerDied`], repairs the value and says so.
///
/// Taking a free lock is one compare-and-swap, giving it back another. A waiter spins for some microseconds, then sleeps
/// until the owner unlocks or dies; it does not poll. Not fair: a thread that comes by may take a lock for which others have been
/// woken.
///
/// # When a thread dies
///
/// - The owner dies: a waiter, or the next who comes, gets `OwnerDied(guard)`, and so does everybody until one of them calls
///   [`MutexGuard::mark_consistent`].
/// - A waiter dies: nothing happens to the others.
///
/// ```
/// use offspring_shm::Shared;
/// use offspring_sync::{LockError, Mutex};
///
/// // Any process of the family that is given this handle sees the same counter.
/// let counter = Shared::new(Mutex::new(0_u64))?;
/// match counter.lock() {
///     Ok(mut count) => *count += 1,
///     Err(LockError::OwnerDied(mut count)) => {
///         *count += 1; // a number cannot be half-written
///         count.mark_consistent();
///     }
///     Err(error) => return Err(error.into()),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
pub struct Mutex<T> {
    core: CoreLock,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one thread at a time to the value, so it is enough that the value may move between threads.
unsafe impl<T: Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Mutex<T> {}
// A panic under the lock is reported to the next owner: nobody sees a broken value unawares.
impl<T> UnwindSafe for Mutex<T> {}
impl<T> RefUnwindSafe for Mutex<T> {}
// SAFETY: words without addresses, and a value that may live in shared memory itself; the words are checked before they are used.
unsafe impl<T: ShmSafe> ShmSafe for Mutex<T> {}

impl<T> Mutex<T> {
    /// A mutex for the family's threads.
    ///
    /// It may be moved until it is first locked; in use it must lie where all its users see it.
    pub const fn new(value: T) -> Self {
        Mutex {
            core: CoreLock::new(Head::unbound(Kind::Mutex)),
            value: UnsafeCell::new(value),
        }
    }

    /// A mutex for the threads of `membership`.
    pub fn new_in(membership: &Membership, value: T) -> Self {
        Mutex {
            core: CoreLock::bound(Kind::Mutex, membership),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock, waiting for it as long as it takes.
    ///
    /// # Errors
    ///
    /// [`OwnerDied`](LockError::OwnerDied) and [`Poisoned`](LockError::Poisoned) carry the guard; otherwise the lock was not taken:
    /// the calling thread holds it already, or the memory is no usable mutex.
    #[inline]
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.core.take_free(Kind::Mutex) {
            Some(me) => Ok(MutexGuard::new(self, me.claim(), Acquired::Clean)),
            None => self.lock_slow(Wait::ForEver),
        }
    }

    /// Takes the lock if it can be had at once.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](LockError::WouldBlock) if somebody else holds it; else as [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.core.take_free(Kind::Mutex) {
            Some(me) => Ok(MutexGuard::new(self, me.claim(), Acquired::Clean)),
            None => self.lock_slow(Wait::Never),
        }
    }

    /// Takes the lock, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](LockError::TimedOut) names who holds it; else as [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.core.take_free(Kind::Mutex) {
            Some(me) => Ok(MutexGuard::new(self, me.claim(), Acquired::Clean)),
            None => self.lock_slow(Wait::timeout(timeout)),
        }
    }

    /// Takes the lock, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`lock_timeout`](Self::lock_timeout).
    pub fn lock_deadline(&self, deadline: Instant) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.core.take_free(Kind::Mutex) {
            Some(me) => Ok(MutexGuard::new(self, me.claim(), Acquired::Clean)),
            None => self.lock_slow(Wait::Until(deadline)),
        }
    }

    /// Takes the lock and the value as it is, for values that cannot be half-written: a death or panic of an earlier owner is
    /// forgotten.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock), but never with a guard.
    pub fn lock_recovered(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.lock() {
            Err(LockError::OwnerDied(mut guard) | LockError::Poisoned(mut guard)) => {
                guard.mark_consistent();
                Ok(guard)
            }
            other => other,
        }
    }

    #[cold]
    fn lock_slow(&self, wait: Wait) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        match self.core.take_slow(Kind::Mutex, wait) {
            Ok((me, acquired)) => self
                .core
                .ruin()
                .verdict(acquired, MutexGuard::new(self, me.claim(), acquired)),
            Err(error) => Err(error.map(|()| unreachable!("the lock was not taken"))),
        }
    }

    /// Who holds the lock at this moment; `None` if nobody does. Does not wait, and may be outdated when it returns.
    pub fn holder(&self) -> Option<Holder> {
        self.core.holder()
    }

    /// Whether somebody holds the lock at this moment.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        !self.core.raw.state().is_free()
    }

    /// Whether an owner died or panicked inside and nobody has repaired the value yet.
    pub fn is_poisoned(&self) -> bool {
        self.core.raw.state().is_poisoned()
    }

    /// The value, of a mutex that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    /// Shows who holds the lock; the value is left out, as looking at it would mean waiting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Mutex");
        self.core.describe(Kind::Mutex, &mut out);
        out.finish_non_exhaustive()
    }
}

/// The right to the value of a [`Mutex`]; unlocks when it is dropped.
///
/// Not `Send`: the lock names the thread that took it, so that it can be recovered when that thread dies.
///
/// ```compile_fail
/// fn elsewhere<T: Send>(_: T) {}
/// let mutex = offspring_sync::Mutex::new(0);
/// elsewhere(mutex.lock().unwrap());
/// ```
#[must_use = "the lock is given back at once when its guard is dropped"]
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    claim: Claim,
    /// [`RUINED`] and [`PANICKING`]; a whole word, as two bytes that are copied with their padding stall.
    notes: usize,
    not_send: PhantomData<*const ()>,
}

/// The mark is on the data and nobody has repaired it.
const RUINED: usize = 1;
/// The thread was panicking when it took the lock: then its panic says nothing about the data.
const PANICKING: usize = 2;

// SAFETY: a shared guard gives only `&T`.
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<'a, T> MutexGuard<'a, T> {
    #[inline]
    fn new(mutex: &'a Mutex<T>, claim: Claim, acquired: Acquired) -> Self {
        let mut notes = if std::thread::panicking() { PANICKING } else { 0 };
        if acquired != Acquired::Clean {
            notes |= RUINED;
        }
        MutexGuard {
            mutex,
            claim,
            notes,
            not_send: PhantomData,
        }
    }

    /// Declares the value repaired: the owners after this one are not told of the death any more.
    pub fn mark_consistent(&mut self) {
        self.notes &= !RUINED;
        self.mutex.core.forget_ruin();
    }

    /// Unlocks, and says whether the lock was still this thread's.
    ///
    /// # Errors
    ///
    /// It was not: the process is a fork of the one that took the lock. Nothing was changed.
    pub fn unlock(self) -> Result<(), NotOwner> {
        let unlocked = self.give_back();
        std::mem::forget(self);
        unlocked
    }

    #[inline]
    fn give_back(&self) -> Result<(), NotOwner> {
        if self.notes == 0 && !std::thread::panicking() {
            return self.mutex.core.give_back(self.claim, None);
        }
        give_back_slow(&self.mutex.core, self.claim, self.notes)
    }
}

/// Takes the guard's parts, not the guard, which could then not stay in registers.
#[cold]
fn give_back_slow(core: &CoreLock, claim: Claim, notes: usize) -> Result<(), NotOwner> {
    let ruined = if notes & RUINED != 0 {
        Some(core.ruin())
    } else if notes & PANICKING == 0 && std::thread::panicking() {
        Some(Ruin::Panic)
    } else {
        None
    };
    core.give_back(claim, ruined)
}

impl<'a, T> Suspend for MutexGuard<'a, T> {
    type Suspended = &'a Mutex<T>;

    fn suspend(self) -> Result<&'a Mutex<T>, LockError<Self>> {
        let mutex = self.mutex;
        // A guard that came along in a fork holds nothing; its thread has to lock first.
        self.unlock().map_err(|NotOwner| LockError::NotHeld)?;
        Ok(mutex)
    }

    fn resume(mutex: &'a Mutex<T>) -> Result<Self, LockError<Self>> {
        mutex.lock()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard is the proof that this thread alone holds the lock.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // In a forked child the guard is a copy that owns nothing: there is nothing to give back, and nobody to tell.
        let _ = self.give_back();
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
