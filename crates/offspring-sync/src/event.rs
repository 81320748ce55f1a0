//! A flag to wait for.

// UNSAFETY: declares that the type may live in shared memory.
#![expect(unsafe_code, reason = "implements ShmSafe")]

use std::fmt;
use std::time::{Duration, Instant};

use offspring_shm::ShmSafe;

use crate::head::{Head, Kind};
use crate::raw::RawEvent;
use crate::unusable::Unusable;

/// A flag that threads of any process set, clear and wait for.
///
/// For "the data is ready" and "stop now". Everybody who waits is released when the flag is set, also those who get to run only
/// after it was cleared again. Setting releases what was written before it to those who see it.
///
/// # When a thread dies
///
/// - Who set it dies: the flag stays as it is. If it died between setting the flag and waking the others, they see it when
///   their nap ends, at most a second later.
/// - A waiter dies: nothing happens to the others.
///
/// ```
/// use offspring_shm::Shared;
/// use offspring_sync::Event;
///
/// let ready = Shared::new(Event::new())?;
/// assert!(!ready.is_set());
/// ready.set()?;
/// ready.wait()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
pub struct Event {
    head: Head,
    raw: RawEvent,
}

// SAFETY: words without addresses, checked before they are used.
unsafe impl ShmSafe for Event {}

impl Event {
    /// An event that is not set. It belongs to no membership: anybody who sees the memory may use it.
    pub const fn new() -> Self {
        Event {
            head: Head::unbound(Kind::Event),
            raw: RawEvent::new(),
        }
    }

    /// Sets the flag and wakes everybody who waits; says whether it was not set before.
    ///
    /// # Errors
    ///
    /// The memory holds no event.
    pub fn set(&self) -> Result<bool, Unusable> {
        self.head.check(Kind::Event)?;
        Ok(self.raw.set())
    }

    /// Clears the flag; says whether it was set.
    ///
    /// # Errors
    ///
    /// The memory holds no event.
    pub fn clear(&self) -> Result<bool, Unusable> {
        self.head.check(Kind::Event)?;
        Ok(self.raw.clear())
    }

    /// Whether the flag is set; false if the memory holds no event.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.head.check(Kind::Event).is_ok() && self.raw.is_set()
    }

    /// Waits until the flag is set.
    ///
    /// # Errors
    ///
    /// The memory holds no event.
    pub fn wait(&self) -> Result<(), Unusable> {
        self.head.check(Kind::Event)?;
        self.raw.wait(None);
        Ok(())
    }

    /// Waits for at most `timeout`; says whether the flag was set.
    ///
    /// # Errors
    ///
    /// The memory holds no event.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Unusable> {
        self.head.check(Kind::Event)?;
        Ok(self.raw.wait(Instant::now().checked_add(timeout)))
    }

    /// Waits until `deadline` at most; says whether the flag was set.
    ///
    /// # Errors
    ///
    /// The memory holds no event.
    pub fn wait_deadline(&self, deadline: Instant) -> Result<bool, Unusable> {
        self.head.check(Kind::Event)?;
        Ok(self.raw.wait(Some(deadline)))
    }
}

impl Default for Event {
    fn default() -> Self {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.head.check(Kind::Event) {
            Ok(()) => f
                .debug_struct("Event")
                .field("set", &self.raw.is_set())
                .finish_non_exhaustive(),
            Err(unusable) => f
                .debug_struct("Event")
                .field("unusable", &format_args!("{unusable}"))
                .finish(),
        }
    }
}
