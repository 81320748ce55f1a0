//! Where everything lies in an arena's segment.
//!
//! ```text
//! header | roster | chunk words | commit words | vacancy hints | block words | records | payload, 1 MiB chunks
//! ```
//!
//! Payload pages hold payload only. The control area is sparse: an array's memory is taken when its entries are first
//! needed, and a counter in the header (`ready_*`) says how far an array may be touched.

use std::io;

use crate::fork_guard::page_size;
use crate::owner::{PLACES, Tag};

/// The unit of extents, and what small blocks are cut from.
pub(crate) const CHUNK: usize = 1 << 20;
/// Memory is taken from the system in steps of this size within a chunk.
pub(super) const STEP: usize = 64 << 10;
/// The smallest block is 256 bytes.
pub(super) const MIN_SHIFT: u32 = 8;
/// Sizes of small blocks: powers of two from 256 bytes to 512 KiB.
pub(super) const CLASSES: usize = 12;
/// The largest small block.
pub(super) const MAX_SMALL: usize = 1 << (MIN_SHIFT as usize + CLASSES - 1);
/// Block words of one chunk, enough for the smallest blocks.
pub(super) const BLOCK_WORDS: usize = CHUNK >> MIN_SHIFT;
/// Block words are committed in parts of this many.
pub(super) const WORDS_PER_PART: usize = 512;

/// A place of the roster: four words.
pub(super) const PLACE: usize = 32;
/// A record of a shared value: eight words and one bit for each place of the roster.
pub(crate) const RECORD: usize = 64 + PLACES / 8;

/// Entries of the chunk arrays are made ready in steps of this many: one page for each array.
pub(super) const CHUNK_STEP: usize = 512;
pub(super) const PLACE_STEP: usize = 128;
pub(super) const RECORD_STEP: usize = 64;

/// Offsets of the words of the header.
pub(crate) mod header {
    /// Says that this is an arena; written last by its creator.
    pub(crate) const MAGIC: usize = 0;
    /// Version and sizes; see `layout_hash`.
    pub(crate) const LAYOUT: usize = 8;
    /// Chunks in all. Constant.
    pub(crate) const CHUNKS: usize = 16;
    /// Entries of an array that may be touched. These only grow, and only after the memory was taken.
    pub(crate) const READY_CHUNKS: usize = 32;
    pub(crate) const READY_RECORDS: usize = 40;
    pub(crate) const READY_PLACES: usize = 48;
    /// Bytes of freed extents that may stay committed.
    pub(crate) const WATERMARK: usize = 56;
    /// Hint: bytes of free chunks that are committed.
    pub(crate) const WARM: usize = 64;
    /// Hint: no chunk below this one is free.
    pub(crate) const FIRST_FREE: usize = 72;
    /// Hint: where the next note about a freed extent goes.
    pub(crate) const NOTE_ROTOR: usize = 80;
    /// Hint: where the search for a free place of the roster starts.
    pub(crate) const PLACE_ROTOR: usize = 88;
    /// Hint: where the search for an empty record starts.
    pub(crate) const RECORD_ROTOR: usize = 96;
    /// The next identity of a shared value.
    pub(crate) const NEXT_ID: usize = 104;
    /// 16 words for the crates above.
    pub(crate) const ROOTS: usize = 128;
    /// 16 hints about freed extents: first chunk and length.
    pub(crate) const NOTES: usize = 256;
    pub(crate) const NOTE_COUNT: usize = 16;
}

const MAGIC: u64 = u64::from_le_bytes(*b"offsprng");
const VERSION: u64 = 1;

/// The offsets that follow from the number of chunks; private to each process, so that garbage in the header of a
/// running arena cannot mislead it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) chunks: usize,
    /// Records of shared values in all.
    pub(crate) records: usize,
    pub(super) roster_at: usize,
    pub(super) chunk_words_at: usize,
    pub(super) commit_words_at: usize,
    pub(super) vacancies_at: usize,
    pub(super) block_words_at: usize,
    pub(crate) records_at: usize,
    pub(super) payload_at: usize,
    pub(super) total: usize,
}

impl Geometry {
    pub(super) fn new(chunks: usize) -> io::Result<Self> {
        let too_large = || io::Error::new(io::ErrorKind::InvalidInput, "an arena cannot be that large");
        // Chunk numbers and lengths have 32 bits in a chunk word.
        if chunks == 0 || chunks >= 1 << 31 {
            return Err(too_large());
        }
        let mut end = 4096_usize;
        let mut place = |bytes: usize, align: usize| {
            let at = end.next_multiple_of(align);
            end = at + bytes;
            at
        };
        let page = page_size().max(4096);
        // A small arena needs fewer records, and may live in an address space with a limit.
        let records = Tag::MAX_RECORD.min(chunks * 128);
        let roster_at = place(PLACES * PLACE, page);
        let chunk_words_at = place(chunks * 8, page);
        let commit_words_at = place(chunks * 8, page);
        let vacancies_at = place(chunks * 8, page);
        let block_words_at = place(chunks * BLOCK_WORDS * 8, page);
        let records_at = place((records + 1) * RECORD, page);
        let payload_at = place(chunks * CHUNK, CHUNK);
        Ok(Self {
            chunks,
            records,
            roster_at,
            chunk_words_at,
            commit_words_at,
            vacancies_at,
            block_words_at,
            records_at,
            payload_at,
            total: end,
        })
    }

    /// The geometry whose total is `total` and that an arena's header names, if the two agree.
    pub(super) fn of(magic: u64, layout: u64, chunks: u64, total: usize) -> io::Result<Self> {
        let refuse = |why: &str| {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("this is no arena: {why}"),
            ))
        };
        if magic != MAGIC {
            return refuse("its first word is not an arena's");
        }
        if layout != layout_hash() {
            return refuse("it was made by another version of this library, or on another kind of machine");
        }
        match usize::try_from(chunks).ok().and_then(|chunks| Self::new(chunks).ok()) {
            Some(geometry) if geometry.total == total => Ok(geometry),
            _ => refuse("its size is not the one that its header names"),
        }
    }

    /// Where each array of control words begins, and where the last one ends.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn arrays(&self) -> [usize; 8] {
        [
            0,
            self.roster_at,
            self.chunk_words_at,
            self.commit_words_at,
            self.vacancies_at,
            self.block_words_at,
            self.records_at,
            self.payload_at,
        ]
    }

    /// The chunk that holds the byte at `offset` of the segment, and the offset in it.
    #[inline]
    pub(super) fn locate(&self, offset: u64) -> Option<(usize, usize)> {
        let at = usize::try_from(offset).ok()?.checked_sub(self.payload_at)?;
        let chunk = at / CHUNK;
        (chunk < self.chunks).then_some((chunk, at % CHUNK))
    }

    /// The offset in the segment of the first byte of a chunk.
    #[inline]
    pub(super) fn payload(&self, chunk: usize) -> usize {
        self.payload_at + chunk * CHUNK
    }
}

pub(super) fn magic() -> u64 {
    MAGIC
}

/// One number for all that both sides of an arena must agree on.
pub(super) fn layout_hash() -> u64 {
    let parts = [
        VERSION,
        page_size() as u64,
        size_of::<usize>() as u64,
        PLACE as u64,
        RECORD as u64,
        CHUNK as u64,
    ];
    // FNV-1a over the words' bytes; a different byte order gives a different hash too.
    parts
        .iter()
        .flat_map(|part| part.to_ne_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The class of small blocks for `len` bytes, which are at most [`MAX_SMALL`].
#[inline]
pub(super) fn class_for(len: usize) -> usize {
    let shift = len.max(1).next_power_of_two().trailing_zeros().max(MIN_SHIFT);
    (shift - MIN_SHIFT) as usize
}

/// The size of the blocks of a class.
#[inline]
pub(super) fn class_size(class: usize) -> usize {
    1 << (MIN_SHIFT as usize + class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_fit() {
        for len in (0..=MAX_SMALL)
            .step_by(97)
            .chain([1, 255, 256, 257, 512, MAX_SMALL - 1, MAX_SMALL])
        {
            let class = class_for(len);
            assert!(class < CLASSES && class_size(class) >= len, "{len}");
            assert!(
                class == 0 || class_size(class - 1) < len,
                "{len} would fit a smaller class"
            );
        }
    }

    #[test]
    fn a_header_that_does_not_fit_is_refused() {
        let geometry = Geometry::new(64).unwrap();
        let check = |magic, layout, chunks, total| Geometry::of(magic, layout, chunks, total).is_ok();
        assert!(check(MAGIC, layout_hash(), 64, geometry.total));
        assert!(!check(0, layout_hash(), 64, geometry.total));
        assert!(!check(MAGIC, 0, 64, geometry.total));
        for chunks in [0, 63, 65, u64::MAX, 1 << 40] {
            assert!(!check(MAGIC, layout_hash(), chunks, geometry.total), "{chunks}");
        }
    }
}
