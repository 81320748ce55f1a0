//! Waiting to be told.

use std::time::Instant;

use super::{Lives, Naps};
use crate::primitive::{AtomicU32, Ordering, futex_wait, futex_wake};
use crate::tag::Tag;

/// The member in the cell was told, and has not gone yet.
const NOTIFIED: u32 = 1 << 31;
/// In the crowd's word: somebody sleeps there.
const SLEEPERS: u32 = 1;

/// A condition variable over cells of shared memory, one per waiter: `NOTIFIED:1 | 0:1 | tag:30`.
///
/// | cell | means | who may change it |
/// |---|---|---|
/// | `0` | free | anybody, to its own tag |
/// | `tag` | that member waits | a notifier, to add `NOTIFIED`; the member, to `0` when its time is up |
/// | `tag NOTIFIED` | it was told | the member, to `0` |
///
/// and once the member is dead, anybody, to `0`; whoever removes a dead member that was told tells another one in its place.
///
/// A waiter sits down *before* it unlocks, so a notifier that has the lock after it finds it. It sleeps on its own cell: exactly as
/// many wake up as were told, and a notifier that dies between its compare-and-swap and its `FUTEX_WAKE` costs one nap.
///
/// When all cells are taken, further waiters stand in the crowd: one word, a change of which wakes them all. That is a spurious
/// wake-up for most, as the contract of condition variables allows.
#[derive(Debug)]
pub struct RawCondvar<'a> {
    /// One cell per waiter.
    pub cells: &'a [AtomicU32],
    /// `epoch:31 | SLEEPERS:1`, for those who found no cell.
    pub crowd: &'a AtomicU32,
    /// Hints: where the next waiter and the next notifier begin to look, so that waiters are told about in the order they came.
    pub rotors: &'a [AtomicU32; 2],
}

/// A waiter's place.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// This cell.
    Cell(usize),
    /// The crowd, which was in this state.
    Crowd(u32),
}

impl RawCondvar<'_> {
    /// Takes a place for `me`, which still holds the lock.
    pub fn sit_down(&self, lives: &impl Lives, me: Tag) -> Place {
        self.sit_in_cell(lives, me)
            .unwrap_or_else(|| Place::Crowd(self.crowd.fetch_or(SLEEPERS, Ordering::AcqRel) | SLEEPERS))
    }

    fn sit_in_cell(&self, lives: &impl Lives, me: Tag) -> Option<Place> {
        for index in self.from(&self.rotors[0]) {
            let cell = &self.cells[index];
            let mut seen = cell.load(Ordering::Relaxed);
            if seen != 0 && self.bury(lives, cell, seen) {
                seen = 0;
            }
            // PAIRS: waiter-seated
            if seen == 0
                && cell
                    .compare_exchange(0, me.bits(), Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                self.rotors[0].store(index as u32 + 1, Ordering::Relaxed);
                return Some(Place::Cell(index));
            }
        }
        None
    }

    /// All cells, once, beginning where the hint says.
    fn from(&self, rotor: &AtomicU32) -> impl Iterator<Item = usize> + use<> {
        let len = self.cells.len();
        let start = (rotor.load(Ordering::Relaxed) as usize).checked_rem(len).unwrap_or(0);
        (start..len).chain(0..start)
    }

    /// Frees a cell whose member is dead, and tells another if that one had been told. Says whether it did.
    fn bury(&self, lives: &impl Lives, cell: &AtomicU32, seen: u32) -> bool {
        // A word that is no tag was not written by this protocol: it is nobody's, too.
        let dead = Tag::from_bits(seen)
            .and_then(|waiter| lives.life(waiter))
            .is_none_or(|life| life.dead);
        if !dead
            || cell
                .compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            return false;
        }
        if seen & NOTIFIED != 0 {
            self.notify(lives, 1);
        }
        true
    }

    /// Waits at `place` until told, or `deadline`; says whether it was told. The lock is not held.
    pub fn wait(&self, lives: &impl Lives, me: Tag, place: Place, deadline: Option<Instant>) -> bool {
        match place {
            Place::Cell(index) => self.wait_in_cell(lives, me, &self.cells[index], deadline),
            Place::Crowd(state) => self.wait_in_crowd(lives, me, state, deadline),
        }
    }

    fn wait_in_cell(&self, lives: &impl Lives, me: Tag, cell: &AtomicU32, deadline: Option<Instant>) -> bool {
        let mut naps = Naps::new(deadline);
        loop {
            // PAIRS: waiter-told
            let seen = cell.load(Ordering::Acquire);
            if seen != me.bits() {
                // Told; or the word was overwritten by somebody who does not keep to the protocol, and a spurious wake-up it is.
                if seen == me.bits() | NOTIFIED {
                    cell.store(0, Ordering::Release);
                }
                return true;
            }
            let Some(nap) = naps.until() else {
                if cell
                    .compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
                {
                    return false;
                }
                continue;
            };
            if futex_wait(cell, seen, Some(nap)) == crate::primitive::Waited::TimedOut {
                naps.ran_out();
                self.look_for_the_dead(lives);
            }
        }
    }

    fn wait_in_crowd(&self, lives: &impl Lives, me: Tag, state: u32, deadline: Option<Instant>) -> bool {
        let mut naps = Naps::new(deadline);
        loop {
            // PAIRS: waiter-told
            if self.crowd.load(Ordering::Acquire) & !SLEEPERS != state & !SLEEPERS {
                return true;
            }
            let Some(nap) = naps.until() else {
                return false;
            };
            if futex_wait(self.crowd, state, Some(nap)) == crate::primitive::Waited::TimedOut {
                naps.ran_out();
                self.look_for_the_dead(lives);
                if let Some(place) = self.sit_in_cell(lives, me) {
                    // Somebody may have been told between the two: nobody is lost, as a crowd that was told has another epoch.
                    if self.crowd.load(Ordering::Acquire) & !SLEEPERS == state & !SLEEPERS {
                        return self.wait(lives, me, place, deadline);
                    }
                    self.leave(lives, me, place);
                    return true;
                }
            }
        }
    }

    /// Gives a place up without waiting.
    pub fn leave(&self, lives: &impl Lives, me: Tag, place: Place) {
        if let Place::Cell(index) = place
            && self.cells[index]
                .compare_exchange(me.bits(), 0, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
        {
            self.cells[index].store(0, Ordering::Release);
            self.notify(lives, 1);
        }
    }

    /// A waiter may have died with a notification: hands it on.
    fn look_for_the_dead(&self, lives: &impl Lives) {
        for cell in self.cells {
            let seen = cell.load(Ordering::Relaxed);
            if seen & NOTIFIED != 0 {
                self.bury(lives, cell, seen);
            }
        }
    }

    /// Tells up to `count` waiters and says how many were told; the crowd counts as one.
    pub fn notify(&self, lives: &impl Lives, count: u32) -> u32 {
        let mut told = 0;
        for index in self.from(&self.rotors[1]) {
            if told == count {
                return told;
            }
            let cell = &self.cells[index];
            // PAIRS: waiter-seated
            let mut seen = cell.load(Ordering::Acquire);
            while Tag::from_bits(seen).is_some() && seen & NOTIFIED == 0 {
                let dead = Tag::from_bits(seen)
                    .and_then(|waiter| lives.life(waiter))
                    .is_none_or(|life| life.dead);
                let next = if dead { 0 } else { seen | NOTIFIED };
                // PAIRS: waiter-told
                match cell.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) if dead => break,
                    Ok(_) => {
                        futex_wake(cell, 1);
                        self.rotors[1].store(index as u32 + 1, Ordering::Relaxed);
                        told += 1;
                        break;
                    }
                    Err(found) => seen = found,
                }
            }
        }
        if told < count && self.tell_the_crowd() {
            told += 1;
        }
        told
    }

    fn tell_the_crowd(&self) -> bool {
        loop {
            let seen = self.crowd.load(Ordering::Acquire);
            if seen & SLEEPERS == 0 {
                return false;
            }
            let next = (seen & !SLEEPERS).wrapping_add(2);
            // PAIRS: waiter-told
            if self
                .crowd
                .compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                futex_wake(self.crowd, u32::MAX);
                return true;
            }
        }
    }

    /// How many wait in cells at this moment.
    pub fn waiters(&self) -> usize {
        self.cells
            .iter()
            .filter(|cell| cell.load(Ordering::Relaxed) != 0)
            .count()
    }
}
