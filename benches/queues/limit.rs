//! The least that a message can cost between one producer and one consumer that never sleep and never die: a ring of slots, each with a
//! word that says whose turn it is.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};

use offspring_benches::{Kind, Setting, SharedPage};

use crate::content::{Tally, word};
use crate::flow::{self, Inlet, Outlet, Plan};

const SLOTS: usize = 1024;
/// How long one looks away when it is not its turn: about a microsecond. Who looks all the time takes the line from who writes it, and
/// the two go step by step, several times slower.
const PAUSES: usize = 64;
/// The most words in a slot.
const MOST: usize = 16;

/// The slots, one behind the other without a gap: the fewer cache lines, the faster.
type Ring = SharedPage<[AtomicU64; SLOTS * MOST]>;

/// One end: the ring, and how many messages went through it.
struct End<'a, const WORDS: usize>(&'a Ring, u64);

impl<const WORDS: usize> End<'_, WORDS> {
    /// The next slot, once it is this end's turn.
    #[inline]
    fn slot(&self, turn: u64) -> &[AtomicU64] {
        let first = self.1 as usize % SLOTS * (1 + WORDS);
        let slot = &self.0[first..=first + WORDS];
        while slot[0].load(Ordering::Acquire) != turn {
            (0..PAUSES).for_each(|_| spin_loop());
        }
        slot
    }

    const fn lap(&self) -> u64 {
        self.1 / SLOTS as u64
    }
}

pub(crate) fn rate<const WORDS: usize>(setting: &Setting, plan: Plan) -> Result<f64, String> {
    let ring = &Ring::new();
    let end = |_| End::<WORDS>(ring, 0);
    flow::rate(setting, Kind::Processes, plan, WORDS, end, end)
}

impl<const WORDS: usize> Outlet for End<'_, WORDS> {
    #[inline]
    fn send(&mut self, number: u64) -> u64 {
        let slot = self.slot(2 * self.lap());
        for place in 0..WORDS {
            slot[1 + place].store(word(number, place), Ordering::Relaxed);
        }
        slot[0].store(2 * self.lap() + 1, Ordering::Release);
        self.1 += 1;
        1
    }
}

impl<const WORDS: usize> Inlet for End<'_, WORDS> {
    #[inline]
    fn recv(&mut self, tally: &mut Tally) {
        let slot = self.slot(2 * self.lap() + 1);
        let words: [u64; WORDS] = std::array::from_fn(|place| slot[1 + place].load(Ordering::Relaxed));
        slot[0].store(2 * self.lap() + 2, Ordering::Release);
        tally.read(&words);
        self.1 += 1;
    }
}
