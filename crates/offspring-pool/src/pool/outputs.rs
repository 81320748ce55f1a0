// UNSAFETY: links blocks of shared memory through their first bytes.
#![expect(unsafe_code, reason = "reads and writes the link at the start of a block of results")]

use std::ptr::NonNull;

use offspring_queue::Supply;
use offspring_shm::{Arena, Block, OutOfMemory, Owner};
use offspring_sync::primitive::Ordering;

use super::board::OutputHead;

/// What precedes the results in each of their blocks.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// Arena offset of the block before; 0 for none.
    pub(crate) before: u64,
    /// The bytes of this block, the link included.
    pub(crate) capacity: u64,
}

const LINK: usize = size_of::<Link>();

/// The largest block that is taken before it is known to be needed.
const STEP: usize = 16 << 20;

/// Gives a worker memory for the results of one board.
///
/// The blocks belong to the caller, so that they outlive the worker. A block becomes the caller's in three steps, and
/// the worker may be killed between any two of them: it is allocated (the worker's: a sweep frees it), chained into
/// the board (still the worker's: whoever cleans up after it takes it off the chain, then the sweep frees it), and
/// handed over (the caller's: freed with the board). Results are published only from blocks handed over.
pub(crate) struct Outputs {
    arena: &'static Arena,
    worker: Owner,
    caller: Owner,
    head: &'static OutputHead,
    wanted: usize,
}

impl Outputs {
    /// Continues the chain of one worker; `wanted` is a first guess of the bytes that it will fill.
    pub(crate) fn new(
        arena: &'static Arena,
        worker: Owner,
        caller: Owner,
        head: &'static OutputHead,
        wanted: usize,
    ) -> Self {
        Self {
            arena,
            worker,
            caller,
            head,
            wanted: wanted.clamp(1 << 10, STEP),
        }
    }
}

impl Supply for Outputs {
    fn supply(&mut self, len: usize, full: Option<(Block, usize)>) -> Result<(Block, NonNull<u8>), OutOfMemory> {
        if let Some((full, _)) = full {
            self.wanted = (full.capacity * 2).min(STEP);
        }
        let need = len.saturating_add(LINK);
        let block = match self.arena.allocate(self.worker, need.max(self.wanted)) {
            Ok(block) => block,
            Err(_) => self.arena.allocate(self.worker, need)?,
        };
        let address = self
            .arena
            .pointer(block.offset, block.capacity)
            .expect("a fresh block lies in the arena");
        let before = self.head.0.load(Ordering::Relaxed);
        // SAFETY: the block is this worker's own, aligned, and has room for the link.
        unsafe {
            address.cast().write(Link {
                before,
                capacity: block.capacity as u64,
            });
        };
        // PAIRS: output-chained
        self.head.0.store(block.offset, Ordering::Release);
        // SAFETY: the caller frees the block only when no worker is in the board any more, and reads only what has
        // been published.
        if !unsafe { self.arena.transfer(block, self.worker, self.caller) } {
            // The block was allocated a moment ago: somebody has overwritten the arena's words. Better a dead worker
            // than results in memory that belongs to nobody.
            eprintln!("offspring: the arena's words were overwritten");
            std::process::abort();
        }
        let results = Block {
            offset: block.offset + LINK as u64,
            capacity: block.capacity - LINK,
        };
        // SAFETY: `LINK` is less than the block's capacity.
        Ok((results, unsafe { address.add(LINK) }))
    }

    fn retire(&mut self, _: Block) {
        // Finished chunks still lie in it: it stays in the chain and goes with the board.
    }
}

/// The link at the start of the chained block at `offset`; `None` if there is no block, or it lies outside the arena.
pub(crate) fn link(arena: &'static Arena, offset: u64) -> Option<Link> {
    let at = arena.pointer(offset, LINK).ok().filter(|_| offset != 0)?.cast::<Link>();
    // SAFETY: in bounds and aligned; any bytes are a link, and it was written before the block was chained.
    at.is_aligned().then(|| unsafe { at.read() })
}
