// UNSAFETY: writes bytes through raw pointers into blocks of shared memory that this process owns exclusively.
#![expect(unsafe_code, reason = "raw writes into exclusively owned shared memory")]

use std::fmt;
use std::ptr::NonNull;

use offspring_shm::{Block, OutOfMemory};
use rkyv::rancor::{self, Source};
use rkyv::ser::{Positional, Writer};

/// Blocks start at a multiple of this many bytes: positions modulo it are addresses modulo it.
const BLOCK_ALIGN: usize = 64;

/// Where a [`Sink`] gets its memory.
pub trait Supply {
    /// Makes a block of at least `len` bytes that this process alone writes, with its address in this process.
    ///
    /// `full` is the block that has become too small, if there is one, and the length at which it would do. The supply
    /// may answer with that block grown where it lies; else it keeps it readable until [`retire`](Supply::retire).
    ///
    /// # Errors
    /// When the arena has no room.
    fn supply(&mut self, len: usize, full: Option<(Block, usize)>) -> Result<(Block, NonNull<u8>), OutOfMemory>;

    /// Takes back a block whose last region has moved to a new one.
    fn retire(&mut self, block: Block);
}

/// A writer that lays out *regions* in blocks of shared memory.
///
/// A region is what must stay together: a value with everything its relative pointers point to. Regions follow each
/// other in a block; when the block is full the region that is being written moves to a new one as a whole, so that
/// positions inside it stay what they were.
pub struct Sink<'a> {
    supply: &'a mut dyn Supply,
    block: Option<(Block, NonNull<u8>)>,
    /// Where in the block the region starts.
    start: usize,
    /// Where in the block the next byte goes.
    end: usize,
    /// The position at which the region starts: `start` modulo [`BLOCK_ALIGN`], and it keeps that when it moves.
    bias: usize,
    exhausted: Option<OutOfMemory>,
}

impl<'a> Sink<'a> {
    /// Makes a sink that has no block yet.
    pub fn new(supply: &'a mut dyn Supply) -> Self {
        Self {
            supply,
            block: None,
            start: 0,
            end: 0,
            bias: 0,
            exhausted: None,
        }
    }

    /// Starts a new region at a multiple of `align` bytes (a power of two up to 64).
    #[inline]
    pub fn begin_region(&mut self, align: usize) {
        debug_assert!(align.is_power_of_two() && align <= BLOCK_ALIGN);
        self.start = self.end.next_multiple_of(align);
        self.end = self.start;
        self.bias = self.start % BLOCK_ALIGN;
    }

    /// Leaves room for `len` bytes at a multiple of `align` and gives their position.
    ///
    /// # Errors
    /// When the supply has no memory.
    #[inline]
    pub fn reserve(&mut self, len: usize, align: usize) -> Result<usize, rancor::BoxedError> {
        let padding = self.pos().next_multiple_of(align) - self.pos();
        self.ensure(padding + len)?;
        self.end += padding + len;
        Ok(self.pos() - len)
    }

    /// The offset in the arena of a position of this region.
    ///
    /// # Panics
    /// When nothing was written or reserved yet.
    #[inline]
    pub fn offset(&self, pos: usize) -> u64 {
        let (block, _) = self.block.expect("a region with contents has a block");
        block.offset + (pos - self.bias + self.start) as u64
    }

    /// The address of a position of this region, good until the next write.
    ///
    /// # Panics
    /// When nothing was written or reserved yet, or `pos` lies outside the region.
    #[inline]
    pub fn address(&mut self, pos: usize) -> NonNull<u8> {
        let (_, base) = self.block.expect("a region with contents has a block");
        let at = pos - self.bias + self.start;
        assert!(
            at >= self.start && at <= self.end,
            "position {pos} is outside the region"
        );
        // SAFETY: `at <= end`, which `ensure` keeps within the block that starts at `base`.
        unsafe { base.add(at) }
    }

    /// The block in use, if there is one.
    pub fn block(&self) -> Option<Block> {
        self.block.map(|(block, _)| block)
    }

    /// The reason of the last failed write, if it was a lack of memory.
    pub fn take_exhausted(&mut self) -> Option<OutOfMemory> {
        self.exhausted.take()
    }

    #[inline]
    fn ensure(&mut self, more: usize) -> Result<(), rancor::BoxedError> {
        match self.block {
            Some((block, _)) if self.end <= block.capacity && more <= block.capacity - self.end => Ok(()),
            _ => self.grow(more),
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) -> Result<(), rancor::BoxedError> {
        let written = self.end - self.start;
        let needed = self.bias + written + more;
        let old = self.block;
        let (new, base) = match self
            .supply
            .supply(needed, old.map(|(block, _)| (block, self.end + more)))
        {
            Ok(supplied) => supplied,
            Err(exhausted) => {
                self.exhausted = Some(exhausted);
                return Err(rancor::BoxedError::new(OutOfRoom(needed)));
            }
        };
        let grown_in_place = old.is_some_and(|(block, _)| block.offset == new.offset);
        if !grown_in_place {
            if let Some((block, from)) = old {
                if written > 0 {
                    // SAFETY: `written` bytes lie at `start` in the old block, the new one has `needed` bytes, and
                    // two blocks do not overlap; this process owns both.
                    unsafe {
                        from.add(self.start)
                            .copy_to_nonoverlapping(base.add(self.bias), written);
                    };
                }
                self.supply.retire(block);
            }
            self.start = self.bias;
            self.end = self.start + written;
        }
        self.block = Some((new, base));
        Ok(())
    }
}

impl Positional for Sink<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.end - self.start + self.bias
    }
}

impl Writer<rancor::BoxedError> for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), rancor::BoxedError> {
        self.ensure(bytes.len())?;
        if let Some((_, base)) = self.block {
            // SAFETY: `ensure` made room for `bytes` at `end`; the block is ours alone, so the slice cannot overlap it.
            unsafe {
                base.add(self.end)
                    .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
            };
        }
        self.end += bytes.len();
        Ok(())
    }
}

impl fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink")
            .field("block", &self.block)
            .field("start", &self.start)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct OutOfRoom(usize);

impl fmt::Display for OutOfRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no block of {} bytes to be had", self.0)
    }
}

impl std::error::Error for OutOfRoom {}
