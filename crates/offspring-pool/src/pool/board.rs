// UNSAFETY: a board lies in the arena and is reached through pointers that are checked when it is opened.
#![expect(
    unsafe_code,
    reason = "shared words are reached through a checked pointer into the arena"
)]

use std::collections::BTreeSet;
use std::io;
use std::ptr::NonNull;

use offspring_shm::{Arena, Block, Owner};
use offspring_sync::primitive::{AtomicU64, Ordering};

use super::outputs;
use crate::protocol::{ChunkWord, MAX_CHUNK, Rounds};
use crate::task::TaskTable;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ofsboard");

/// What a `map` call and the workers share: the arguments in a block of their own, and behind this header one
/// [`OutputHead`] per worker and one [`ChunkWord`] per chunk.
#[repr(C, align(64))]
#[derive(Debug)]
struct BoardHeader {
    magic: u64,
    plan: Plan,
    rounds: Rounds,
}

/// What does not change while the board is up.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The function, as offset in the program's image.
    pub(crate) task: u64,
    /// The layouts of argument and result.
    pub(crate) layout: u64,
    /// Arena offset of the archived slice of arguments, and its length in bytes.
    pub(crate) inputs: u64,
    pub(crate) inputs_len: u64,
    /// Items in all, and in a chunk (the last one may have fewer).
    pub(crate) items: u64,
    pub(crate) chunk: u64,
    /// The process that called.
    pub(crate) caller: u64,
    /// 1 if the first failure ends the call.
    pub(crate) stop: u64,
}

/// The newest block of results that one worker has written for this board: the head of a chain, as arena offset.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(crate) struct OutputHead(pub(crate) AtomicU64);

/// A board, mapped here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Board {
    header: &'static BoardHeader,
    outputs: &'static [OutputHead],
    words: &'static [ChunkWord],
    offset: u64,
}

impl Plan {
    fn chunks(&self) -> u64 {
        self.items.div_ceil(self.chunk.max(1))
    }
}

impl Board {
    /// The bytes that a board for this plan takes; `None` if no machine has so many.
    pub(crate) fn size(plan: &Plan, workers: usize) -> Option<usize> {
        let words = usize::try_from(plan.chunks())
            .ok()?
            .checked_mul(size_of::<ChunkWord>())?;
        words.checked_add(size_of::<BoardHeader>() + workers * size_of::<OutputHead>())
    }

    /// Lays out a board in a block that is this process's own and large enough.
    pub(crate) fn create(arena: &'static Arena, block: Block, plan: Plan, workers: usize) -> io::Result<Self> {
        let size = Self::size(&plan, workers)
            .filter(|&size| size <= block.capacity)
            .ok_or_else(|| invalid(block.offset))?;
        let at = arena.pointer(block.offset, size)?;
        let header = BoardHeader {
            magic: MAGIC,
            plan,
            rounds: Rounds::new(),
        };
        // SAFETY: `at` has `size` bytes at the alignment of blocks, which this process alone knows of so far; output
        // heads and chunk words may be zero.
        unsafe {
            at.write_bytes(0, size);
            at.cast::<BoardHeader>().write(header);
        }
        Self::open(arena, block.offset, workers)
    }

    /// Finds the board that lies at an offset of the arena.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open(arena: &'static Arena, offset: u64, workers: usize) -> io::Result<Self> {
        let at = arena.pointer(offset, size_of::<BoardHeader>())?.cast::<BoardHeader>();
        if !at.is_aligned() {
            return Err(invalid(offset));
        }
        // SAFETY: in bounds and aligned; what is not atomic was written before the board was announced. The block
        // stays allocated as long as a hazard of this process names it, and the arena for the life of the process:
        // nobody keeps a `Board` longer than that.
        let header = unsafe { at.as_ref() };
        let plan = &header.plan;
        if header.magic != MAGIC || plan.chunk == 0 || plan.chunk >= MAX_CHUNK {
            return Err(invalid(offset));
        }
        let size = Self::size(plan, workers).ok_or_else(|| invalid(offset))?;
        let whole = arena.pointer(offset, size)?;
        // SAFETY: `size` bytes lie there, laid out by `create` as header, heads and words, each aligned.
        let (outputs, words) = unsafe {
            let outputs = whole.add(size_of::<BoardHeader>()).cast::<OutputHead>();
            let words = outputs.add(workers).cast::<ChunkWord>();
            (
                NonNull::slice_from_raw_parts(outputs, workers).as_ref(),
                NonNull::slice_from_raw_parts(words, plan.chunks() as usize).as_ref(),
            )
        };
        Ok(Self {
            header,
            outputs,
            words,
            offset,
        })
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.header.plan
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    #[inline]
    pub(crate) fn words(&self) -> &'static [ChunkWord] {
        self.words
    }

    pub(crate) fn output(&self, worker: usize) -> &'static OutputHead {
        &self.outputs[worker]
    }

    /// The items of a chunk: index of the first, and how many.
    #[inline]
    pub(crate) fn chunk(&self, index: usize) -> (usize, usize) {
        let plan = self.plan();
        let first = index as u64 * plan.chunk;
        (first as usize, plan.chunk.min(plan.items - first) as usize)
    }

    /// The task function and the address of its archived arguments.
    ///
    /// # Errors
    /// When the function is unknown to this program, or the arguments lie outside the arena.
    pub(crate) fn task(&self, arena: &'static Arena) -> io::Result<(&'static TaskTable, NonNull<u8>)> {
        let plan = self.plan();
        let table = TaskTable::find(plan.task)?;
        if table.layout() != plan.layout {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`{}` has another layout here: is it another build?", table.name()),
            ));
        }
        let inputs = arena.pointer(plan.inputs, plan.inputs_len as usize)?;
        let whole = plan.items.checked_mul(table.argument().size() as u64);
        if whole.is_none_or(|whole| whole > plan.inputs_len)
            || !inputs.addr().get().is_multiple_of(table.argument().align())
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the arguments of {} tasks do not lie where the board says", plan.items),
            ));
        }
        Ok((table, inputs))
    }

    pub(crate) fn rounds(&self) -> &'static Rounds {
        &self.header.rounds
    }

    /// Drops from a dead worker's chain what the worker had not handed over when it died: nothing of it was published.
    pub(crate) fn settle_outputs(&self, arena: &'static Arena, worker: usize, dead: Owner) {
        let head = &self.outputs[worker].0;
        // PAIRS: output-chained
        let newest = head.load(Ordering::Acquire);
        if newest != 0 && arena.owner_of(newest) == Some(dead) {
            head.store(
                outputs::link(arena, newest).map_or(0, |link| link.before),
                Ordering::Release,
            );
        }
    }

    /// Frees the results that the workers wrote for this board.
    ///
    /// # Safety
    /// No worker is in the board any more, and nobody reads its results.
    pub(crate) unsafe fn free_outputs(&self, arena: &'static Arena) {
        let mut freed = BTreeSet::new();
        for head in self.outputs {
            let mut at = head.0.swap(0, Ordering::Acquire);
            // A chain that somebody bent into a ring ends, and frees no block twice.
            while let Some(link) = outputs::link(arena, at).filter(|_| freed.insert(at)) {
                // SAFETY: chained blocks were handed over to the caller, and nobody uses them any more.
                unsafe {
                    arena.free(Block {
                        offset: at,
                        capacity: link.capacity as usize,
                    })
                };
                at = link.before;
            }
        }
    }
}

fn invalid(offset: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no board at {offset:#x} of the arena"),
    )
}
