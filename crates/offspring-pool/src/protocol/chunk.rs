use offspring_sync::primitive::{AtomicU64, Ordering};

/// Who has a chunk of a board, and how it ended: one word in shared memory.
///
/// | state | payload | entered by | left by |
/// |---|---|---|---|
/// | `Ready` | items of the chunk already settled | the caller; the owner of the pool after a death | a worker's claim (CAS) |
/// | `Claimed` | the worker's tag, items already settled | a worker (CAS) | that worker (store), or the owner of the pool when it knows that the worker's process is gone (CAS) |
/// | `Done` | where the results are | the worker that claimed it | nobody |
/// | `Ended` | where the failures are, or a code | the worker that claimed it; the owner of the pool after a death | nobody |
///
/// A claim names its owner in the same word that makes it, so there is no instant in which a chunk is held by
/// nobody-knows-whom. Publishing is a plain store: only the claimer may leave `Claimed` while it lives, and the owner
/// of the pool acts only after the pidfd says that the whole process is gone.
#[repr(transparent)]
#[derive(Debug)]
pub struct ChunkWord(AtomicU64);

/// A chunk's state, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkState {
    /// It can be claimed; `skip` of its items are settled.
    Ready { skip: u64 },
    /// The worker with this tag has it.
    Claimed { worker: u32, skip: u64 },
    /// Its results are at this offset.
    Done { roots: u64 },
    /// It ended otherwise.
    Ended { how: Ending },
}

/// How a chunk ended that is not simply done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The worker found no room in the arena for the results.
    NoMemory,
    /// A worker died in it; what is known of its items is with the owner of the pool.
    Settled,
    /// The call was cancelled before every task was begun; nobody asks for the results.
    Abandoned,
    /// At least one item failed: the arena offset of the newest failure.
    Failures(u64),
}

const STATE_BITS: u32 = 2;
const READY: u64 = 0;
const CLAIMED: u64 = 1;
const DONE: u64 = 2;
const ENDED: u64 = 3;

const OWNER_BITS: u32 = 30;
/// The most items a chunk can have: what is left of a claimed word beside state and owner.
pub const MAX_CHUNK: u64 = 1 << (64 - STATE_BITS - OWNER_BITS);

/// Codes of an ending; no failure lies at so small an offset.
const NO_MEMORY: u64 = 1;
const SETTLED: u64 = 2;
const ABANDONED: u64 = 3;

impl ChunkState {
    pub(crate) fn word(self) -> u64 {
        let (payload, state) = match self {
            Self::Ready { skip } => (skip, READY),
            Self::Claimed { worker, skip } => (skip << OWNER_BITS | u64::from(worker), CLAIMED),
            Self::Done { roots } => (roots, DONE),
            Self::Ended { how: Ending::NoMemory } => (NO_MEMORY, ENDED),
            Self::Ended { how: Ending::Settled } => (SETTLED, ENDED),
            Self::Ended { how: Ending::Abandoned } => (ABANDONED, ENDED),
            Self::Ended {
                how: Ending::Failures(at),
            } => (at, ENDED),
        };
        payload << STATE_BITS | state
    }

    pub(crate) fn of(word: u64) -> Self {
        let payload = word >> STATE_BITS;
        match word & ((1 << STATE_BITS) - 1) {
            READY => Self::Ready { skip: payload },
            CLAIMED => {
                let worker = (payload & ((1 << OWNER_BITS) - 1)) as u32;
                Self::Claimed {
                    worker,
                    skip: payload >> OWNER_BITS,
                }
            }
            DONE => Self::Done { roots: payload },
            _ => Self::Ended {
                how: match payload {
                    NO_MEMORY => Ending::NoMemory,
                    SETTLED => Ending::Settled,
                    ABANDONED => Ending::Abandoned,
                    at => Ending::Failures(at),
                },
            },
        }
    }

    /// True if the chunk will not change any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done { .. } | Self::Ended { .. })
    }
}

impl ChunkWord {
    /// A chunk that is ready, with none of its items settled.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The state at this moment.
    #[inline]
    pub fn state(&self) -> ChunkState {
        // PAIRS: chunk-published, chunk-refilled
        ChunkState::of(self.0.load(Ordering::Acquire))
    }

    /// Takes a chunk that was seen ready with `skip` items settled; false if somebody else was faster.
    #[inline]
    pub fn claim(&self, worker: u32, skip: u64) -> bool {
        let ready = ChunkState::Ready { skip }.word();
        let claimed = ChunkState::Claimed { worker, skip }.word();
        // AcqRel: the claimer sees what the one who refilled the chunk wrote, and the progress notes that it wrote
        // itself before claiming cannot sink below the claim.
        self.0
            .compare_exchange(ready, claimed, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Ends a chunk that this process has claimed.
    #[inline]
    pub fn publish(&self, end: ChunkState) {
        // PAIRS: chunk-published
        self.0.store(end.word(), Ordering::Release);
    }

    /// Takes a chunk from a worker that is dead; false if the worker had let go of it before.
    pub fn recover(&self, dead: u32, skip: u64, next: ChunkState) -> bool {
        let claimed = ChunkState::Claimed { worker: dead, skip }.word();
        // PAIRS: chunk-refilled
        self.0
            .compare_exchange(claimed, next.word(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }
}

impl Default for ChunkWord {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_their_words() {
        let states = [
            ChunkState::Ready { skip: 0 },
            ChunkState::Ready { skip: MAX_CHUNK - 1 },
            ChunkState::Claimed {
                worker: (1 << OWNER_BITS) - 1,
                skip: MAX_CHUNK - 1,
            },
            ChunkState::Claimed { worker: 1, skip: 0 },
            ChunkState::Done { roots: (1 << 62) - 8 },
            ChunkState::Ended { how: Ending::NoMemory },
            ChunkState::Ended { how: Ending::Settled },
            ChunkState::Ended { how: Ending::Abandoned },
            ChunkState::Ended {
                how: Ending::Failures(1 << 40),
            },
        ];
        for state in states {
            assert_eq!(ChunkState::of(state.word()), state);
        }
        assert_eq!(
            ChunkState::Ready { skip: 0 }.word(),
            0,
            "a board of zeros is one of ready chunks"
        );
    }
}
