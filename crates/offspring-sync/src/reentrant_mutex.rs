//! Mutual exclusion that its owner may enter again.

// UNSAFETY: hands out references to the guarded value, as any mutex does.
#![expect(unsafe_code, reason = "a mutex hands out references to what it guards")]

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, Instant};

use offspring_shm::ShmSafe;

use crate::condvar::Suspend;
use crate::core_lock::{CoreLock, Wait};
use crate::head::{Head, Kind};
use crate::holder::Holder;
use crate::lock_error::{LockError, Ruin};
use crate::member::Membership;
use crate::member::current::Claim;
use crate::primitive::{AtomicU32, Ordering};
use crate::raw::{Acquired, NotOwner};

/// A mutex that the thread which holds it may lock again; as many guards must go before others get in.
///
/// For code that calls itself under its own lock. As several guards may exist at once, they give shared references only.
///
/// # When a thread dies
///
/// As for [`Mutex`](crate::Mutex): the next owner is told `OwnerDied`, however deep the dead one was in.
///
/// ```
/// use std::cell::Cell;
/// use offspring_sync::ReentrantMutex;
///
/// let mutex = ReentrantMutex::new(Cell::new(1));
/// let outer = mutex.lock()?;
/// let inner = mutex.lock()?;
/// inner.set(2);
/// drop(inner);
/// assert_eq!(outer.get(), 2);
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
#[doc(alias = "RLock")]
pub struct ReentrantMutex<T> {
    core: CoreLock,
    /// How many guards the owner has. Only the owner touches it; what a dead one left is overwritten by the next.
    depth: AtomicU32,
    /// 1 while the owner has data in hand that nobody has repaired. Only the owner touches it.
    ruined: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the lock lets one thread at a time to the value, so it is enough that the value may move between threads.
unsafe impl<T: Send> Send for ReentrantMutex<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for ReentrantMutex<T> {}
// SAFETY: words without addresses, and a value that may live in shared memory itself; the words are checked before they are used.
unsafe impl<T: ShmSafe> ShmSafe for ReentrantMutex<T> {}

impl<T> ReentrantMutex<T> {
    /// A mutex for the family's threads.
    pub const fn new(value: T) -> Self {
        ReentrantMutex::with_core(CoreLock::new(Head::unbound(Kind::ReentrantMutex)), value)
    }

    /// A mutex for the threads of `membership`.
    pub fn new_in(membership: &Membership, value: T) -> Self {
        ReentrantMutex::with_core(CoreLock::bound(Kind::ReentrantMutex, membership), value)
    }

    const fn with_core(core: CoreLock, value: T) -> Self {
        ReentrantMutex {
            core,
            depth: AtomicU32::new(0),
            ruined: AtomicU32::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock, waiting for it as long as it takes, or once more if the caller has it.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`](crate::Mutex::lock), but never [`AlreadyHeld`](LockError::AlreadyHeld).
    #[inline]
    pub fn lock(&self) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.enter(Wait::ForEver)
    }

    /// Takes the lock if it can be had at once.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](LockError::WouldBlock) if somebody else holds it; else as [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.enter(Wait::Never)
    }

    /// Takes the lock, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](LockError::TimedOut) names who holds it; else as [`lock`](Self::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.enter(Wait::timeout(timeout))
    }

    /// Takes the lock, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`lock_timeout`](Self::lock_timeout).
    pub fn lock_deadline(
        &self,
        deadline: Instant,
    ) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.enter(Wait::Until(deadline))
    }

    #[inline]
    fn enter(&self, wait: Wait) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        match self.core.take_free(Kind::ReentrantMutex) {
            Some(me) => {
                self.depth.store(1, Ordering::Relaxed);
                self.ruined.store(0, Ordering::Relaxed);
                Ok(ReentrantMutexGuard::new(self, me.claim()))
            }
            None => self.enter_slow(wait),
        }
    }

    #[cold]
    fn enter_slow(&self, wait: Wait) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        let me = self.core.head.me(Kind::ReentrantMutex)?;
        if self.core.raw.state().owner() == Some(me.tag) {
            let depth = self.depth.load(Ordering::Relaxed);
            self.depth
                .store(depth.checked_add(1).ok_or(LockError::AlreadyHeld)?, Ordering::Relaxed);
        } else {
            let acquired = self
                .core
                .take_as(me, wait)
                .map_err(|refused| LockError::refused(refused, || self.core.holder()))?;
            self.depth.store(1, Ordering::Relaxed);
            self.ruined
                .store(u32::from(acquired != Acquired::Clean), Ordering::Relaxed);
        }
        let guard = ReentrantMutexGuard::new(self, me.claim());
        let acquired = if self.ruined.load(Ordering::Relaxed) == 0 {
            Acquired::Clean
        } else {
            Acquired::Poisoned
        };
        self.core.ruin().verdict(acquired, guard)
    }

    /// Who holds the lock at this moment; `None` if nobody does.
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

impl<T> fmt::Debug for ReentrantMutex<T> {
    /// Shows who holds the lock, without waiting for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ReentrantMutex");
        self.core.describe(Kind::ReentrantMutex, &mut out);
        out.finish_non_exhaustive()
    }
}

/// One entry into a [`ReentrantMutex`]; leaves when it is dropped. Not `Send`.
#[must_use = "the lock is given back at once when its guard is dropped"]
pub struct ReentrantMutexGuard<'a, T> {
    mutex: &'a ReentrantMutex<T>,
    claim: Claim,
    panicking: bool,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives only `&T`.
unsafe impl<T: Sync> Sync for ReentrantMutexGuard<'_, T> {}

impl<'a, T> ReentrantMutexGuard<'a, T> {
    #[inline]
    fn new(mutex: &'a ReentrantMutex<T>, claim: Claim) -> Self {
        ReentrantMutexGuard {
            mutex,
            claim,
            panicking: std::thread::panicking(),
            not_send: PhantomData,
        }
    }

    /// Declares the value repaired: the owners after this one are not told of the death any more.
    pub fn mark_consistent(&self) {
        self.mutex.ruined.store(0, Ordering::Relaxed);
        self.mutex.core.forget_ruin();
    }

    /// Leaves, and says whether the lock was still this thread's.
    ///
    /// # Errors
    ///
    /// It was not: the process is a fork of the one that took the lock. Nothing was changed.
    pub fn unlock(self) -> Result<(), NotOwner> {
        let unlocked = self.leave();
        std::mem::forget(self);
        unlocked
    }

    fn leave(&self) -> Result<(), NotOwner> {
        let mutex = self.mutex;
        // A copy in a forked child owns nothing, the depth least of all.
        if !mutex.core.is_held_by(self.claim) {
            return Err(NotOwner);
        }
        let panicked = !self.panicking && std::thread::panicking();
        let depth = mutex.depth.load(Ordering::Relaxed);
        if depth > 1 {
            mutex.depth.store(depth - 1, Ordering::Relaxed);
            return Ok(());
        }
        let ruined = if mutex.ruined.load(Ordering::Relaxed) != 0 {
            Some(mutex.core.ruin())
        } else if panicked {
            Some(Ruin::Panic)
        } else {
            None
        };
        mutex.depth.store(0, Ordering::Relaxed);
        mutex.core.give_back(self.claim, ruined)
    }
}

impl<'a, T> Suspend for ReentrantMutexGuard<'a, T> {
    type Suspended = (&'a ReentrantMutex<T>, u32);

    fn suspend(self) -> Result<Self::Suspended, LockError<Self>> {
        let mutex = self.mutex;
        if !mutex.core.is_held_by(self.claim) {
            return Err(LockError::NotHeld);
        }
        // All guards of this thread at once: it sleeps, so that none of them is used.
        let depth = mutex.depth.load(Ordering::Relaxed);
        mutex.depth.store(1, Ordering::Relaxed);
        self.unlock().map_err(|NotOwner| LockError::NotHeld)?;
        Ok((mutex, depth))
    }

    fn resume((mutex, depth): Self::Suspended) -> Result<Self, LockError<Self>> {
        let resumed = mutex.lock();
        if !matches!(resumed, Ok(_) | Err(LockError::OwnerDied(_) | LockError::Poisoned(_))) {
            return resumed;
        }
        mutex.depth.store(depth, Ordering::Relaxed);
        resumed
    }
}

impl<T> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard is the proof that this thread holds the lock, and all its guards give shared references only.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T> Drop for ReentrantMutexGuard<'_, T> {
    fn drop(&mut self) {
        // In a forked child the guard is a copy that owns nothing: there is nothing to give back, and nobody to tell.
        let _ = self.leave();
    }
}

impl<T: fmt::Debug> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
