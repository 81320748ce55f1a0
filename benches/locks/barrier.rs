//! Rounds of parties that wait for each other.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use offspring_benches::{Kind, PthreadBarrier, Setting, SharedPage, futex_wait, futex_wake, side_by_side};

/// A meeting point.
pub(crate) trait Barrier {
    /// Waits until all parties have come.
    fn wait(&self);
}

impl Barrier for PthreadBarrier {
    fn wait(&self) {
        PthreadBarrier::wait(self);
    }
}

impl Barrier for std::sync::Barrier {
    fn wait(&self) {
        std::sync::Barrier::wait(self);
    }
}

/// The least there can be: a count, a generation, and one futex call for the last who comes. Nobody spins, nobody may die.
pub(crate) struct FutexBarrier {
    /// How many have come, and the generation.
    words: SharedPage<[AtomicU32; 2]>,
    parties: u32,
}

impl FutexBarrier {
    pub(crate) fn new(parties: usize) -> Self {
        Self {
            words: SharedPage::new(),
            parties: u32::try_from(parties).expect("there are few parties"),
        }
    }
}

impl Barrier for FutexBarrier {
    fn wait(&self) {
        let [come, generation] = &*self.words;
        let mine = generation.load(Ordering::Acquire);
        if come.fetch_add(1, Ordering::AcqRel) + 1 == self.parties {
            come.store(0, Ordering::Relaxed);
            generation.store(mine.wrapping_add(1), Ordering::Release);
            futex_wake(generation, i32::MAX);
        } else {
            while generation.load(Ordering::Acquire) == mine {
                futex_wait(generation, mine);
            }
        }
    }
}

/// The round after which all stop, the rounds, and the nanoseconds they took.
const STOP_AFTER: usize = 0;
const ROUNDS: usize = 8;
const NANOSECONDS: usize = 9;
/// The round each party has come to, 8 words apart.
const COME_TO: usize = 16;

/// Rounds a second.
pub(crate) fn rounds(
    setting: &Setting,
    parties: usize,
    kind: Kind,
    barrier: &(impl Barrier + Sync),
) -> Result<f64, String> {
    let words = &SharedPage::<[AtomicU64; 128]>::new();
    let party = |number: usize| {
        barrier.wait();
        let start = Instant::now();
        for round in 1_u64.. {
            words[COME_TO + 8 * number].store(round, Ordering::Release);
            // Set before the barrier and read after it: all see the same.
            if number == 0 && round % 16 == 0 && start.elapsed() > setting.budget() {
                words[STOP_AFTER].store(round, Ordering::Release);
            }
            barrier.wait();
            for other in 0..parties {
                let come_to = words[COME_TO + 8 * other].load(Ordering::Acquire);
                assert!(
                    come_to >= round,
                    "party {other} is in round {come_to}, but {number} passed round {round}"
                );
            }
            if words[STOP_AFTER].load(Ordering::Acquire) == round {
                if number == 0 {
                    words[ROUNDS].store(round, Ordering::Relaxed);
                    let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    words[NANOSECONDS].store(nanoseconds, Ordering::Relaxed);
                }
                break;
            }
        }
    };
    side_by_side(kind, parties, party, || Ok(()))?;
    let word = |at: usize| words[at].load(Ordering::Relaxed) as f64;
    Ok(word(ROUNDS) * 1e9 / word(NANOSECONDS))
}
