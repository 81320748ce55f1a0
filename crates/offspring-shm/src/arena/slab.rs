//! Blocks up to 512 KiB: chunks cut into blocks of one size.
//!
//! A block is taken by one CAS on its word and given back by one store of whoever holds it. A chunk becomes a slab, and
//! an empty slab a chunk again, by way of an extent of length 1, so that it always has a holder in between.
//!
//! Taking a block of a chunk that is just being given up: the taker reads `SLAB`, the retirer takes all blocks, changes
//! the chunk's word and clears the block words; only then the taker's CAS succeeds. It read what the retirer wrote
//! after the chunk's word, so looking at the chunk's word again shows the change, and the taker lets go.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::cache::Cache;
use super::geometry::{BLOCK_WORDS, CHUNK, class_size};
use super::word::{self, FREE};
use super::{Arena, Block};
use crate::owner::Tag;
use crate::{OutOfMemory, Owner, fork_guard};

/// The most blocks that are taken at once.
const BATCH: usize = 16;

/// Blocks of one class that were just taken.
struct Batch {
    len: usize,
    offsets: [u64; BATCH],
}

impl Arena {
    #[inline]
    pub(super) fn allocate_small(&self, owner: Owner, class: usize, len: usize) -> Result<Block, OutOfMemory> {
        let home = self.is_home(owner.into());
        if home {
            if !fork_guard::is_original() {
                return Err(OutOfMemory::forked(len));
            }
            if let Some(offset) = self.cache.pop(class) {
                return Ok(Block {
                    offset,
                    capacity: class_size(class),
                });
            }
        }
        self.refill(owner, class, len, home)
    }

    #[cold]
    fn refill(&self, owner: Owner, class: usize, len: usize, home: bool) -> Result<Block, OutOfMemory> {
        let want = if home {
            (Cache::depth(class) / 2).clamp(1, BATCH)
        } else {
            1
        };
        let mut batch = Batch {
            len: 0,
            offsets: [0; BATCH],
        };
        match self.take_anywhere(owner, class, want, &mut batch) {
            Ok(()) if batch.len > 0 => {}
            Ok(()) => return Err(self.full(len)),
            Err(error) => return Err(self.no_memory(len, error)),
        }
        // The first is for the caller; the lowest of the others comes out of the cache first.
        for &offset in batch.offsets[1..batch.len].iter().rev() {
            self.keep(class, offset);
        }
        Ok(Block {
            offset: batch.offsets[0],
            capacity: class_size(class),
        })
    }

    /// Puts a block that `home` holds into the cache, and gives back what does not fit.
    #[inline]
    pub(super) fn keep(&self, class: usize, offset: u64) {
        if let Some(overflow) = self.cache.push(class, offset) {
            for &offset in overflow.blocks() {
                self.give_back(class, offset);
            }
        }
    }

    /// Makes a block free that this process holds.
    fn give_back(&self, class: usize, offset: u64) {
        if let Some((chunk, within)) = self.geometry.locate(offset) {
            self.block(chunk, within / class_size(class)).store(FREE, Release); // PAIRS: block-word
            self.vacancy(chunk).store(1, Relaxed);
        }
    }

    /// Gives all cached blocks back, so that other processes can use them.
    ///
    /// A process that goes on to do nothing for long may do this; nothing needs it.
    pub fn flush(&self) {
        if fork_guard::is_original() {
            self.cache.drain(|class, offset| self.give_back(class, offset));
        }
    }

    fn take_anywhere(&self, owner: Owner, class: usize, want: usize, batch: &mut Batch) -> io::Result<()> {
        let here = &self.here[class];
        let chunk = here.load(Relaxed);
        if chunk < self.ready_chunks() && self.take(owner, class, chunk, want, batch)? {
            return Ok(());
        }
        for hinted in [true, false] {
            for chunk in 0..self.ready_chunks() {
                let worth_it = !hinted || self.vacancy(chunk).load(Relaxed) != 0;
                if self.chunk(chunk).load(Relaxed) == word::slab(class)
                    && worth_it
                    && self.take(owner, class, chunk, want, batch)?
                {
                    here.store(chunk, Relaxed);
                    return Ok(());
                }
            }
            // A fresh chunk is cheaper than looking through all; only a full arena gets to the search without hints.
            if hinted && let Some(chunk) = self.make_slab(owner, class)? {
                here.store(chunk, Relaxed);
                if self.take(owner, class, chunk, want, batch)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes up to `want` blocks of one chunk; false when it has none.
    fn take(&self, owner: Owner, class: usize, chunk: usize, want: usize, batch: &mut Batch) -> io::Result<bool> {
        let slab = word::slab(class);
        let (count, size) = (CHUNK / class_size(class), class_size(class));
        // PAIRS: chunk-word
        if self.chunk(chunk).load(Acquire) != slab || self.usable_block_words(chunk) < count {
            return Ok(false);
        }
        // Cleared before the search: a block that is given back meanwhile sets it again.
        self.vacancy(chunk).store(0, Relaxed);
        let held = word::held(owner.into());
        let first = self.cursors[class].load(Relaxed) % count;
        let mut taken = [0; BATCH];
        let mut len = 0;
        for index in (first..count).chain(0..first) {
            let block = self.block(chunk, index);
            // PAIRS: block-word
            if block.load(Relaxed) == FREE && block.compare_exchange(FREE, held, AcqRel, Relaxed).is_ok() {
                taken[len] = index;
                len += 1;
                if len == want {
                    self.vacancy(chunk).store(1, Relaxed);
                    self.cursors[class].store(index + 1, Relaxed);
                    break;
                }
            }
        }
        let taken = &taken[..len];
        let let_go = |index: usize| self.block(chunk, index).store(FREE, Release); // PAIRS: block-word
        // PAIRS: chunk-word
        if self.chunk(chunk).load(Acquire) != slab {
            taken.iter().for_each(|&index| let_go(index));
            return Ok(false);
        }
        let mut failed = None;
        for &index in taken {
            match self.commit_within(chunk, index * size..(index + 1) * size) {
                Ok(()) => {
                    batch.offsets[batch.len] = (self.geometry.payload(chunk) + index * size) as u64;
                    batch.len += 1;
                }
                Err(error) => {
                    let_go(index);
                    self.vacancy(chunk).store(1, Relaxed);
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if batch.len == 0 => Err(error),
            _ => Ok(batch.len > 0),
        }
    }

    /// Cuts a free chunk into blocks.
    fn make_slab(&self, owner: Owner, class: usize) -> io::Result<Option<usize>> {
        let tag = Tag::from(owner);
        // Not out of a warm run, which a large block may want whole.
        let Some(chunk) = self.claim_lowest(tag, 1)? else {
            return Ok(None);
        };
        if self.has_memory(chunk, 0..CHUNK) {
            self.cool(CHUNK);
        }
        if let Err(error) = self.commit_block_words(chunk, CHUNK / class_size(class)) {
            self.release_extent(chunk, tag, 1);
            return Err(error);
        }
        self.vacancy(chunk).store(1, Relaxed);
        // Its block words are free: they were never used, or cleared by whoever gave the slab up.
        self.chunk(chunk).store(word::slab(class), Release); // PAIRS: chunk-word
        Ok(Some(chunk))
    }

    /// Makes chunks of slabs in which no block is in use, and says how many.
    pub(super) fn retire_empty_slabs(&self, owner: Owner) -> usize {
        (0..self.ready_chunks())
            .filter(|&chunk| self.retire_slab(owner, chunk))
            .count()
    }

    fn retire_slab(&self, owner: Owner, chunk: usize) -> bool {
        let slab = self.chunk(chunk).load(Acquire); // PAIRS: chunk-word
        let word::Chunk::Slab { class } = word::Chunk::decode(slab) else {
            return false;
        };
        let tag = Tag::from(owner);
        // All words of the chunk, not only those of its class: a taker that came late may sit on any of them.
        let count = self.usable_block_words(chunk);
        if count < CHUNK / class_size(class) || (0..count).any(|index| self.block(chunk, index).load(Relaxed) != FREE) {
            return false;
        }
        let let_go = |below: usize| {
            for index in 0..below {
                self.block(chunk, index).store(FREE, Release); // PAIRS: block-word
            }
        };
        for index in 0..count {
            // PAIRS: block-word
            if self
                .block(chunk, index)
                .compare_exchange(FREE, word::held(tag), AcqRel, Relaxed)
                .is_err()
            {
                let_go(index);
                return false;
            }
        }
        // PAIRS: chunk-word
        let given_up = self
            .chunk(chunk)
            .compare_exchange(slab, word::head(tag, 1), AcqRel, Relaxed)
            .is_ok();
        // After the chunk's word: see the head of this file.
        let_go(count);
        if given_up {
            self.release_extent(chunk, tag, 1);
        }
        given_up
    }

    #[inline]
    pub(super) fn block(&self, chunk: usize, index: usize) -> &AtomicU64 {
        debug_assert!(chunk < self.geometry.chunks && index < BLOCK_WORDS);
        self.mapping
            .atomic(self.geometry.block_words_at + (chunk * BLOCK_WORDS + index) * 8)
    }

    /// Hint: whether a search of this slab may find something.
    pub(super) fn vacancy(&self, chunk: usize) -> &AtomicU64 {
        debug_assert!(chunk < self.geometry.chunks);
        self.mapping.atomic(self.geometry.vacancies_at + chunk * 8)
    }
}
