//! Many readers or one writer: an owner word for writers, and a cell for each reader.

use std::fmt;
use std::time::Instant;

use super::{Acquired, Lives, Naps, NotOwner, RawLock, Refused, Spin};
use crate::primitive::{AtomicU32, Ordering, Waited, fence, full_fence_after_rmw, futex_wait_many, futex_wake};
use crate::tag::Tag;

/// A writer sleeps on the cell.
const WAITED_FOR: u32 = 1 << 31;

/// One reader's place, on a cache line of its own: `WAITED_FOR:1 | 0:1 | tag:30`.
///
/// | cell | means | who may change it |
/// |---|---|---|
/// | `0` | free | anybody, to its own tag |
/// | `tag` | that member reads, or is about to look whether it may | it, to `0`; a writer, to add `WAITED_FOR`; once it is dead, anybody, to `0` or its own tag |
#[derive(Default)]
#[repr(C, align(64))]
pub struct ReaderCell {
    word: AtomicU32,
}

impl ReaderCell {
    /// A free cell.
    pub const fn new() -> Self {
        ReaderCell {
            word: AtomicU32::new(0),
        }
    }
}

impl fmt::Debug for ReaderCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Tag::from_bits(self.word.load(Ordering::Relaxed)).fmt(f)
    }
}

/// What a reader holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// This cell.
    Cell(usize),
    /// The writers' word, as all cells were taken.
    Alone,
}

/// A reader-writer lock over words of shared memory.
///
/// A reader puts its tag into a free cell and then looks at the writers' word; a writer takes its word and then looks at the
/// cells. Between the two steps stands a full fence on either side, so that they cannot both miss each other. Readers meet in
/// no common line that they write: they scale, and a dead reader is known by name and passed over.
///
/// A writer that has its word keeps new readers out while it waits for the old ones. A reader that finds a writer takes its
/// tag back and sleeps on the writers' word; a writer wakes all of them, as they can all go on.
#[derive(Clone, Copy, Debug)]
pub struct RawRwLock<'a> {
    /// The writers' word. Unlock it through [`RawRwLock::write_unlock`].
    pub writer: &'a RawLock,
    /// The readers.
    pub cells: &'a [ReaderCell],
}

impl<'a> RawRwLock<'a> {
    /// Takes the lock for reading: the uncontended case.
    #[inline]
    pub fn read_free(self, me: Tag) -> Option<Seat> {
        let index = me.index() % self.cells.len();
        let cell = &self.cells[index].word;
        // PAIRS: reader-seated
        if cell
            .compare_exchange(0, me.bits(), Ordering::SeqCst, Ordering::Relaxed)
            .is_err()
        {
            return None;
        }
        // SeqCst on both sides, as the order matters between *two* words: here cell, then writers' word; there the writers'
        // word, a SeqCst fence, then the cells.
        full_fence_after_rmw();
        // PAIRS: lock-handover
        if self.writer.word().load(Ordering::SeqCst) == 0 {
            return Some(Seat::Cell(index));
        }
        // It is the caller's own cell: nobody can have taken it from a living member.
        let _ = stand_up(cell, me);
        None
    }

    /// Takes the lock for reading, waiting until `deadline`, or for ever.
    ///
    /// # Errors
    ///
    /// See [`Refused`]; `AlreadyHeld` if the caller holds it for writing.
    pub fn read(self, lives: &impl Lives, me: Tag, deadline: Option<Instant>) -> Result<(Acquired, Seat), Refused> {
        self.read_within(lives, me, deadline, true)
    }

    /// Takes the lock for reading if that can be had at once.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn try_read(self, lives: &impl Lives, me: Tag) -> Result<(Acquired, Seat), Refused> {
        self.read_within(lives, me, None, false)
    }

    fn read_within(
        self,
        lives: &impl Lives,
        me: Tag,
        deadline: Option<Instant>,
        may_wait: bool,
    ) -> Result<(Acquired, Seat), Refused> {
        let mut spin = Spin::new();
        let mut naps = Naps::new(deadline);
        loop {
            let state = self.writer.state();
            if state.is_free() {
                let Some(index) = self.sit_down(lives, me)? else {
                    return self.read_alone(lives, me, deadline, may_wait);
                };
                full_fence_after_rmw();
                // PAIRS: lock-handover
                let word = self.writer.word().load(Ordering::SeqCst);
                if word & Tag::MASK == 0 {
                    spin.succeeded();
                    let acquired = if self.writer.poisoned(word) {
                        Acquired::Poisoned
                    } else {
                        Acquired::Clean
                    };
                    return Ok((acquired, Seat::Cell(index)));
                }
                let _ = stand_up(&self.cells[index].word, me);
                continue;
            }
            let owner = state.owner().ok_or(Refused::Corrupted(state.bits()))?;
            if owner == me {
                return Err(Refused::AlreadyHeld);
            }
            let life = lives.life(owner).ok_or(Refused::Corrupted(state.bits()))?;
            if life.dead {
                self.bury_writer(lives, me)?;
                continue;
            }
            // The owner waits for readers, and the caller is one of them: waiting for the owner would never end. As the caller reads
            // already, the owner cannot be inside.
            if self.readers().any(|reader| reader == me) {
                let index = self.sit_down(lives, me)?.ok_or(Refused::AlreadyHeld)?;
                let acquired = if state.is_poisoned() {
                    Acquired::Poisoned
                } else {
                    Acquired::Clean
                };
                return Ok((acquired, Seat::Cell(index)));
            }
            if !may_wait {
                return Err(Refused::WouldBlock);
            }
            if spin.again() {
                continue;
            }
            let Some(nap) = naps.until() else {
                return Err(Refused::TimedOut);
            };
            if !self.writer.announce_sleeper(state) {
                continue;
            }
            lives.asleep_for(owner);
            let waited = futex_wait_many(
                &[(self.writer.word(), state.announced()), (life.word, life.seen)],
                Some(nap),
            );
            // PAIRS: life-ended
            if life.word.load(Ordering::Acquire) != life.seen {
                futex_wake(life.word, u32::MAX);
            }
            if waited == Waited::TimedOut && naps.ran_out() {
                lives.inquire(owner);
            }
        }
    }

    /// Takes a dead writer's lock and leaves it free, with the mark.
    fn bury_writer(self, lives: &impl Lives, me: Tag) -> Result<(), Refused> {
        match self.writer.try_lock(lives, me) {
            Ok(acquired) => {
                let _ = self.writer.unlock(me, acquired != Acquired::Clean, u32::MAX);
                Ok(())
            }
            Err(Refused::WouldBlock) => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    /// All cells are taken: reads under the writers' word, without company.
    fn read_alone(
        self,
        lives: &impl Lives,
        me: Tag,
        deadline: Option<Instant>,
        may_wait: bool,
    ) -> Result<(Acquired, Seat), Refused> {
        let acquired = if may_wait {
            self.writer.lock(lives, me, deadline)?
        } else {
            self.writer.try_lock(lives, me)?
        };
        Ok((acquired, Seat::Alone))
    }

    /// Puts `me` into a cell, if there is a free one.
    fn sit_down(self, lives: &impl Lives, me: Tag) -> Result<Option<usize>, Refused> {
        let len = self.cells.len();
        for step in 0..len {
            let index = (me.index() + step) % len;
            let cell = &self.cells[index].word;
            let seen = cell.load(Ordering::Relaxed);
            let waited_for = if seen == 0 {
                0
            } else {
                let reader = Tag::from_bits(seen).ok_or(Refused::Corrupted(seen))?;
                if !lives.life(reader).ok_or(Refused::Corrupted(seen))?.dead {
                    continue;
                }
                seen & WAITED_FOR
            };
            // PAIRS: reader-seated
            if cell
                .compare_exchange(seen, me.bits() | waited_for, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Gives a reader's lock back. `poison` matters only for a reader that was [alone](Seat::Alone): it must leave the mark that
    /// it found.
    ///
    /// # Errors
    ///
    /// `me` does not hold it.
    #[inline]
    pub fn read_unlock(self, me: Tag, seat: Seat, poison: bool) -> Result<(), NotOwner> {
        let Seat::Cell(index) = seat else {
            return self.writer.unlock(me, poison, u32::MAX);
        };
        let cell = &self.cells.get(index).ok_or(NotOwner)?.word;
        // PAIRS: reader-left
        match cell.compare_exchange(me.bits(), 0, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(seen) if seen == me.bits() | WAITED_FOR => stand_up(cell, me),
            Err(_) => Err(NotOwner),
        }
    }

    /// Takes the lock for writing, waiting until `deadline`, or for ever.
    ///
    /// # Errors
    ///
    /// See [`Refused`]; `AlreadyHeld` also if the caller holds it for reading.
    pub fn write(self, lives: &impl Lives, me: Tag, deadline: Option<Instant>) -> Result<Acquired, Refused> {
        let acquired = self.writer.lock(lives, me, deadline)?;
        self.clear_cells(lives, me, deadline, true)
            .inspect_err(|_| self.give_up(me, acquired))?;
        Ok(acquired)
    }

    /// Takes the lock for writing if that can be had at once.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn try_write(self, lives: &impl Lives, me: Tag) -> Result<Acquired, Refused> {
        let acquired = self.writer.try_lock(lives, me)?;
        self.clear_cells(lives, me, None, false)
            .inspect_err(|_| self.give_up(me, acquired))?;
        Ok(acquired)
    }

    fn give_up(self, me: Tag, acquired: Acquired) {
        let _ = self.write_unlock(me, acquired != Acquired::Clean);
    }

    /// Waits until no reader is left, under the writers' word.
    fn clear_cells(
        self,
        lives: &impl Lives,
        me: Tag,
        deadline: Option<Instant>,
        may_wait: bool,
    ) -> Result<(), Refused> {
        // PAIRS: reader-seated
        fence(Ordering::SeqCst);
        // Its own seat first: a thread that waits for itself is told so, whoever else reads.
        if self
            .cells
            .iter()
            .any(|cell| cell.word.load(Ordering::Relaxed) == me.bits())
        {
            return Err(Refused::AlreadyHeld);
        }
        for cell in self.cells {
            let word = &cell.word;
            let mut spin = Spin::new();
            let mut naps = Naps::new(deadline);
            loop {
                // PAIRS: reader-left
                let seen = word.load(Ordering::Acquire);
                if seen == 0 {
                    spin.succeeded();
                    break;
                }
                let reader = Tag::from_bits(seen).ok_or(Refused::Corrupted(seen))?;
                let life = lives.life(reader).ok_or(Refused::Corrupted(seen))?;
                if life.dead {
                    if word
                        .compare_exchange(seen, 0, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
                    {
                        break;
                    }
                    continue;
                }
                if !may_wait {
                    return Err(Refused::WouldBlock);
                }
                if spin.again() {
                    continue;
                }
                let Some(nap) = naps.until() else {
                    return Err(Refused::TimedOut);
                };
                let marked = seen | WAITED_FOR;
                if seen != marked
                    && word
                        .compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed)
                        .is_err()
                {
                    continue;
                }
                let waited = futex_wait_many(&[(word, marked), (life.word, life.seen)], Some(nap));
                // PAIRS: life-ended
                if life.word.load(Ordering::Acquire) != life.seen {
                    futex_wake(life.word, u32::MAX);
                }
                if waited == Waited::TimedOut && naps.ran_out() {
                    lives.inquire(reader);
                }
            }
        }
        Ok(())
    }

    /// Gives the writer's lock back; `poison` leaves the mark.
    ///
    /// # Errors
    ///
    /// `me` does not hold it.
    pub fn write_unlock(self, me: Tag, poison: bool) -> Result<(), NotOwner> {
        self.writer.unlock(me, poison, u32::MAX)
    }

    /// Who reads at this moment.
    pub fn readers(self) -> impl Iterator<Item = Tag> + 'a {
        self.cells
            .iter()
            .filter_map(|cell| Tag::from_bits(cell.word.load(Ordering::Relaxed)))
    }
}

/// Frees a reader's cell, also one that a writer waits for.
#[cold]
fn stand_up(cell: &AtomicU32, me: Tag) -> Result<(), NotOwner> {
    loop {
        let seen = cell.load(Ordering::Relaxed);
        if seen & !WAITED_FOR != me.bits() {
            return Err(NotOwner);
        }
        // PAIRS: reader-left
        if cell
            .compare_exchange(seen, 0, Ordering::Release, Ordering::Relaxed)
            .is_ok()
        {
            if seen & WAITED_FOR != 0 {
                futex_wake(cell, 1);
            }
            return Ok(());
        }
    }
}
