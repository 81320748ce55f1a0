//! Taking memory from the system before it is touched.
//!
//! A page of a memfd that the system has no memory for is a SIGBUS when it is touched, but an error when it is asked for
//! with `fallocate`. So nothing is handed out, and no control word is read, before its pages were asked for. What was
//! taken is noted after it was taken; who dies in between leaves memory that is asked for once more, which is harmless.

use std::io;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::Arena;
use super::geometry::{CHUNK, CHUNK_STEP, PLACE, PLACE_STEP, RECORD, RECORD_STEP, STEP, WORDS_PER_PART, header};
use crate::owner::PLACES;

/// Bits of a commit word: 16 steps of payload, then 8 parts of block words.
pub(super) const PAYLOAD: u64 = (1 << (CHUNK / STEP)) - 1;
const PARTS_SHIFT: u32 = (CHUNK / STEP) as u32;

impl Arena {
    /// Makes the words of all chunks below `needed` usable.
    pub(super) fn make_chunks_ready(&self, needed: usize) -> io::Result<()> {
        let geometry = &self.geometry;
        if needed > geometry.chunks {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a chunk beyond the end of the arena",
            ));
        }
        let arrays = [geometry.chunk_words_at, geometry.commit_words_at, geometry.vacancies_at];
        self.make_ready(header::READY_CHUNKS, needed, geometry.chunks, CHUNK_STEP, &arrays, 8)
    }

    /// Makes the places of the roster below `needed` usable.
    pub(super) fn make_places_ready(&self, needed: usize) -> io::Result<()> {
        self.make_ready(
            header::READY_PLACES,
            needed,
            PLACES,
            PLACE_STEP,
            &[self.geometry.roster_at],
            PLACE,
        )
    }

    /// Makes the records of shared values below `needed` usable.
    pub(crate) fn make_records_ready(&self, needed: usize) -> io::Result<()> {
        let all = self.geometry.records + 1;
        self.make_ready(
            header::READY_RECORDS,
            needed,
            all,
            RECORD_STEP,
            &[self.geometry.records_at],
            RECORD,
        )
    }

    pub(super) fn ready_chunks(&self) -> usize {
        self.ready(header::READY_CHUNKS, self.geometry.chunks)
    }

    pub(super) fn ready_places(&self) -> usize {
        self.ready(header::READY_PLACES, PLACES)
    }

    pub(crate) fn ready_records(&self) -> usize {
        self.ready(header::READY_RECORDS, self.geometry.records + 1)
    }

    /// A counter of entries that may be touched, cut down to what exists.
    fn ready(&self, counter: usize, limit: usize) -> usize {
        // PAIRS: entries-ready
        usize::try_from(self.header(counter).load(Acquire))
            .unwrap_or(usize::MAX)
            .min(limit)
    }

    fn make_ready(
        &self,
        counter: usize,
        needed: usize,
        limit: usize,
        step: usize,
        arrays: &[usize],
        entry: usize,
    ) -> io::Result<()> {
        let ready = self.ready(counter, limit);
        if needed <= ready {
            return Ok(());
        }
        // Doubling keeps the number of searches through all that is ready small.
        let target = needed.max(ready * 2).next_multiple_of(step).min(limit);
        for &array in arrays {
            let page = crate::fork_guard::page_size();
            let end = (array + target * entry)
                .next_multiple_of(page)
                .min(self.geometry.payload_at);
            self.segment.reserve(array + ready * entry..end)?;
        }
        // PAIRS: entries-ready
        self.header(counter).fetch_max(target as u64, AcqRel);
        Ok(())
    }

    /// Takes memory for `bytes` of a chunk's payload.
    #[inline]
    pub(super) fn commit_within(&self, chunk: usize, bytes: Range<usize>) -> io::Result<()> {
        let steps = bytes.start / STEP..bytes.end.div_ceil(STEP);
        if self.has_memory(chunk, bytes) {
            return Ok(());
        }
        let payload = self.geometry.payload(chunk);
        self.segment
            .reserve(payload + steps.start * STEP..payload + steps.end * STEP)?;
        // PAIRS: memory-committed
        self.committed(chunk).fetch_or(mask(steps), AcqRel);
        Ok(())
    }

    /// Whether these bytes of a chunk's payload have memory.
    #[inline]
    pub(super) fn has_memory(&self, chunk: usize, bytes: Range<usize>) -> bool {
        let mask = mask(bytes.start / STEP..bytes.end.div_ceil(STEP));
        // PAIRS: memory-committed
        self.committed(chunk).load(Acquire) & mask == mask
    }

    /// Takes memory for whole chunks and says how many of them had it already.
    pub(super) fn commit_chunks(&self, chunks: Range<usize>) -> io::Result<usize> {
        let mut warm = 0;
        let mut at = chunks.start;
        while at < chunks.end {
            if self.is_committed(at) {
                warm += 1;
                at += 1;
                continue;
            }
            // One call for all neighbours that lack it, up to a length after which progress is noted.
            let mut end = at + 1;
            while end < chunks.end && end - at < 64 && !self.is_committed(end) {
                end += 1;
            }
            self.segment
                .reserve(self.geometry.payload(at)..self.geometry.payload(end))?;
            for chunk in at..end {
                // PAIRS: memory-committed
                self.committed(chunk).fetch_or(PAYLOAD, AcqRel);
            }
            at = end;
        }
        Ok(warm)
    }

    /// Gives the memory of whole chunks back to the system; the caller holds them.
    pub(super) fn uncommit_chunks(&self, chunks: Range<usize>) -> io::Result<()> {
        if chunks.is_empty() {
            return Ok(());
        }
        // The note goes first: who dies in between leaves memory that nobody counts on.
        for chunk in chunks.clone() {
            self.committed(chunk).fetch_and(!PAYLOAD, AcqRel);
        }
        self.segment
            .release(self.geometry.payload(chunks.start)..self.geometry.payload(chunks.end))
    }

    fn is_committed(&self, chunk: usize) -> bool {
        // PAIRS: memory-committed
        self.committed(chunk).load(Acquire) & PAYLOAD == PAYLOAD
    }

    /// Takes memory for the first `count` block words of a chunk.
    pub(super) fn commit_block_words(&self, chunk: usize, count: usize) -> io::Result<()> {
        let parts = count.div_ceil(WORDS_PER_PART);
        let mask = mask(0..parts) << PARTS_SHIFT;
        // PAIRS: memory-committed
        if self.committed(chunk).load(Acquire) & mask == mask {
            return Ok(());
        }
        let first = self.geometry.block_words_at + chunk * super::geometry::BLOCK_WORDS * 8;
        self.segment.reserve(first..first + parts * WORDS_PER_PART * 8)?;
        // PAIRS: memory-committed
        self.committed(chunk).fetch_or(mask, AcqRel);
        Ok(())
    }

    /// How many block words of a chunk may be touched.
    pub(super) fn usable_block_words(&self, chunk: usize) -> usize {
        // PAIRS: memory-committed
        let parts = self.committed(chunk).load(Acquire) >> PARTS_SHIFT & 0xff;
        parts.trailing_ones() as usize * WORDS_PER_PART
    }

    /// The number of bytes of payload that are committed, in free chunks or in use.
    pub(super) fn committed_bytes(&self) -> usize {
        let steps = |chunk| (self.committed(chunk).load(Relaxed) & PAYLOAD).count_ones() as usize;
        (0..self.ready_chunks()).map(steps).sum::<usize>() * STEP
    }

    pub(super) fn committed(&self, chunk: usize) -> &AtomicU64 {
        debug_assert!(chunk < self.geometry.chunks);
        self.mapping.atomic(self.geometry.commit_words_at + chunk * 8)
    }
}

fn mask(bits: Range<usize>) -> u64 {
    ((1 << (bits.end - bits.start)) - 1) << bits.start
}
