use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use super::Arena;
use super::geometry::{CHUNK, class_size};
use super::word::{self, Chunk};
use crate::Owner;
use crate::owner::Tag;

/// What is in use in an arena, by whom: for tests and diagnostics.
///
/// Taken while others allocate and free, it is a blurred picture. Blocks in a process's private cache count as held by
/// that process; [`Arena::flush`] gives them back first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Census {
    /// The arena's size in bytes.
    pub capacity: usize,
    /// Bytes of payload that the system has given, in use or free.
    pub committed: usize,
    /// Blocks in use.
    pub blocks: usize,
    /// Bytes of the blocks in use.
    pub bytes: usize,
    /// What each process holds.
    pub owners: BTreeMap<Owner, Holding>,
    /// What shared values hold, which belong to no process.
    pub shared: Holding,
    /// Chunks that are cut into small blocks.
    pub slabs: usize,
    /// Chunks that no extent covers: claims in the making, or what a process that died in one left behind.
    pub orphans: usize,
    /// Extents of which chunks are missing: being given back, or cut off by a death in that.
    pub torn: usize,
    /// Words that nobody of this library wrote.
    pub garbage: usize,
}

/// A number of blocks and their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// Blocks.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: usize,
}

impl Census {
    fn count(&mut self, tag: Tag, bytes: usize) {
        let holding = match tag.owner() {
            Some(owner) => self.owners.entry(owner).or_default(),
            None => &mut self.shared,
        };
        for (blocks, sum) in [
            (&mut self.blocks, &mut self.bytes),
            (&mut holding.blocks, &mut holding.bytes),
        ] {
            *blocks += 1;
            *sum += bytes;
        }
    }
}

impl Arena {
    /// Counts what is in use.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut census = Census {
            capacity: self.capacity(),
            committed: self.committed_bytes(),
            ..Census::default()
        };
        for at in 0..self.ready_chunks() {
            let mut class = None;
            match Chunk::decode(self.chunk(at).load(Relaxed)) {
                Chunk::Free => {}
                Chunk::Slab { class: cut } => {
                    census.slabs += 1;
                    class = Some(cut);
                }
                Chunk::Head { tag, len } => {
                    census.count(tag, len.min(self.geometry.chunks) * CHUNK);
                    census.torn += usize::from(self.extent_end(at, len) != at + len);
                }
                Chunk::Cont { distance, .. } => census.orphans += usize::from(!self.is_covered(at, distance)),
                Chunk::Garbage => census.garbage += 1,
            }
            // In a chunk that is no slab a held word is a taker that came late.
            let size = class.map_or(0, class_size);
            for index in 0..self.usable_block_words(at) {
                let word = self.block(at, index).load(Relaxed);
                match word::holder(word) {
                    Some(tag) => census.count(tag, size),
                    None => census.garbage += usize::from(word != word::FREE),
                }
            }
        }
        census
    }

    /// Bytes of chunks that are not free.
    pub(super) fn in_use(&self) -> usize {
        (0..self.ready_chunks())
            .filter(|&at| self.chunk(at).load(Relaxed) != word::FREE)
            .count()
            * CHUNK
    }
}
