//! A number that threads take from and anybody adds to.

// UNSAFETY: declares that the type may live in shared memory.
#![expect(unsafe_code, reason = "implements ShmSafe")]

use std::fmt;
use std::time::{Duration, Instant};

use offspring_shm::ShmSafe;

use crate::acquire_error::AcquireError;
use crate::bounded_semaphore::ReleaseError;
use crate::head::{Head, Kind};
use crate::primitive::{AtomicU32, Ordering};
use crate::raw::{EventCount, RawCount};
use crate::unusable::Unusable;

/// A semaphore without owners: one thread takes, another gives, and there may be more than at the start.
///
/// For signalling "so many are ready" between processes, as POSIX semaphores and Python's `Semaphore` do it. Where a permit
/// stands for a right to do something, prefer [`Semaphore`](crate::Semaphore), which gets it back from the dead.
///
/// # When a thread dies
///
/// - It had taken permits: they are gone, as nobody knows that it was the one who took them.
/// - It dies between adding a permit and waking a waiter: the waiter finds the permit when its nap ends, at most a second later.
///
/// ```
/// use offspring_sync::CountingSemaphore;
///
/// let ready = CountingSemaphore::new(0);
/// ready.release(2)?;
/// ready.acquire()?;
/// assert_eq!(ready.available()?, 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
pub struct CountingSemaphore {
    head: Head,
    count: AtomicU32,
    bell: EventCount,
}

// SAFETY: words without addresses, checked before they are used.
unsafe impl ShmSafe for CountingSemaphore {}

impl CountingSemaphore {
    /// A semaphore with `permits` to take. It belongs to no membership: anybody who sees the memory may use it.
    pub const fn new(permits: u32) -> Self {
        CountingSemaphore {
            head: Head::unbound(Kind::CountingSemaphore),
            count: AtomicU32::new(permits),
            bell: EventCount::new(),
        }
    }

    fn raw(&self) -> Result<RawCount<'_>, Unusable> {
        self.head.check(Kind::CountingSemaphore)?;
        Ok(RawCount {
            count: &self.count,
            bell: &self.bell,
        })
    }

    /// Takes one, waiting as long as it takes.
    ///
    /// # Errors
    ///
    /// The memory holds no usable semaphore.
    pub fn acquire(&self) -> Result<(), AcquireError> {
        Ok(self.raw()?.acquire(None)?)
    }

    /// Takes one if there is one.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](AcquireError::WouldBlock); else as [`acquire`](Self::acquire).
    pub fn try_acquire(&self) -> Result<(), AcquireError> {
        if self.raw()?.try_acquire() {
            Ok(())
        } else {
            Err(AcquireError::WouldBlock)
        }
    }

    /// Takes one, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](AcquireError::TimedOut); else as [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), AcquireError> {
        Ok(self.raw()?.acquire(Instant::now().checked_add(timeout))?)
    }

    /// Takes one, waiting until `deadline` at most.
    ///
    /// # Errors
    ///
    /// As [`acquire_timeout`](Self::acquire_timeout).
    pub fn acquire_deadline(&self, deadline: Instant) -> Result<(), AcquireError> {
        Ok(self.raw()?.acquire(Some(deadline))?)
    }

    /// Adds `permits`, whoever took them or nobody.
    ///
    /// # Errors
    ///
    /// The number would no longer fit; nothing was added.
    pub fn release(&self, permits: u32) -> Result<(), ReleaseError> {
        if self.raw()?.release(permits) {
            Ok(())
        } else {
            Err(ReleaseError::TooMany)
        }
    }

    /// How many there are to take at this moment.
    ///
    /// # Errors
    ///
    /// The memory holds no usable semaphore.
    #[doc(alias = "get_value")]
    pub fn available(&self) -> Result<u32, Unusable> {
        Ok(self.raw()?.count.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for CountingSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("CountingSemaphore");
        match self.available() {
            Ok(available) => out.field("available", &available).finish_non_exhaustive(),
            Err(unusable) => out.field("unusable", &format_args!("{unusable}")).finish(),
        }
    }
}
