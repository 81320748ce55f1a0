//! Blocks above 512 KiB: runs of chunks, without a lock.
//!
//! A claim takes the head first, `HEAD(owner, 1)`, then each further chunk, `CONT(owner, distance)`, and last stores the
//! head's true length. Giving back goes the other way: from the tail to the head, the head last. So at any instant the
//! head names the one who holds the extent, and these hold:
//!
//! 1. `CONT(x, d)` is only ever written by x, and only while x holds the head at distance d before it.
//! 2. A head that is free, or shorter than d, does not cover the chunk at distance d. Such a chunk is part of a claim in
//!    the making, or an *orphan*: what a claim cut off by death left behind.
//! 3. An orphan is never covered by a later extent from the same head: that extent's claim would have to find the
//!    orphan's word free. So `CONT(x, d)` that no head covers, with x dead, is rubbish and stays rubbish until freed.
//!
//! The words after a head keep the claimer's tag when the extent is handed on: who holds it is the head's matter alone.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::{io, thread};

use super::geometry::{CHUNK, header};
use super::word::{self, Chunk, FREE};
use super::{Arena, Block};
use crate::owner::Tag;
use crate::{OutOfMemory, Owner};

/// How often a search is repeated that failed only because others were claiming at the same time.
const ATTEMPTS: usize = 64;

/// The outcome of a search.
enum Search {
    Found(usize),
    /// Somebody took a chunk that had just been free: there may be room when they are done.
    Disturbed,
    Full,
}

impl Arena {
    pub(super) fn allocate_extent(&self, owner: Owner, len: usize) -> Result<Block, OutOfMemory> {
        let count = len.div_ceil(CHUNK);
        if count > self.geometry.chunks {
            return Err(self.full(len));
        }
        let start = match self.claim(owner.into(), count) {
            Ok(Some(start)) => start,
            Ok(None) => return Err(self.full(len)),
            Err(error) => return Err(self.no_memory(len, error)),
        };
        match self.commit_chunks(start..start + count) {
            Ok(warm) => self.cool(warm * CHUNK),
            Err(error) => {
                self.release_extent(start, owner.into(), count);
                return Err(self.no_memory(len, error));
            }
        }
        Ok(Block {
            offset: self.geometry.payload(start) as u64,
            capacity: count * CHUNK,
        })
    }

    /// Takes `count` chunks in a row, best those that were freed last.
    fn claim(&self, tag: Tag, count: usize) -> io::Result<Option<usize>> {
        match self.claim_noted(tag, count) {
            Some(start) => Ok(Some(start)),
            None => self.claim_lowest(tag, count),
        }
    }

    /// Takes the first `count` chunks in a row that are free.
    pub(super) fn claim_lowest(&self, tag: Tag, count: usize) -> io::Result<Option<usize>> {
        if let found @ Some(_) = self.claim_patiently(tag, count)? {
            return Ok(found);
        }
        // What is left are chunks that are cut into small blocks of which none is in use.
        self.flush();
        if let Some(owner) = tag.owner()
            && self.retire_empty_slabs(owner) > 0
        {
            return self.claim_patiently(tag, count);
        }
        Ok(None)
    }

    fn claim_patiently(&self, tag: Tag, count: usize) -> io::Result<Option<usize>> {
        for _ in 0..ATTEMPTS {
            let hint = self.header(header::FIRST_FREE).load(Relaxed);
            let hint = usize::try_from(hint).unwrap_or(0).min(self.geometry.chunks);
            let mut found = self.search(tag, count, hint)?;
            if matches!(found, Search::Full) && hint > 0 {
                found = self.search(tag, count, 0)?;
            }
            match found {
                Search::Found(start) => return Ok(Some(start)),
                Search::Disturbed => thread::yield_now(),
                Search::Full => return Ok(None),
            }
        }
        Ok(None)
    }

    /// First fit from chunk `from`: low chunks are more likely to be warm, and keep the control area short.
    fn search(&self, tag: Tag, count: usize, from: usize) -> io::Result<Search> {
        let mut ready = self.ready_chunks();
        let mut disturbed = false;
        let mut first_free = None;
        let (mut run, mut at) = (0, from);
        while at - run + count <= self.geometry.chunks {
            if at >= ready {
                self.make_chunks_ready(at - run + count)?;
                ready = self.ready_chunks();
            }
            if self.chunk(at).load(Relaxed) != FREE {
                run = 0;
                at += 1;
                continue;
            }
            first_free.get_or_insert(at);
            run += 1;
            at += 1;
            if run < count {
                continue;
            }
            let start = at - count;
            match self.claim_at(start, count, tag) {
                Ok(()) => {
                    if first_free == Some(start) {
                        self.header(header::FIRST_FREE).store((start + count) as u64, Relaxed);
                    }
                    return Ok(Search::Found(start));
                }
                Err(taken) => {
                    disturbed = true;
                    run = 0;
                    at = taken + 1;
                }
            }
        }
        Ok(if disturbed { Search::Disturbed } else { Search::Full })
    }

    /// Takes exactly the chunks from `start`, or none of them and says which one somebody else has.
    fn claim_at(&self, start: usize, count: usize, tag: Tag) -> Result<(), usize> {
        let head = self.chunk(start);
        // PAIRS: chunk-word
        head.compare_exchange(FREE, word::head(tag, 1), AcqRel, Relaxed)
            .map_err(|_| start)?;
        if let Err(taken) = self.claim_further(start, 1..count, tag) {
            head.store(FREE, Release); // PAIRS: chunk-word
            return Err(taken);
        }
        if count > 1 {
            head.store(word::head(tag, count), Release); // PAIRS: chunk-word
        }
        Ok(())
    }

    /// Takes the chunks at these distances from a head that the caller holds, or none of them.
    fn claim_further(&self, start: usize, distances: std::ops::Range<usize>, tag: Tag) -> Result<(), usize> {
        for distance in distances.clone() {
            let next = self.chunk(start + distance);
            // PAIRS: chunk-word
            if next
                .compare_exchange(FREE, word::cont(tag, distance), AcqRel, Relaxed)
                .is_err()
            {
                self.drop_further(start, distances.start..distance, tag);
                return Err(start + distance);
            }
        }
        Ok(())
    }

    /// Undoes [`claim_further`](Self::claim_further), from the tail.
    fn drop_further(&self, start: usize, distances: std::ops::Range<usize>, tag: Tag) {
        for distance in distances.rev() {
            debug_assert_eq!(self.chunk(start + distance).load(Relaxed), word::cont(tag, distance));
            self.chunk(start + distance).store(FREE, Release); // PAIRS: chunk-word
        }
    }

    /// Gives back an extent whose head word says `HEAD(tag, len)`; only one thread of all processes does this for it.
    ///
    /// Whoever dies in here leaves a head that still says what it said, over a tail of which some chunks are free or have
    /// gone to others. The next holder of the head tells those apart by their distance, as another extent's chunk has
    /// another head; and since giving back goes from the tail to the head, the first such chunk ends what is left.
    pub(super) fn release_extent(&self, start: usize, tag: Tag, len: usize) {
        let end = self.extent_end(start, len);
        let keep = self.warm_up(end - start);
        // While all its chunks are still held. An error means that the memory stays taken: it is used again with the chunk.
        let _ = self.uncommit_chunks(start + keep..end);
        for at in (start + 1..end).rev() {
            let word = self.chunk(at).load(Relaxed);
            if is_at(word, at - start) {
                // PAIRS: chunk-word
                let _ = self.chunk(at).compare_exchange(word, FREE, AcqRel, Relaxed);
            }
        }
        // PAIRS: chunk-word
        let _ = self
            .chunk(start)
            .compare_exchange(word::head(tag, len), FREE, AcqRel, Relaxed);
        self.header(header::FIRST_FREE).fetch_min(start as u64, Relaxed);
        if keep > 0 {
            self.note_free(start, keep);
        }
    }

    /// Where the chunks end that belong to the extent at `start`, which is `len` chunks long if it is whole.
    pub(super) fn extent_end(&self, start: usize, len: usize) -> usize {
        let limit = (start + len).min(self.ready_chunks()).max(start + 1);
        (start + 1..limit)
            .find(|&at| !is_at(self.chunk(at).load(Relaxed), at - start))
            .unwrap_or(limit)
    }

    /// The extent at `start` made longer, if the chunks after it are free.
    pub(super) fn grow_extent(&self, start: usize, needed: usize) -> Option<Block> {
        let word = self.chunk(start).load(Acquire); // PAIRS: chunk-word
        let Chunk::Head { tag, len } = Chunk::decode(word) else {
            return None;
        };
        let count = needed.div_ceil(CHUNK);
        let block = |count: usize| Block {
            offset: self.geometry.payload(start) as u64,
            capacity: count * CHUNK,
        };
        if count <= len {
            return (start + len <= self.geometry.chunks).then(|| block(len));
        }
        // A shared value's extent does not grow: its readers know its length.
        tag.owner()?;
        if start + count > self.geometry.chunks || self.make_chunks_ready(start + count).is_err() {
            return None;
        }
        self.claim_further(start, len..count, tag).ok()?;
        let committed = self.commit_chunks(start + len..start + count);
        // PAIRS: chunk-word
        let done = committed.is_ok()
            && self
                .chunk(start)
                .compare_exchange(word, word::head(tag, count), AcqRel, Relaxed)
                .is_ok();
        match committed {
            Ok(warm) if done => {
                self.cool(warm * CHUNK);
                Some(block(count))
            }
            _ => {
                self.drop_further(start, len..count, tag);
                None
            }
        }
    }

    /// Says how many of `count` chunks that become free may keep their memory, and counts it as warm.
    fn warm_up(&self, count: usize) -> usize {
        let watermark = self.header(header::WATERMARK).load(Relaxed);
        let mut keep = 0;
        let _ = self.header(header::WARM).fetch_update(Relaxed, Relaxed, |warm| {
            keep = (watermark.saturating_sub(warm) / CHUNK as u64).min(count as u64);
            Some(warm + keep * CHUNK as u64)
        });
        keep as usize
    }

    /// Counts warm memory that is in use again.
    pub(super) fn cool(&self, bytes: usize) {
        if bytes > 0 {
            let _ = self
                .header(header::WARM)
                .fetch_update(Relaxed, Relaxed, |warm| Some(warm.saturating_sub(bytes as u64)));
        }
    }

    /// Notes a run of warm free chunks for the next who needs one of that length.
    fn note_free(&self, start: usize, len: usize) {
        let place = self.header(header::NOTE_ROTOR).fetch_add(1, Relaxed) as usize % header::NOTE_COUNT;
        self.note(place).store((len as u64) << 32 | start as u64, Relaxed);
    }

    /// Takes a run that was noted: the shortest that is long enough. A note that is out of date costs a failed claim.
    fn claim_noted(&self, tag: Tag, count: usize) -> Option<usize> {
        let length = |note: u64| (note >> 32) as usize;
        let candidates = || {
            let notes = (0..header::NOTE_COUNT).map(|place| (place, self.note(place).load(Relaxed)));
            notes
                .filter(|&(_, note)| length(note) >= count)
                .min_by_key(|&(_, note)| length(note))
        };
        for _ in 0..2 {
            let (place, note) = candidates()?;
            let start = note as u32 as usize;
            let rest = match length(note) - count {
                0 => 0,
                rest => (rest as u64) << 32 | (start + count) as u64,
            };
            // Who changes the note has it: two who want the same run need not meet at its chunks.
            if self.note(place).compare_exchange(note, rest, Relaxed, Relaxed).is_err() {
                continue;
            }
            if start + count <= self.ready_chunks() && self.claim_at(start, count, tag).is_ok() {
                return Some(start);
            }
            let _ = self.note(place).compare_exchange(rest, 0, Relaxed, Relaxed);
        }
        None
    }

    fn note(&self, place: usize) -> &std::sync::atomic::AtomicU64 {
        self.header(header::NOTES + place * 8)
    }
}

/// Whether a chunk word says that its extent starts `distance` chunks before it.
fn is_at(word: u64, distance: usize) -> bool {
    matches!(Chunk::decode(word), Chunk::Cont { distance: found, .. } if found == distance)
}
