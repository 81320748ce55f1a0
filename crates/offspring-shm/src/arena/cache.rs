//! Free blocks that a process keeps for itself, warm ones first.
//!
//! A cached block stays HELD by the process in shared memory, so that a dead process's cache is found like all else that
//! it held. Threads share shelves; a shelf is never waited for: a thread that finds one busy goes on without it. That
//! makes a cached operation one atomic exchange, and a lock that was copied by `fork` while somebody held it harmless.

// UNSAFETY: a shelf's contents are accessed under its own flag.
#![expect(unsafe_code, reason = "cells guarded by try-locks, in pages of their own")]

use std::cell::{Cell, UnsafeCell};
use std::fmt;
use std::io;
use std::slice;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};

use memmap2::{MmapOptions, MmapRaw};

use super::geometry::{CLASSES, class_size};

const SHARDS: usize = 8;
const COUNT: usize = SHARDS * CLASSES;
/// The most blocks on a shelf.
const DEPTH: usize = 32;
/// The most bytes on a shelf, except that two blocks of every size are kept.
const BYTES: usize = 256 << 10;

/// Shelves of free blocks: one for each size in each of a few shards.
pub(super) struct Cache {
    /// Pages of its own, and not a box: an allocator clears what is to be aligned like this by touching it.
    pages: MmapRaw,
}

#[repr(align(64))]
struct Shelf {
    /// Whether a thread is at `stack`. Set by exchange, cleared by a store of the thread that set it.
    busy: AtomicBool,
    stack: UnsafeCell<Stack>,
}

struct Stack {
    len: usize,
    blocks: [u64; DEPTH],
}

// SAFETY: `stack` is only accessed by the thread that changed `busy` from false to true.
unsafe impl Sync for Shelf {}

/// Blocks to be given back to everybody.
pub(super) struct Overflow {
    len: usize,
    blocks: [u64; DEPTH],
}

impl Overflow {
    pub(super) fn blocks(&self) -> &[u64] {
        &self.blocks[..self.len]
    }
}

impl Cache {
    /// An empty cache. What is not used of it takes no memory.
    ///
    /// # Errors
    /// When there is no address space.
    pub(super) fn new() -> io::Result<Self> {
        let pages = MmapOptions::new().len(size_of::<[Shelf; COUNT]>()).map_anon()?;
        Ok(Self { pages: pages.into() })
    }

    fn shelves(&self) -> &[Shelf] {
        // SAFETY: the pages are this value's own, long enough, and aligned as pages are; all zero, as they are at first, is
        // a shelf that is not busy and has no blocks.
        unsafe { slice::from_raw_parts(self.pages.as_ptr().cast(), COUNT) }
    }

    /// The most blocks of a class that a shelf keeps.
    pub(super) fn depth(class: usize) -> usize {
        (BYTES / class_size(class)).clamp(2, DEPTH)
    }

    /// The block of a class that was put here last.
    #[inline]
    pub(super) fn pop(&self, class: usize) -> Option<u64> {
        self.shelf(shard(), class).with(|stack| {
            stack.len = stack.len.checked_sub(1)?;
            Some(stack.blocks[stack.len])
        })?
    }

    /// Keeps a block. Gives those back that are too many, the coldest ones, or the block itself when the shelf is busy.
    #[inline]
    pub(super) fn push(&self, class: usize, block: u64) -> Option<Overflow> {
        let kept = self.shelf(shard(), class).with(|stack| {
            debug_assert!(
                !stack.blocks[..stack.len].contains(&block),
                "block {block:#x} was freed twice"
            );
            let overflow = (stack.len == Self::depth(class)).then(|| stack.take_oldest(stack.len.div_ceil(2)));
            stack.blocks[stack.len] = block;
            stack.len += 1;
            overflow
        });
        kept.unwrap_or_else(|| {
            let mut overflow = Overflow {
                len: 1,
                blocks: [0; DEPTH],
            };
            overflow.blocks[0] = block;
            Some(overflow)
        })
    }

    /// Takes everything out that no other thread is at.
    pub(super) fn drain(&self, mut take: impl FnMut(usize, u64)) {
        for (place, shelf) in self.shelves().iter().enumerate() {
            let all = shelf.with(|stack| stack.take_oldest(stack.len));
            for &block in all.iter().flat_map(Overflow::blocks) {
                take(place % CLASSES, block);
            }
        }
    }

    /// Forgets everything, in a forked child, whose blocks these are not.
    ///
    /// # Safety
    /// No other thread uses the cache.
    pub(super) unsafe fn forget(&self) {
        for shelf in self.shelves() {
            // SAFETY: no other thread uses the cache, so nobody is at the stack, whatever `busy` says.
            unsafe { (*shelf.stack.get()).len = 0 };
            shelf.busy.store(false, Release); // PAIRS: shelf
        }
    }

    fn shelf(&self, shard: usize, class: usize) -> &Shelf {
        &self.shelves()[shard * CLASSES + class]
    }
}

impl Shelf {
    #[inline]
    fn with<R>(&self, access: impl FnOnce(&mut Stack) -> R) -> Option<R> {
        // PAIRS: shelf
        if self.busy.swap(true, Acquire) {
            return None;
        }
        // SAFETY: this thread has just set `busy`, and everybody else keeps out until it is cleared.
        let result = access(unsafe { &mut *self.stack.get() });
        self.busy.store(false, Release); // PAIRS: shelf
        Some(result)
    }
}

impl Stack {
    fn take_oldest(&mut self, count: usize) -> Overflow {
        let mut taken = Overflow {
            len: count,
            blocks: [0; DEPTH],
        };
        taken.blocks[..count].copy_from_slice(&self.blocks[..count]);
        self.blocks.copy_within(count..self.len, 0);
        self.len -= count;
        taken
    }
}

/// The shelves that this thread uses: threads are dealt out evenly.
#[inline]
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        /// The shard's number plus one, 0 before the first use.
        static SHARD: Cell<usize> = const { Cell::new(0) };
    }
    SHARD.with(|shard| match shard.get() {
        0 => {
            let mine = NEXT.fetch_add(1, Relaxed) % SHARDS;
            shard.set(mine + 1);
            mine
        }
        known => known - 1,
    })
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_comes_first_and_the_oldest_overflow() {
        let cache = Cache::new().unwrap();
        let depth = Cache::depth(0) as u64;
        for block in 1..=depth {
            assert!(cache.push(0, block).is_none());
        }
        let overflow = cache.push(0, depth + 1).unwrap();
        assert_eq!(overflow.blocks(), (1..=depth / 2).collect::<Vec<_>>());
        assert_eq!(cache.pop(0), Some(depth + 1));
        assert_eq!(cache.pop(0), Some(depth));
        assert_eq!(cache.pop(1), None);
        let mut rest = Vec::new();
        cache.drain(|class, block| rest.push((class, block)));
        assert_eq!(rest, (depth / 2 + 1..depth).map(|block| (0, block)).collect::<Vec<_>>());
        assert_eq!(cache.pop(0), None);
    }

    #[test]
    fn a_busy_shelf_is_not_waited_for() {
        let cache = Cache::new().unwrap();
        cache.shelf(shard(), 3).busy.store(true, Relaxed);
        assert_eq!(cache.pop(3), None);
        assert_eq!(cache.push(3, 9).unwrap().blocks(), [9]);
        // SAFETY: this thread alone has the cache.
        unsafe { cache.forget() };
        assert!(cache.push(3, 9).is_none());
        assert_eq!(cache.pop(3), Some(9));
    }
}
