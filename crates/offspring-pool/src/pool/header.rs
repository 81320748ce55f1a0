// UNSAFETY: the pool's words lie in the arena and are reached through pointers that are checked once.
#![expect(
    unsafe_code,
    reason = "shared words are reached through a checked pointer into the arena"
)]

use std::ptr::NonNull;
use std::{io, thread};

use offspring_shm::{Arena, Block};
use offspring_sync::primitive::{AtomicU32, AtomicU64, Ordering};

use crate::protocol::{Bell, Hazard, Slot};
use crate::task::Progress;

/// How many calls of one pool can be under way at the same time; more wait their turn.
pub(crate) const SLOTS: usize = 32;

pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ofs-pool");

/// What the owner of a pool and its workers share, followed by one [`WorkerCell`] per worker.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct PoolHeader {
    magic: AtomicU64,
    workers: u64,
    /// Set once, when no board will come any more: workers that find nothing to do leave. Owner: `Release`.
    pub(crate) closing: AtomicU32,
    /// Rung when there is news for idle workers.
    pub(crate) bell: Bell,
    /// The boards that can be worked on.
    pub(crate) slots: [Slot; SLOTS],
}

/// What one worker tells the owner of its pool. Written by that worker alone while it lives.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub(crate) struct WorkerCell {
    /// The board that this worker may be touching, as arena offset.
    pub(crate) hazard: Hazard,
    pub(crate) progress: Progress,
    /// Items done since the worker started.
    pub(crate) tasks: AtomicU64,
    /// [`STARTING`], [`READY`] or [`RETIRED`].
    pub(crate) stage: AtomicU32,
}

/// The worker has not finished its initializer.
const STARTING: u32 = 0;
/// The worker takes chunks.
pub(crate) const READY: u32 = 1;
/// The worker leaves on purpose.
pub(crate) const RETIRED: u32 = 2;

/// A pool's shared words, mapped here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedPool {
    header: &'static PoolHeader,
    cells: &'static [WorkerCell],
}

impl SharedPool {
    /// The bytes that a pool of so many workers shares.
    pub(crate) fn size(workers: usize) -> usize {
        size_of::<PoolHeader>() + workers * size_of::<WorkerCell>()
    }

    /// Lays out a new pool in a block of at least [`size`](Self::size) bytes that is this process's own.
    pub(crate) fn create(arena: &'static Arena, block: Block, workers: usize) -> io::Result<Self> {
        let at = arena.pointer(block.offset, Self::size(workers))?;
        let header = at.cast::<PoolHeader>();
        // SAFETY: `at` has `size(workers)` bytes at the alignment of blocks, which this process alone knows of so far;
        // all fields of a header and of the cells behind it may be zero.
        unsafe {
            at.write_bytes(0, Self::size(workers));
            (*header.as_ptr()).workers = workers as u64;
        }
        // SAFETY: as above; from here on the header is reached through shared references only.
        unsafe { header.as_ref() }.magic.store(MAGIC, Ordering::Release);
        Self::open(arena, block.offset)
    }

    /// Finds the pool that lies at an offset of the arena.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open(arena: &'static Arena, offset: u64) -> io::Result<Self> {
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no pool at {offset:#x} of the arena"),
            )
        };
        let at = arena.pointer(offset, size_of::<PoolHeader>())?.cast::<PoolHeader>();
        if !at.is_aligned() {
            return Err(invalid());
        }
        // SAFETY: in bounds and aligned; every field is an atomic or written before the pool was announced, and the
        // block stays allocated until the last worker is gone. The arena stays mapped for the life of the process.
        let header = unsafe { at.as_ref() };
        let workers = header.workers as usize;
        if header.magic.load(Ordering::Acquire) != MAGIC || workers > 1 << 16 {
            return Err(invalid());
        }
        let whole = arena.pointer(offset, Self::size(workers))?;
        // SAFETY: the block has room for `workers` cells behind the header; cells consist of atomics.
        let cells = unsafe {
            let first: NonNull<WorkerCell> = whole.add(size_of::<PoolHeader>()).cast();
            NonNull::slice_from_raw_parts(first, workers).as_ref()
        };
        Ok(Self { header, cells })
    }

    pub(crate) fn header(&self) -> &'static PoolHeader {
        self.header
    }

    pub(crate) fn cells(&self) -> &'static [WorkerCell] {
        self.cells
    }

    /// True if there is no processor left beside the workers: who spins takes the time of one that works.
    ///
    /// Reads the quota of the control group from files: to be asked once, not for each call.
    pub(crate) fn is_crowded(&self) -> bool {
        self.cells.len() >= thread::available_parallelism().map_or(1, usize::from)
    }

    /// True if some worker may be touching the board at `offset`.
    pub(crate) fn is_touched(&self, offset: u64) -> bool {
        self.cells.iter().any(|cell| cell.hazard.names(offset))
    }
}

impl WorkerCell {
    /// Makes the cell ready for a new worker, when the old one is gone.
    pub(crate) fn reset(&self) {
        self.tasks.store(0, Ordering::Relaxed);
        self.stage.store(STARTING, Ordering::Release);
        // Last: a board is given back only when no hazard names it.
        self.hazard.clear();
    }

    /// True if the worker has begun to take chunks.
    pub(crate) fn was_ready(&self) -> bool {
        self.stage.load(Ordering::Acquire) != STARTING
    }
}
