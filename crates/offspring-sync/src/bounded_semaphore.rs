//! Permits without guards that cannot be given back too often.

// UNSAFETY: declares that the type may live in shared memory.
#![expect(unsafe_code, reason = "implements ShmSafe")]

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use offspring_shm::ShmSafe;

use crate::acquire_error::AcquireError;
use crate::core_lock::Wait;
use crate::head::{Head, Kind};
use crate::member::Membership;
use crate::permit_cells::PermitCells;
use crate::unusable::Unusable;

/// A semaphore that is taken and given back by calls, and checks that no thread gives back what it has not taken.
///
/// As [`Semaphore`](crate::Semaphore), for code in which the two calls stand far apart. A permit belongs to the thread that
/// took it, and comes back when that thread dies.
///
/// # When a thread dies
///
/// As for [`Semaphore`](crate::Semaphore).
///
/// ```
/// use offspring_sync::BoundedSemaphore;
///
/// let slots = BoundedSemaphore::new(1)?;
/// slots.acquire()?;
/// slots.release()?;
/// assert!(slots.release().is_err(), "given back more often than taken");
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
pub struct BoundedSemaphore<const CAPACITY: usize = 64> {
    cells: PermitCells<CAPACITY>,
}

// SAFETY: words without addresses, checked before they are used.
unsafe impl<const CAPACITY: usize> ShmSafe for BoundedSemaphore<CAPACITY> {}

impl BoundedSemaphore {
    /// A semaphore for the family's threads, with up to 64 permits.
    ///
    /// # Errors
    ///
    /// More permits than there is room for.
    pub fn new(permits: usize) -> io::Result<Self> {
        BoundedSemaphore::with_capacity(permits)
    }

    /// A semaphore for the threads of `membership`, with up to 64 permits.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn new_in(membership: &Membership, permits: usize) -> io::Result<Self> {
        Ok(BoundedSemaphore {
            cells: PermitCells::new(Head::bound(Kind::BoundedSemaphore, membership), permits)?,
        })
    }
}

impl<const CAPACITY: usize> BoundedSemaphore<CAPACITY> {
    /// A semaphore for the family's threads, with room for `CAPACITY` permits.
    ///
    /// # Errors
    ///
    /// More permits than that.
    pub fn with_capacity(permits: usize) -> io::Result<Self> {
        Ok(BoundedSemaphore {
            cells: PermitCells::new(Head::unbound(Kind::BoundedSemaphore), permits)?,
        })
    }

    /// Takes a permit, waiting for one as long as it takes.
    ///
    /// # Errors
    ///
    /// The memory holds no usable semaphore.
    pub fn acquire(&self) -> Result<(), AcquireError> {
        self.cells.acquire(Kind::BoundedSemaphore, Wait::ForEver).map(drop)
    }

    /// Takes a permit if there is one.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](AcquireError::WouldBlock); else as [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<(), AcquireError> {
        self.cells.acquire(Kind::BoundedSemaphore, Wait::Never).map(drop)
    }

    /// Takes a permit, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](AcquireError::TimedOut); else as [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), AcquireError> {
        self.cells
            .acquire(Kind::BoundedSemaphore, Wait::timeout(timeout))
            .map(drop)
    }

    /// Takes a permit, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<(), AcquireError> {
        self.cells
            .acquire(Kind::BoundedSemaphore, Wait::Until(deadline))
            .map(drop)
    }

    /// Gives one of the calling thread's permits back.
    ///
    /// # Errors
    ///
    /// The thread holds none; nothing was changed.
    pub fn release(&self) -> Result<(), ReleaseError> {
        match self.cells.release_any(Kind::BoundedSemaphore) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ReleaseError::NotHeld),
            Err(unusable) => Err(ReleaseError::Unusable(unusable)),
        }
    }

    /// How many permits nobody alive holds at this moment.
    ///
    /// # Errors
    ///
    /// The memory holds no usable semaphore.
    #[doc(alias = "get_value")]
    pub fn available(&self) -> Result<usize, Unusable> {
        self.cells.available(Kind::BoundedSemaphore)
    }
}

impl<const CAPACITY: usize> fmt::Debug for BoundedSemaphore<CAPACITY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("BoundedSemaphore");
        if let Err(unusable) = self.cells.check(Kind::BoundedSemaphore) {
            return out.field("unusable", &format_args!("{unusable}")).finish();
        }
        out.field("permits", &self.cells.permits())
            .field("taken", &self.cells.taken())
            .finish_non_exhaustive()
    }
}

/// Why permits were not given back.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The calling thread holds no permit.
    NotHeld,
    /// There would be more permits than can be counted.
    TooMany,
    /// There is no semaphore here that could be used.
    Unusable(Unusable),
}

impl From<Unusable> for ReleaseError {
    fn from(unusable: Unusable) -> Self {
        ReleaseError::Unusable(unusable)
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReleaseError::NotHeld => f.write_str("this thread holds no permit that it could give back"),
            ReleaseError::TooMany => f.write_str("the semaphore cannot count that many permits"),
            ReleaseError::Unusable(unusable) => unusable.fmt(f),
        }
    }
}

impl Error for ReleaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ReleaseError::Unusable(unusable) => Some(unusable),
            _ => None,
        }
    }
}

impl From<ReleaseError> for io::Error {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::Unusable(unusable) => unusable.into(),
            other => io::Error::new(io::ErrorKind::InvalidInput, other),
        }
    }
}
