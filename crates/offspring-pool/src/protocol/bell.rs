use std::time::Instant;

use offspring_sync::primitive::{AtomicU32, Ordering, futex_wait, futex_wake};

/// A futex that counts news: who has read the number before it looked for news, and found none, sleeps while the number
/// is the same, and so misses none.
#[repr(transparent)]
#[derive(Debug)]
pub struct Bell(AtomicU32);

impl Bell {
    /// A bell that has not rung.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// The number to hand to [`wait`](Self::wait), read before looking for news.
    #[inline]
    pub fn heard(&self) -> u32 {
        // PAIRS: bell
        self.0.load(Ordering::Acquire)
    }

    /// Announces news that is already there, and wakes everybody who waits.
    pub fn ring(&self) {
        // PAIRS: bell
        self.0.fetch_add(1, Ordering::Release);
        futex_wake(&self.0, u32::MAX);
    }

    /// Sleeps until it rings again, or the deadline has passed; not at all if it has rung since `heard`.
    pub fn wait(&self, heard: u32, deadline: Instant) {
        futex_wait(&self.0, heard, Some(deadline));
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
