//! A segment from which many processes allocate, and of which nothing is lost when one of them is killed.
//!
//! The truth is one word for each block, which names the block's holder; all else (caches, rotors, notes) is a hint.
//! A word changes by one CAS, or by a store of the process that it names. Payload pages hold no words.

// UNSAFETY: gives out addresses in the arena, and makes a slice of the header's root words.
#![expect(
    unsafe_code,
    reason = "addresses in shared memory; functions whose caller vouches for a block"
)]

mod cache;
mod census;
mod commit;
mod extent;
mod geometry;
mod roster;
mod slab;
mod sweep;
mod word;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

pub use self::census::{Census, Holding};

pub(crate) use self::geometry::{RECORD, header};

use self::cache::Cache;
use self::geometry::{CHUNK, CLASSES, Geometry, MAX_SMALL, class_for, class_size, layout_hash, magic};
use self::word::{Chunk, FREE};
use crate::owner::Tag;
use crate::{Mapping, OutOfMemory, Owner, Segment, fork_guard};

/// Freed memory that is kept for the next use: 256 MiB.
const WATERMARK: u64 = 256 << 20;

/// Shared memory from which the processes of a family allocate blocks.
///
/// A block is known by its offset, which means the same in every process, and belongs to an [`Owner`]: a process. It
/// stays allocated until it is freed, or until its owner is dead and [swept](Self::sweep). Up to 512 KiB a block is a
/// power of two of bytes and comes out of a cache that the process keeps; above that it is a whole number of MiB.
/// Memory is taken from the system before a block is handed out, so that running out of it is an error, not a SIGBUS.
///
/// Most programs use the arena of their [`family`](crate::family).
///
/// ```
/// use offspring_shm::Arena;
///
/// let arena = Arena::create(16 << 20)?;
/// let me = arena.reserve_child(None)?;
/// let block = arena.allocate(me, 1000)?;
/// assert_eq!(block.capacity, 1024);
/// let bytes = arena.pointer(block.offset, block.capacity)?;
/// // SAFETY: the block is this process's alone, and not used after it is freed.
/// unsafe {
///     bytes.write_bytes(7, block.capacity);
///     arena.free(block);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Arena {
    segment: Segment,
    mapping: Mapping,
    geometry: Geometry,
    /// The owner whose blocks are cached: this process's own, or 0. Set once, and again in a forked child.
    home: AtomicU32,
    cache: Cache,
    /// Hints: for each class the chunk and the place in it where blocks were found last.
    here: [AtomicUsize; CLASSES],
    cursors: [AtomicUsize; CLASSES],
}

/// A block of an arena: where it starts, counted from the start of the segment, and how many bytes it has.
///
/// It starts at a multiple of its size, or of the page size if that is less: at least of 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// The offset of its first byte; never 0.
    pub offset: u64,
    /// Its size, which is at least what was asked for.
    pub capacity: usize,
}

impl Arena {
    /// A new arena with room for `capacity` bytes, rounded up to whole MiB.
    ///
    /// This takes address space, and only a few pages of memory.
    ///
    /// # Errors
    /// When the capacity is 0 or there is no address space for it (`RLIMIT_AS`).
    pub fn create(capacity: usize) -> io::Result<Self> {
        let geometry = Geometry::new(capacity.div_ceil(CHUNK))?;
        let segment = Segment::anonymous("offspring-arena", geometry.total)?;
        segment.reserve(0..4096)?;
        let mapping = segment.map()?;
        let arena = Self::over(segment, mapping, geometry)?;
        arena.header(header::LAYOUT).store(layout_hash(), Relaxed);
        arena.header(header::CHUNKS).store(geometry.chunks as u64, Relaxed);
        arena.header(header::WATERMARK).store(WATERMARK, Relaxed);
        arena.header(header::NEXT_ID).store(1, Relaxed);
        arena.make_places_ready(1)?;
        arena.make_chunks_ready(1)?;
        arena.header(header::MAGIC).store(magic(), Release); // PAIRS: arena-made
        Ok(arena)
    }

    /// Maps an arena that another process made.
    ///
    /// # Errors
    /// When the descriptor is no sealed memfd, does not hold an arena of this version, or there is no address space.
    pub fn attach(fd: OwnedFd) -> io::Result<Self> {
        let segment = Segment::from_fd(fd)?;
        if segment.len() < 4096 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "this is no arena: it is too small for one",
            ));
        }
        let mapping = segment.map()?;
        if !mapping.is_writable() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "this is no arena: nobody may write it",
            ));
        }
        let magic = mapping.atomic(header::MAGIC).load(Acquire); // PAIRS: arena-made
        let layout = mapping.atomic(header::LAYOUT).load(Relaxed);
        let chunks = mapping.atomic(header::CHUNKS).load(Relaxed);
        let geometry = Geometry::of(magic, layout, chunks, segment.len())?;
        Self::over(segment, mapping, geometry)
    }

    fn over(segment: Segment, mapping: Mapping, geometry: Geometry) -> io::Result<Self> {
        // A core dump of gigabytes helps nobody; a kernel that cannot leave it out writes it.
        let _ = mapping.exclude_from_dumps();
        Ok(Self {
            segment,
            mapping,
            geometry,
            home: AtomicU32::new(0),
            cache: Cache::new()?,
            here: [const { AtomicUsize::new(usize::MAX) }; CLASSES],
            cursors: [const { AtomicUsize::new(0) }; CLASSES],
        })
    }

    /// Bytes of payload in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.geometry.chunks * CHUNK
    }

    /// Sets how many bytes of freed blocks above 512 KiB keep their memory for the next use; 256 MiB at first.
    ///
    /// Memory that was used before is 8 to 20 times as fast as fresh memory.
    pub fn set_watermark(&self, bytes: usize) {
        self.header(header::WATERMARK).store(bytes as u64, Relaxed);
    }

    /// A block of at least `len` bytes that belongs to `owner`; its contents are arbitrary.
    ///
    /// # Errors
    /// When there is no room, or the system has no memory; in a process that was forked behind the arena's back.
    #[inline]
    pub fn allocate(&self, owner: Owner, len: usize) -> Result<Block, OutOfMemory> {
        if len <= MAX_SMALL {
            self.allocate_small(owner, class_for(len), len)
        } else if self.is_home(owner.into()) && !fork_guard::is_original() {
            Err(OutOfMemory::forked(len))
        } else {
            self.allocate_extent(owner, len)
        }
    }

    /// The block made larger where it is, if it is large enough already or the memory after it is free.
    #[must_use]
    pub fn grow_in_place(&self, block: Block, len: usize) -> Option<Block> {
        let (chunk, within) = self.geometry.locate(block.offset)?;
        if chunk >= self.ready_chunks() {
            return None;
        }
        // PAIRS: chunk-word
        match Chunk::decode(self.chunk(chunk).load(Acquire)) {
            Chunk::Slab { class } => {
                let capacity = class_size(class);
                (within % capacity == 0 && len <= capacity).then_some(Block {
                    offset: block.offset,
                    capacity,
                })
            }
            Chunk::Head { .. } if within == 0 => self.grow_extent(chunk, len),
            _ => None,
        }
    }

    /// Gives a block back. False when the arena's words do not say that it is in use: nothing was done then.
    ///
    /// A process frees what belongs to it, also what was transferred to it.
    ///
    /// # Safety
    /// The block is in use, belongs to this process (or to a tag for which this process answers), and nobody accesses it
    /// any more or frees it again.
    #[inline]
    pub unsafe fn free(&self, block: Block) -> bool {
        match self.find(block.offset) {
            // A shared value frees its block itself.
            Some(found) if found.tag.owner().is_some() => self.free_found(block.offset, &found),
            _ => false,
        }
    }

    /// Frees the block at `offset` if `tag` holds it; the caller answers for `tag`.
    pub(crate) fn free_held(&self, offset: u64, tag: Tag) -> bool {
        self.find(offset)
            .is_some_and(|found| found.tag == tag && self.free_found(offset, &found))
    }

    #[inline]
    fn free_found(&self, offset: u64, found: &Found) -> bool {
        let &Found { tag, chunk, size } = found;
        let home = self.is_home(tag);
        if home && !fork_guard::is_original() {
            return false;
        }
        match size {
            Size::Small { class, .. } if home => self.keep(class, offset),
            Size::Extent { len } => self.release_extent(chunk, tag, len),
            Size::Small { index, .. } => {
                // PAIRS: block-word
                let freed = self
                    .block(chunk, index)
                    .compare_exchange(word::held(tag), FREE, AcqRel, Relaxed)
                    .is_ok();
                self.vacancy(chunk).store(1, Relaxed);
                return freed;
            }
        }
        true
    }

    /// Hands a block over from one owner to another by one CAS. False when it does not belong to `from`.
    ///
    /// # Safety
    /// Who acts for `from` stops using the block, unless it knows that `to` will neither write nor free it, and `to` was
    /// not released.
    pub unsafe fn transfer(&self, block: Block, from: Owner, to: Owner) -> bool {
        self.hand_over(block.offset, from.into(), to.into())
    }

    pub(crate) fn hand_over(&self, offset: u64, from: Tag, to: Tag) -> bool {
        let Some(Found { chunk, size, .. }) = self.find(offset).filter(|found| found.tag == from) else {
            return false;
        };
        let (word, old, new) = match size {
            Size::Small { index, .. } => (self.block(chunk, index), word::held(from), word::held(to)),
            Size::Extent { len } => (self.chunk(chunk), word::head(from, len), word::head(to, len)),
        };
        // PAIRS: block-word
        word.compare_exchange(old, new, AcqRel, Relaxed).is_ok()
    }

    /// As [`hand_over`](Self::hand_over), and says which block it was.
    pub(crate) fn hand_out(&self, offset: u64, from: Tag, to: Tag) -> Option<Block> {
        let capacity = self.capacity_held(offset, from)?;
        self.hand_over(offset, from, to).then_some(Block { offset, capacity })
    }

    /// The size of the block at `offset`, if `tag` holds it.
    pub(crate) fn capacity_held(&self, offset: u64, tag: Tag) -> Option<usize> {
        let found = self.find(offset).filter(|found| found.tag == tag)?;
        Some(match found.size {
            Size::Small { class, .. } => class_size(class),
            Size::Extent { len } => len * CHUNK,
        })
    }

    /// Who holds the block that starts at `offset`; `None` when none does, and for shared values, which no process owns.
    #[must_use]
    pub fn owner_of(&self, offset: u64) -> Option<Owner> {
        self.find(offset)?.tag.owner()
    }

    /// The address of `len` bytes at `offset`, in this process.
    ///
    /// # Errors
    /// When the bytes do not lie in the arena, or no block was ever there: the offset is garbage. Whether a block that is
    /// there now is meant by the offset is for the caller to know.
    #[inline]
    pub fn pointer(&self, offset: u64, len: usize) -> io::Result<NonNull<u8>> {
        if !self.is_backed(offset, len) {
            return Err(outside(offset, len));
        }
        // SAFETY: `is_backed` says that the offset lies in the mapping.
        Ok(unsafe { self.mapping.as_ptr().add(offset as usize) })
    }

    /// Words for the crates above, which publish the offsets of what they put into the arena; slot 0 is
    /// offspring-sync's.
    #[must_use]
    pub fn roots(&self) -> &[AtomicU64; 16] {
        const { assert!(header::ROOTS + 16 * 8 <= header::NOTES) };
        // SAFETY: 16 aligned words in the header, which is always committed and accessed as atomics only.
        unsafe {
            self.mapping
                .as_ptr()
                .add(header::ROOTS)
                .cast::<[AtomicU64; 16]>()
                .as_ref()
        }
    }

    /// Whether memory was taken for all of these bytes; reading them is no SIGBUS then.
    #[inline]
    fn is_backed(&self, offset: u64, len: usize) -> bool {
        let Some((first, within)) = self.geometry.locate(offset) else {
            return false;
        };
        let Some(end) = within.checked_add(len) else {
            return false;
        };
        if end <= CHUNK {
            return first < self.ready_chunks() && self.has_memory(first, within..end);
        }
        let chunks = end.div_ceil(CHUNK);
        chunks <= self.ready_chunks().saturating_sub(first)
            && (0..chunks).all(|step| {
                let start = if step == 0 { within } else { 0 };
                self.has_memory(first + step, start..(end - step * CHUNK).min(CHUNK))
            })
    }

    /// The block in use that starts at `offset`.
    #[inline]
    fn find(&self, offset: u64) -> Option<Found> {
        let (chunk, within) = self.geometry.locate(offset)?;
        if chunk >= self.ready_chunks() {
            return None;
        }
        // PAIRS: chunk-word
        match Chunk::decode(self.chunk(chunk).load(Acquire)) {
            Chunk::Slab { class } => {
                let index = within / class_size(class);
                if within % class_size(class) != 0 || index >= self.usable_block_words(chunk) {
                    return None;
                }
                let tag = word::holder(self.block(chunk, index).load(Acquire))?; // PAIRS: block-word
                Some(Found {
                    tag,
                    chunk,
                    size: Size::Small { class, index },
                })
            }
            Chunk::Head { tag, len } if within == 0 => Some(Found {
                tag,
                chunk,
                size: Size::Extent { len },
            }),
            _ => None,
        }
    }

    /// Makes `owner` the one whose blocks are cached: the tag of this process.
    ///
    /// # Safety
    /// `owner` was reserved for this process, and no other thread uses the arena now.
    pub(crate) unsafe fn settle(&self, owner: Owner) {
        // Where there was no owner nothing was cached, and to look for it would touch every page of the cache.
        if self.home().is_some() {
            // SAFETY: no other thread uses the arena.
            unsafe { self.cache.forget() };
        }
        self.home.store(owner.raw(), Relaxed);
    }

    pub(crate) fn home(&self) -> Option<Owner> {
        Owner::from_raw(self.home.load(Relaxed))
    }

    #[inline]
    fn is_home(&self, tag: Tag) -> bool {
        self.home.load(Relaxed) == tag.raw()
    }

    fn full(&self, requested: usize) -> OutOfMemory {
        OutOfMemory::full(requested, self.in_use(), self.capacity())
    }

    fn no_memory(&self, requested: usize, error: io::Error) -> OutOfMemory {
        OutOfMemory::commit(requested, self.in_use(), self.capacity(), error)
    }

    pub(crate) fn header(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset < 4096);
        self.mapping.atomic(offset)
    }

    #[inline]
    fn chunk(&self, chunk: usize) -> &AtomicU64 {
        debug_assert!(chunk < self.geometry.chunks);
        self.mapping.atomic(self.geometry.chunk_words_at + chunk * 8)
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

impl AsFd for Arena {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.segment.as_fd()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // Others may still have the arena mapped.
        self.flush();
    }
}

/// A block in use.
struct Found {
    tag: Tag,
    chunk: usize,
    size: Size,
}

#[derive(Clone, Copy)]
enum Size {
    Small {
        class: usize,
        index: usize,
    },
    /// Of so many chunks.
    Extent {
        len: usize,
    },
}

#[cold]
fn outside(offset: u64, len: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{len} bytes at offset {offset:#x} are no part of any block of the shared arena"),
    )
}
