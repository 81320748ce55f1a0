//! A plain number of permits that anybody may add to.

use std::time::Instant;

use super::{EventCount, Naps, Refused, Spin};
use crate::primitive::{AtomicU32, Mode, Ordering};

/// A counting semaphore over two words of shared memory.
#[derive(Debug)]
pub struct RawCount<'a> {
    /// How many permits there are.
    pub count: &'a AtomicU32,
    /// Where those sleep who found none.
    pub bell: &'a EventCount,
}

impl RawCount<'_> {
    /// Takes one, waiting until `deadline`, or for ever.
    ///
    /// # Errors
    ///
    /// [`Refused::TimedOut`].
    pub fn acquire(&self, deadline: Option<Instant>) -> Result<(), Refused> {
        let mut spin = Spin::new();
        loop {
            if self.try_acquire() {
                spin.succeeded();
                return Ok(());
            }
            if !spin.again() {
                break;
            }
        }
        let mut naps = Naps::new(deadline);
        loop {
            let ticket = self.bell.prepare(Mode::Full);
            if self.try_acquire() {
                return Ok(());
            }
            let Some(nap) = naps.until() else {
                // A wake that this thread ate is not lost: it has announced a sleeper again and found nothing since.
                return Err(Refused::TimedOut);
            };
            self.bell.wait(ticket, &[], Some(nap));
            naps.ran_out();
        }
    }

    /// Takes one if there is one now.
    pub fn try_acquire(&self) -> bool {
        let mut seen = self.count.load(Ordering::SeqCst);
        while seen != 0 {
            // PAIRS: count-handover
            match self
                .count
                .compare_exchange_weak(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(found) => seen = found,
            }
        }
        false
    }

    /// Adds `permits`; false if the number would no longer fit, and then nothing was added.
    pub fn release(&self, permits: u32) -> bool {
        let mut seen = self.count.load(Ordering::Relaxed);
        loop {
            let Some(sum) = seen.checked_add(permits) else {
                return false;
            };
            // PAIRS: count-handover
            match self
                .count
                .compare_exchange_weak(seen, sum, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(found) => seen = found,
            }
        }
        match permits {
            0 => {}
            1 => self.bell.notify(),
            _ => self.bell.notify_all(),
        }
        true
    }
}
