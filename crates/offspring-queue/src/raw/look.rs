//! What can be seen of a ring without changing it. It may be over by the time the caller hears of it.

use offspring_sync::primitive::{AtomicU64, Ordering};
use offspring_sync::raw::Lives;

use super::word::{EMPTY, LEASED, READY, STATE, WRITING, ahead, claimed};
use super::{Place, Position, Ring, Steps};

impl<P: Place, L: Lives> Ring<'_, P, L> {
    /// Whether a send would have found room just now.
    pub fn has_room(&self, cursor: &AtomicU64) -> bool {
        let slots = self.place.slots();
        let mut at = Position::from_word(cursor.load(Ordering::Relaxed));
        let mut steps = Steps::new(slots);
        loop {
            let found = self.state(at).load(Ordering::SeqCst);
            if steps.are_too_many() {
                // Damaged: an attempt says so.
                return true;
            }
            match ahead(found, at.lap()) {
                0 if found & STATE == EMPTY => return true,
                0 => at = at.next(slots),
                laps if laps > 0 => at = at.next(slots).max(claimed(found, at).next(slots)),
                // Held by one who may have died: worth an attempt.
                _ => return found & STATE != READY && self.is_held_by_the_dead(found),
            }
        }
    }

    /// Whether there is anything to receive.
    pub fn has_message(&self, cursor: &AtomicU64) -> bool {
        let mut at = Position::from_word(cursor.load(Ordering::Relaxed));
        let slots = self.place.slots();
        let mut oldest = true;
        let mut steps = Steps::new(slots);
        loop {
            let found = self.state(at).load(Ordering::SeqCst);
            if steps.are_too_many() {
                // Damaged: an attempt says so.
                return true;
            }
            match (ahead(found, at.lap()), found & STATE) {
                (0, READY) => return true,
                // Stepped over, and if its holder is dead it is a message.
                (0, LEASED) if !self.is_held_by_the_dead(found) => (at, oldest) = (at.next(slots), false),
                (0, WRITING | LEASED) => return self.is_held_by_the_dead(found),
                (laps, _) if laps > 0 && oldest => {
                    let out = claimed(found, at);
                    at = at
                        .next(slots)
                        .max(Position::new(out.lap().wrapping_sub(1), out.index()).next(slots));
                }
                (laps, _) if laps > 0 => at = at.next(slots),
                _ => return false,
            }
        }
    }

    /// How many messages there are to receive, from one look at each.
    pub fn len(&self, head: &AtomicU64) -> usize {
        let slots = self.place.slots();
        let mut at = Position::from_word(head.load(Ordering::Relaxed));
        let mut ready = 0;
        let mut looked = 0;
        let mut steps = Steps::new(slots);
        loop {
            let found = self.state(at).load(Ordering::SeqCst);
            if steps.are_too_many() {
                return ready;
            }
            match ahead(found, at.lap()) {
                0 if found & STATE == EMPTY => return ready,
                0 => ready += usize::from(found & STATE == READY),
                laps if laps > 0 && looked == 0 => {
                    let out = claimed(found, at);
                    at = at
                        .next(slots)
                        .max(Position::new(out.lap().wrapping_sub(1), out.index()).next(slots));
                    continue;
                }
                laps if laps > 0 => {}
                _ => return ready,
            }
            looked += 1;
            if looked >= slots {
                return ready;
            }
            at = at.next(slots);
        }
    }
}
