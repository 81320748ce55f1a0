//! A flag that threads wait for.

use std::fmt;
use std::time::Instant;

use super::{Naps, Spin};
use crate::primitive::{AtomicU32, Ordering, futex_wait, futex_wake};

const SET: u32 = 1;
/// Somebody sleeps, or may. Never together with `SET`.
const WAITERS: u32 = 2;
const EPOCH: u32 = 4;

/// A flag in one word, `epoch:30 | WAITERS:1 | SET:1`.
///
/// | word | means | who may change it |
/// |---|---|---|
/// | `epoch` | not set | anybody, to `(epoch + 1) SET`; a waiter, to add `WAITERS` |
/// | `epoch SET` | set | anybody, to `epoch` |
///
/// The epoch counts how often the flag was set, so that a waiter notices even if the flag was cleared again before it ran.
#[repr(transparent)]
pub struct RawEvent {
    word: AtomicU32,
}

impl RawEvent {
    /// A flag that is not set.
    pub const fn new() -> Self {
        RawEvent {
            word: AtomicU32::new(0),
        }
    }

    /// Sets the flag and wakes everybody; says whether it was not set before.
    pub fn set(&self) -> bool {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen & SET != 0 {
                // PAIRS: event-set
                if self
                    .word
                    .compare_exchange(seen, seen, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    return false;
                }
                continue;
            }
            let set = (seen & !WAITERS).wrapping_add(EPOCH) | SET;
            // PAIRS: event-set
            if self
                .word
                .compare_exchange(seen, set, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                if seen & WAITERS != 0 {
                    futex_wake(&self.word, u32::MAX);
                }
                return true;
            }
        }
    }

    /// Clears the flag; says whether it was set.
    pub fn clear(&self) -> bool {
        self.word.fetch_and(!SET, Ordering::AcqRel) & SET != 0
    }

    /// Whether the flag is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        // PAIRS: event-set
        self.word.load(Ordering::Acquire) & SET != 0
    }

    /// Waits until the flag is or was set, or `deadline`; says whether it was set.
    pub fn wait(&self, deadline: Option<Instant>) -> bool {
        // PAIRS: event-set
        let first = self.word.load(Ordering::Acquire);
        if first & SET != 0 {
            return true;
        }
        let epoch = first & !WAITERS;
        let mut spin = Spin::new();
        let mut naps = Naps::new(deadline);
        loop {
            // PAIRS: event-set
            let seen = self.word.load(Ordering::Acquire);
            if seen & !WAITERS != epoch {
                spin.succeeded();
                return true;
            }
            if spin.again() {
                continue;
            }
            let Some(nap) = naps.until() else {
                return false;
            };
            let marked = seen | WAITERS;
            if seen != marked
                && self
                    .word
                    .compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            futex_wait(&self.word, marked, Some(nap));
            naps.ran_out();
        }
    }
}

impl Default for RawEvent {
    fn default() -> Self {
        RawEvent::new()
    }
}

impl fmt::Debug for RawEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        f.debug_struct("RawEvent")
            .field("set", &(word & SET != 0))
            .field("waiters", &(word & WAITERS != 0))
            .finish()
    }
}
