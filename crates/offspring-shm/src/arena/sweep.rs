//! Freeing what a dead process held.

// UNSAFETY: declares the function whose caller must know that a process is dead.
#![expect(unsafe_code, reason = "an unsafe function: its caller vouches for a death")]

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::Arena;
use super::geometry::class_size;
use super::word::{self, Chunk, FREE};
use crate::Owner;
use crate::owner::Tag;

impl Arena {
    /// Frees every block that `dead` held, and says how many; `by` is the tag of the process that does it.
    ///
    /// It may be repeated, by anybody, also after somebody died in it and while somebody else is at it:
    ///
    /// - A small block goes from `HELD(dead)` to free in one CAS. The tag never comes back, so a CAS that comes late fails.
    /// - An extent first becomes the sweeper's own, `HEAD(dead, n)` to `HEAD(by, n)`: one sweeper wins, and if it dies
    ///   too, the extent is found among what *it* held. The winner then frees it as any holder does.
    /// - A chunk of a claim that death cut off, `CONT(dead, d)` with no head over it, stays uncovered for as long as it
    ///   says so (see `extent.rs`), so one CAS from the exact word frees nothing else. An extent that `dead` claimed and
    ///   handed on is covered by its head, whoever holds that now, and is left alone.
    ///
    /// # Safety
    /// The process of `dead` has ended, so that nothing it held is accessed any more, and nothing is allocated for it or
    /// transferred to it from now on. `by` is the tag of this process.
    pub unsafe fn sweep(&self, dead: Owner, by: Owner) -> usize {
        self.sweep_tag(dead.into(), by.into(), 0)
    }

    /// As [`sweep`](Self::sweep), for any holder; leaves the block at `spared` alone. The caller answers for `dead`.
    pub(crate) fn sweep_tag(&self, dead: Tag, by: Tag, spared: u64) -> usize {
        let spared = self.geometry.locate(spared);
        let mut freed = 0;
        for at in 0..self.ready_chunks() {
            let word = self.chunk(at).load(Acquire); // PAIRS: chunk-word
            match Chunk::decode(word) {
                Chunk::Head { tag, len } if tag == dead && spared != Some((at, 0)) => {
                    freed += usize::from(self.sweep_extent(at, word, len, by));
                }
                Chunk::Cont { tag, distance } if tag == dead && !self.is_covered(at, distance) => {
                    // PAIRS: chunk-word
                    let _ = self.chunk(at).compare_exchange(word, FREE, AcqRel, Relaxed);
                }
                _ => {}
            }
            let spared = spared.filter(|&(chunk, _)| chunk == at).map(|(_, within)| within);
            freed += self.sweep_blocks(at, dead, spared);
        }
        freed
    }

    fn sweep_extent(&self, start: usize, word: u64, len: usize, by: Tag) -> bool {
        // PAIRS: chunk-word
        let mine = self
            .chunk(start)
            .compare_exchange(word, word::head(by, len), AcqRel, Relaxed)
            .is_ok();
        if mine {
            self.release_extent(start, by, len);
        }
        mine
    }

    /// The block words of every chunk that ever was a slab are looked at, whatever the chunk is now: a process can die
    /// with a block of a chunk that is given up in between.
    fn sweep_blocks(&self, chunk: usize, dead: Tag, spared: Option<usize>) -> usize {
        let held = word::held(dead);
        let mut freed = 0;
        let spared = spared.and_then(|within| match Chunk::decode(self.chunk(chunk).load(Acquire)) {
            Chunk::Slab { class } => Some(within / class_size(class)), // PAIRS: chunk-word
            _ => None,
        });
        for index in (0..self.usable_block_words(chunk)).filter(|&index| spared != Some(index)) {
            let block = self.block(chunk, index);
            // PAIRS: block-word
            if block.load(Relaxed) == held && block.compare_exchange(held, FREE, AcqRel, Relaxed).is_ok() {
                freed += 1;
            }
        }
        if freed > 0 {
            self.vacancy(chunk).store(1, Relaxed);
        }
        freed
    }

    /// Whether the chunk belongs to an extent that has a head, at this distance before it.
    pub(super) fn is_covered(&self, chunk: usize, distance: usize) -> bool {
        let Some(head) = chunk.checked_sub(distance) else {
            return false;
        };
        let word = self.chunk(head).load(Acquire); // PAIRS: chunk-word
        matches!(Chunk::decode(word), Chunk::Head { len, .. } if len > distance)
    }
}
