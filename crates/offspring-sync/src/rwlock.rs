//! Many readers or one writer, in any process.

// UNSAFETY: hands out references to the guarded value, as any lock does.
#![expect(unsafe_code, reason = "a lock hands out references to what it guards")]

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use offspring_shm::ShmSafe;

use crate::core_lock::{CoreLock, Wait};
use crate::head::{Head, Kind};
use crate::holder::{Holder, Watched};
use crate::lock_error::{LockError, Ruin};
use crate::member::Membership;
use crate::member::current::{Claim, Me};
use crate::raw::{Acquired, NotOwner, RawRwLock, ReaderCell, Refused, Seat};

/// A value that many threads may read at once or one may write, of whatever process.
///
/// As [`std::sync::RwLock`], in shared memory and with owners that may be killed. A reader writes only to a cell of its own, so
/// readers do not slow each other down. A writer that waits keeps new readers out, except for a thread that reads already: it
/// may read again without fear of a deadlock.
///
/// `READERS` cells take 64 bytes each. When all are taken, further readers take turns; nothing breaks.
///
/// # When a thread dies
///
/// - A reader dies: the next writer passes over it. The data is whole.
/// - A writer dies: the next, reader or writer, gets [`LockError::OwnerDied`], until a writer has repaired the value and called
///   [`RwLockWriteGuard::mark_consistent`].
/// - A writer that waits for readers dies: as if it had been inside.
///
/// ```
/// use offspring_shm::Shared;
/// use offspring_sync::RwLock;
///
/// let table = Shared::new(RwLock::new([0_u32; 100]))?;
/// table.write()?[7] = 1;
/// assert_eq!(table.read()?.iter().sum::<u32>(), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
pub struct RwLock<T, const READERS: usize = 32> {
    core: CoreLock,
    cells: [ReaderCell; READERS],
    value: UnsafeCell<T>,
}

// SAFETY: the value goes from thread to thread through writers.
unsafe impl<T: Send, const READERS: usize> Send for RwLock<T, READERS> {}
// SAFETY: readers of several threads share it, writers move it.
unsafe impl<T: Send + Sync, const READERS: usize> Sync for RwLock<T, READERS> {}
// A panic under the lock is reported to the next owner: nobody sees a broken value unawares.
impl<T, const READERS: usize> UnwindSafe for RwLock<T, READERS> {}
impl<T, const READERS: usize> RefUnwindSafe for RwLock<T, READERS> {}
// SAFETY: words without addresses, and a value that may live in shared memory itself; the words are checked before they are used.
unsafe impl<T: ShmSafe, const READERS: usize> ShmSafe for RwLock<T, READERS> {}

impl<T> RwLock<T> {
    /// A lock for the family's threads.
    pub const fn new(value: T) -> Self {
        RwLock::with_readers(value)
    }

    /// A lock for the threads of `membership`.
    pub fn new_in(membership: &Membership, value: T) -> Self {
        RwLock::with_readers_in(membership, value)
    }
}

impl<T, const READERS: usize> RwLock<T, READERS> {
    /// A lock for the family's threads with a number of cells of your choice.
    pub const fn with_readers(value: T) -> Self {
        RwLock::with_core(CoreLock::new(Head::unbound(Kind::RwLock)), value)
    }

    /// A lock for the threads of `membership` with a number of cells of your choice.
    pub fn with_readers_in(membership: &Membership, value: T) -> Self {
        RwLock::with_core(CoreLock::bound(Kind::RwLock, membership), value)
    }

    const fn with_core(core: CoreLock, value: T) -> Self {
        const { assert!(READERS > 0, "an RwLock needs at least one reader's cell") };
        RwLock {
            core,
            cells: [const { ReaderCell::new() }; READERS],
            value: UnsafeCell::new(value),
        }
    }

    fn raw(&self) -> RawRwLock<'_> {
        RawRwLock {
            writer: &self.core.raw,
            cells: &self.cells,
        }
    }

    /// Waits until no writer is inside and reads.
    ///
    /// # Errors
    ///
    /// [`OwnerDied`](LockError::OwnerDied) and [`Poisoned`](LockError::Poisoned) carry the guard; otherwise the lock was not taken:
    /// the caller holds it for writing, or the memory is no usable lock.
    #[inline]
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T, READERS>, LockError<RwLockReadGuard<'_, T, READERS>>> {
        self.read_within(Wait::ForEver)
    }

    /// Reads if no writer is inside or waiting.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](LockError::WouldBlock); else as [`read`](Self::read).
    #[inline]
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T, READERS>, LockError<RwLockReadGuard<'_, T, READERS>>> {
        self.read_within(Wait::Never)
    }

    /// Waits for at most `timeout` and reads.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](LockError::TimedOut) names the writer; else as [`read`](Self::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_, T, READERS>, LockError<RwLockReadGuard<'_, T, READERS>>> {
        self.read_within(Wait::timeout(timeout))
    }

    /// Waits until `deadline` at most and reads.
    ///
    /// # Errors
    ///
    /// As [`read_timeout`](Self::read_timeout).
    pub fn read_deadline(
        &self,
        deadline: Instant,
    ) -> Result<RwLockReadGuard<'_, T, READERS>, LockError<RwLockReadGuard<'_, T, READERS>>> {
        self.read_within(Wait::Until(deadline))
    }

    #[inline]
    fn read_within(
        &self,
        wait: Wait,
    ) -> Result<RwLockReadGuard<'_, T, READERS>, LockError<RwLockReadGuard<'_, T, READERS>>> {
        if let Some(me) = self.core.head.cached(Kind::RwLock)
            && let Some(seat) = self.raw().read_free(me.tag)
        {
            return Ok(RwLockReadGuard::new(self, me.claim(), seat, Acquired::Clean));
        }
        self.read_slow(wait)
    }

    #[cold]
    fn read_slow(
        &self,
        wait: Wait,
    ) -> Result<RwLockReadGuard<'_, T, READERS>, LockError<RwLockReadGuard<'_, T, READERS>>> {
        let me = self.core.head.me(Kind::RwLock)?;
        let taken = match wait {
            Wait::Never => self.raw().try_read(&self.lives(me), me.tag),
            _ => self.raw().read(&self.lives(me), me.tag, wait.deadline()),
        };
        let (acquired, seat) = taken.map_err(|refused| self.refused(refused))?;
        self.core
            .ruin()
            .verdict(acquired, RwLockReadGuard::new(self, me.claim(), seat, acquired))
    }

    /// Waits until nobody else is inside and writes.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); the caller must not read either.
    #[inline]
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T, READERS>, LockError<RwLockWriteGuard<'_, T, READERS>>> {
        self.write_within(Wait::ForEver)
    }

    /// Writes if nobody is inside.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](LockError::WouldBlock); else as [`write`](Self::write).
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T, READERS>, LockError<RwLockWriteGuard<'_, T, READERS>>> {
        self.write_within(Wait::Never)
    }

    /// Waits for at most `timeout` and writes.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](LockError::TimedOut) names the writer that holds the lock, if it is one; else as [`write`](Self::write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T, READERS>, LockError<RwLockWriteGuard<'_, T, READERS>>> {
        self.write_within(Wait::timeout(timeout))
    }

    /// Waits until `deadline` at most and writes.
    ///
    /// # Errors
    ///
    /// As [`write_timeout`](Self::write_timeout).
    pub fn write_deadline(
        &self,
        deadline: Instant,
    ) -> Result<RwLockWriteGuard<'_, T, READERS>, LockError<RwLockWriteGuard<'_, T, READERS>>> {
        self.write_within(Wait::Until(deadline))
    }

    fn write_within(
        &self,
        wait: Wait,
    ) -> Result<RwLockWriteGuard<'_, T, READERS>, LockError<RwLockWriteGuard<'_, T, READERS>>> {
        let me = self.core.head.me(Kind::RwLock)?;
        let taken = match wait {
            Wait::Never => self.raw().try_write(&self.lives(me), me.tag),
            _ => self.raw().write(&self.lives(me), me.tag, wait.deadline()),
        };
        let acquired = taken.map_err(|refused| self.refused(refused))?;
        self.core.note_theft(acquired);
        self.core
            .ruin()
            .verdict(acquired, RwLockWriteGuard::new(self, me.claim(), acquired))
    }

    fn lives<'a>(&'a self, me: Me<'a>) -> Watched<'a> {
        self.core.lives(me)
    }

    fn refused<G>(&self, refused: Refused) -> LockError<G> {
        LockError::refused(refused, || self.holder())
    }

    /// Who holds the lock for writing, or waits for the readers to leave; `None` if nobody does.
    pub fn holder(&self) -> Option<Holder> {
        self.core.holder()
    }

    /// How many read at this moment.
    pub fn readers(&self) -> usize {
        self.raw().readers().count()
    }

    /// Whether a writer died or panicked inside and nobody has repaired the value yet.
    pub fn is_poisoned(&self) -> bool {
        self.core.raw.state().is_poisoned()
    }

    /// The value, of a lock that nobody else can reach.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T, const READERS: usize> fmt::Debug for RwLock<T, READERS> {
    /// Shows who writes and how many read, without waiting for them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RwLock");
        self.core.describe(Kind::RwLock, &mut out);
        out.field("readers", &self.readers()).finish_non_exhaustive()
    }
}

/// The right to read the value of an [`RwLock`]; ends when it is dropped. Not `Send`.
#[must_use = "the lock is given back at once when its guard is dropped"]
pub struct RwLockReadGuard<'a, T, const READERS: usize = 32> {
    lock: &'a RwLock<T, READERS>,
    claim: Claim,
    seat: Seat,
    /// The mark that the reader found: it leaves it where it was.
    marked: bool,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives only `&T`.
unsafe impl<T: Sync, const READERS: usize> Sync for RwLockReadGuard<'_, T, READERS> {}

impl<'a, T, const READERS: usize> RwLockReadGuard<'a, T, READERS> {
    #[inline]
    fn new(lock: &'a RwLock<T, READERS>, claim: Claim, seat: Seat, acquired: Acquired) -> Self {
        RwLockReadGuard {
            lock,
            claim,
            seat,
            marked: acquired != Acquired::Clean,
            not_send: PhantomData,
        }
    }
}

impl<T, const READERS: usize> Deref for RwLockReadGuard<'_, T, READERS> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard is the proof that no writer is inside.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, const READERS: usize> Drop for RwLockReadGuard<'_, T, READERS> {
    #[inline]
    fn drop(&mut self) {
        // A copy in a forked child owns nothing.
        if self.claim.is_mine() {
            let _ = self.lock.raw().read_unlock(self.claim.tag, self.seat, self.marked);
        }
    }
}

impl<T: fmt::Debug, const READERS: usize> fmt::Debug for RwLockReadGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The right to write the value of an [`RwLock`]; ends when it is dropped. Not `Send`.
#[must_use = "the lock is given back at once when its guard is dropped"]
pub struct RwLockWriteGuard<'a, T, const READERS: usize = 32> {
    lock: &'a RwLock<T, READERS>,
    claim: Claim,
    ruined: bool,
    panicking: bool,
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives only `&T`.
unsafe impl<T: Sync, const READERS: usize> Sync for RwLockWriteGuard<'_, T, READERS> {}

impl<'a, T, const READERS: usize> RwLockWriteGuard<'a, T, READERS> {
    fn new(lock: &'a RwLock<T, READERS>, claim: Claim, acquired: Acquired) -> Self {
        let panicking = std::thread::panicking();
        RwLockWriteGuard {
            lock,
            claim,
            ruined: acquired != Acquired::Clean,
            panicking,
            not_send: PhantomData,
        }
    }

    /// Declares the value repaired: those after this writer are not told of the death any more.
    pub fn mark_consistent(&mut self) {
        self.ruined = false;
        self.lock.core.forget_ruin();
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

    fn give_back(&self) -> Result<(), NotOwner> {
        let core = &self.lock.core;
        let ruined = if self.ruined {
            Some(core.ruin())
        } else if !self.panicking && std::thread::panicking() {
            Some(Ruin::Panic)
        } else {
            None
        };
        core.give_back_to_all(self.claim, ruined)
    }
}

impl<T, const READERS: usize> Deref for RwLockWriteGuard<'_, T, READERS> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard is the proof that nobody else is inside.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, const READERS: usize> DerefMut for RwLockWriteGuard<'_, T, READERS> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, const READERS: usize> Drop for RwLockWriteGuard<'_, T, READERS> {
    fn drop(&mut self) {
        // In a forked child the guard is a copy that owns nothing: there is nothing to give back, and nobody to tell.
        let _ = self.give_back();
    }
}

impl<T: fmt::Debug, const READERS: usize> fmt::Debug for RwLockWriteGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
