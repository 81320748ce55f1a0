//! A fixed number of permits, each of which names its holder.

use std::time::Instant;

use super::{EventCount, Lives, Naps, NotOwner, Refused, Spin};
use crate::primitive::{AtomicU32, FUTEX_WAIT_MANY_MAX, Mode, Ordering, Waited, futex_wake};
use crate::tag::Tag;

/// Permits over cells of shared memory: a cell is `0`, or the tag of the member that holds the permit.
///
/// | cell | means | who may change it |
/// |---|---|---|
/// | `0` | free | anybody, to its own tag |
/// | `tag` | held | the holder, to `0`; once it is dead, anybody, to its own tag |
///
/// There is no count that a dead member's share could be stuck in: its permits are free because it is dead. Who finds no permit
/// sleeps on the event count and on the life words of the holders.
#[derive(Debug)]
pub struct RawPermits<'a> {
    /// One cell per permit.
    pub cells: &'a [AtomicU32],
    /// Where those sleep who found none.
    pub bell: &'a EventCount,
}

impl RawPermits<'_> {
    /// Takes a permit for `me` and says which, waiting until `deadline`, or for ever.
    ///
    /// # Errors
    ///
    /// [`Refused::TimedOut`], or [`Refused::Corrupted`] if a cell holds no possible tag.
    pub fn acquire(&self, lives: &impl Lives, me: Tag, deadline: Option<Instant>) -> Result<usize, Refused> {
        let mut spin = Spin::new();
        loop {
            if let Some(permit) = self.try_acquire(lives, me)? {
                spin.succeeded();
                return Ok(permit);
            }
            if !spin.again() {
                break;
            }
        }
        let mut naps = Naps::new(deadline);
        loop {
            let ticket = self.bell.prepare(Mode::Full);
            if let Some(permit) = self.try_acquire(lives, me)? {
                return Ok(permit);
            }
            let Some(nap) = naps.until() else {
                // A wake that this thread ate is not lost: it has announced a sleeper again and found nothing since.
                return Err(Refused::TimedOut);
            };
            let expired = self.sleep(lives, me, ticket, nap);
            if expired == Waited::TimedOut && naps.ran_out() {
                for cell in self.cells {
                    if let Some(holder) = Tag::from_bits(cell.load(Ordering::Relaxed)) {
                        lives.inquire(holder);
                    }
                }
            }
        }
    }

    /// Sleeps until a permit is given back or one of the holders dies.
    fn sleep(&self, lives: &impl Lives, me: Tag, ticket: super::Ticket, nap: Instant) -> Waited {
        let mut watched = Vec::new();
        let mut holders = Vec::new();
        for cell in self.cells {
            let seen = cell.load(Ordering::Relaxed);
            if seen == 0 {
                // Given back since; whoever did so may have died before it could say so, and would be watched by nobody.
                return Waited::Woken;
            }
            let Some(holder) = Tag::from_bits(seen) else { continue };
            if holder == me || holders.contains(&holder) || watched.len() + 1 == FUTEX_WAIT_MANY_MAX {
                continue;
            }
            if let Some(life) = lives.life(holder) {
                if life.dead {
                    return Waited::Woken;
                }
                holders.push(holder);
                watched.push((life.word, life.seen));
            }
        }
        let waited = self.bell.wait(ticket, &watched, Some(nap));
        for (word, seen) in watched {
            // PAIRS: life-ended
            if word.load(Ordering::Acquire) != seen {
                // The kernel woke one of those who wait for the dead.
                futex_wake(word, u32::MAX);
            }
        }
        waited
    }

    /// Takes a permit for `me` if there is one now.
    ///
    /// # Errors
    ///
    /// [`Refused::Corrupted`].
    pub fn try_acquire(&self, lives: &impl Lives, me: Tag) -> Result<Option<usize>, Refused> {
        let len = self.cells.len();
        // Members start at different cells, so that they meet less often.
        let start = if len == 0 { 0 } else { me.index() % len };
        for (index, cell) in self
            .cells
            .iter()
            .enumerate()
            .skip(start)
            .chain(self.cells.iter().enumerate().take(start))
        {
            let seen = cell.load(Ordering::Relaxed);
            if !is_free(lives, seen)? {
                continue;
            }
            // PAIRS: permit-handover
            if cell
                .compare_exchange(seen, me.bits(), Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Gives permit `index` back.
    ///
    /// # Errors
    ///
    /// `me` does not hold it.
    pub fn release(&self, me: Tag, index: usize) -> Result<(), NotOwner> {
        let cell = self.cells.get(index).ok_or(NotOwner)?;
        // PAIRS: permit-handover
        if cell
            .compare_exchange(me.bits(), 0, Ordering::SeqCst, Ordering::Relaxed)
            .is_err()
        {
            return Err(NotOwner);
        }
        self.bell.notify();
        Ok(())
    }

    /// A permit that `me` holds.
    pub fn held_by(&self, me: Tag) -> Option<usize> {
        self.cells
            .iter()
            .position(|cell| cell.load(Ordering::Relaxed) == me.bits())
    }

    /// How many permits nobody alive holds at this moment.
    pub fn available(&self, lives: &impl Lives) -> usize {
        self.cells
            .iter()
            .filter(|cell| is_free(lives, cell.load(Ordering::Relaxed)).unwrap_or(false))
            .count()
    }
}

fn is_free(lives: &impl Lives, seen: u32) -> Result<bool, Refused> {
    if seen == 0 {
        return Ok(true);
    }
    let holder = Tag::from_bits(seen)
        .filter(|holder| holder.bits() == seen)
        .ok_or(Refused::Corrupted(seen))?;
    Ok(lives.life(holder).ok_or(Refused::Corrupted(seen))?.dead)
}
