//! Permits that come back when their holder dies.

// UNSAFETY: declares that the type may live in shared memory.
#![expect(unsafe_code, reason = "implements ShmSafe")]

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use offspring_shm::ShmSafe;

use crate::acquire_error::AcquireError;
use crate::core_lock::Wait;
use crate::head::{Head, Kind};
use crate::member::Membership;
use crate::member::current::Claim;
use crate::permit_cells::PermitCells;
use crate::raw::NotOwner;
use crate::unusable::Unusable;

/// A number of permits, of which each thread that holds one is known.
///
/// For "at most so many at a time": each permit is a guard that comes back when it is dropped, or when the thread that holds it
/// dies. If permits are to be given back by others than those who took them, see
/// [`CountingSemaphore`](crate::CountingSemaphore); for calls without guards, [`BoundedSemaphore`](crate::BoundedSemaphore).
///
/// `CAPACITY` is the most permits there is room for, 4 bytes each.
///
/// # When a thread dies
///
/// - A holder dies: its permits are free at once, and those who wait are woken.
/// - A waiter dies: nothing happens to the others.
///
/// ```
/// use offspring_shm::Shared;
/// use offspring_sync::Semaphore;
///
/// let seats = Shared::new(Semaphore::new(2)?)?;
/// let mine = seats.acquire()?;
/// assert_eq!(seats.available()?, 1);
/// drop(mine);
/// assert_eq!(seats.available()?, 2);
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
pub struct Semaphore<const CAPACITY: usize = 64> {
    cells: PermitCells<CAPACITY>,
}

// SAFETY: words without addresses, checked before they are used.
unsafe impl<const CAPACITY: usize> ShmSafe for Semaphore<CAPACITY> {}

impl Semaphore {
    /// A semaphore for the family's threads, with up to 64 permits.
    ///
    /// # Errors
    ///
    /// More permits than there is room for.
    pub fn new(permits: usize) -> io::Result<Self> {
        Semaphore::with_capacity(permits)
    }

    /// A semaphore for the threads of `membership`, with up to 64 permits.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn new_in(membership: &Membership, permits: usize) -> io::Result<Self> {
        Semaphore::with_capacity_in(membership, permits)
    }
}

impl<const CAPACITY: usize> Semaphore<CAPACITY> {
    /// A semaphore for the family's threads, with room for `CAPACITY` permits.
    ///
    /// # Errors
    ///
    /// More permits than that.
    pub fn with_capacity(permits: usize) -> io::Result<Self> {
        Ok(Semaphore {
            cells: PermitCells::new(Head::unbound(Kind::Semaphore), permits)?,
        })
    }

    /// A semaphore for the threads of `membership`, with room for `CAPACITY` permits.
    ///
    /// # Errors
    ///
    /// As [`with_capacity`](Self::with_capacity).
    pub fn with_capacity_in(membership: &Membership, permits: usize) -> io::Result<Self> {
        Ok(Semaphore {
            cells: PermitCells::new(Head::bound(Kind::Semaphore, membership), permits)?,
        })
    }

    /// Takes a permit, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// The memory holds no usable semaphore.
    pub fn acquire(&self) -> Result<Permit<'_, CAPACITY>, AcquireError> {
        self.acquire_within(Wait::ForEver)
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](AcquireError::WouldBlock); else as [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<Permit<'_, CAPACITY>, AcquireError> {
        self.acquire_within(Wait::Never)
    }

    /// Takes a permit, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](AcquireError::TimedOut); else as [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_, CAPACITY>, AcquireError> {
        self.acquire_within(Wait::timeout(timeout))
    }

    /// Takes a permit, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<Permit<'_, CAPACITY>, AcquireError> {
        self.acquire_within(Wait::Until(deadline))
    }

    fn acquire_within(&self, wait: Wait) -> Result<Permit<'_, CAPACITY>, AcquireError> {
        let (claim, index) = self.cells.acquire(Kind::Semaphore, wait)?;
        Ok(Permit {
            semaphore: self,
            claim,
            index,
            not_send: PhantomData,
        })
    }

    /// How many permits nobody alive holds at this moment.
    ///
    /// # Errors
    ///
    /// The memory holds no usable semaphore.
    #[doc(alias = "get_value")]
    pub fn available(&self) -> Result<usize, Unusable> {
        self.cells.available(Kind::Semaphore)
    }

    /// How many permits there are in all.
    pub fn permits(&self) -> usize {
        self.cells.permits()
    }
}

impl<const CAPACITY: usize> fmt::Debug for Semaphore<CAPACITY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Semaphore");
        if let Err(unusable) = self.cells.check(Kind::Semaphore) {
            return out.field("unusable", &format_args!("{unusable}")).finish();
        }
        out.field("permits", &self.permits())
            .field("taken", &self.cells.taken())
            .finish_non_exhaustive()
    }
}

/// A permit of a [`Semaphore`]; comes back when it is dropped, or when its thread dies. Not `Send`.
#[must_use = "the permit is given back at once when it is dropped"]
pub struct Permit<'a, const CAPACITY: usize = 64> {
    semaphore: &'a Semaphore<CAPACITY>,
    claim: Claim,
    index: usize,
    not_send: PhantomData<*const ()>,
}

impl<const CAPACITY: usize> Permit<'_, CAPACITY> {
    /// Gives the permit back, and says whether it was still this thread's.
    ///
    /// # Errors
    ///
    /// It was not: the process is a fork of the one that took it. Nothing was changed.
    pub fn release(self) -> Result<(), NotOwner> {
        let released = self.semaphore.cells.release(self.claim, self.index);
        std::mem::forget(self);
        released
    }
}

impl<const CAPACITY: usize> Drop for Permit<'_, CAPACITY> {
    fn drop(&mut self) {
        // In a forked child the permit is a copy that owns nothing: there is nothing to give back, and nobody to tell.
        let _ = self.semaphore.cells.release(self.claim, self.index);
    }
}

impl<const CAPACITY: usize> fmt::Debug for Permit<'_, CAPACITY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
