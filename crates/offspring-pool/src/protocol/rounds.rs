use offspring_sync::primitive::{AtomicU32, Ordering};

/// Whether it is worth while to look through a board's chunks.
///
/// A chunk may be put back after every worker has looked, so "nothing left" holds for a *round* only: the number of the
/// round is raised after a chunk was put back, and a board is spent while the round that a worker found empty is the
/// current one.
#[repr(C)]
#[derive(Debug)]
pub struct Rounds {
    /// Set once, when no chunk needs to be started any more. Anybody: `Release`.
    cancelled: AtomicU32,
    /// The current round, from 1. The owner of the pool raises it *after* the chunk's word is ready.
    round: AtomicU32,
    /// The round in which a worker has seen every chunk taken; 0 for none.
    spent: AtomicU32,
}

impl Rounds {
    /// The first round.
    pub const fn new() -> Self {
        Self {
            cancelled: AtomicU32::new(0),
            round: AtomicU32::new(1),
            spent: AtomicU32::new(0),
        }
    }

    /// Stops the start of further chunks.
    pub fn cancel(&self) {
        self.cancelled.store(1, Ordering::Release);
    }

    /// True if no further chunk needs to be started.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) != 0
    }

    /// The current round, to be read before looking through the chunks.
    pub fn current(&self) -> u32 {
        // PAIRS: round-raised
        self.round.load(Ordering::Acquire)
    }

    /// Notes that no chunk was left in a round. One that is over does no harm: the next worker that looks finds the
    /// board not spent, and looks through it once more.
    pub fn spend(&self, round: u32) {
        self.spent.store(round, Ordering::Release);
    }

    /// True if a look through the chunks would find none.
    pub fn is_spent(&self) -> bool {
        self.is_cancelled() || self.spent.load(Ordering::Acquire) == self.current()
    }

    /// Makes workers look again, after a chunk was put back.
    pub fn raise(&self) {
        // PAIRS: round-raised
        self.round.fetch_add(1, Ordering::Release);
    }
}

impl Default for Rounds {
    fn default() -> Self {
        Self::new()
    }
}
