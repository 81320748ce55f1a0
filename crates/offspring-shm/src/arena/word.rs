//! The two kinds of words that say who holds what.
//!
//! ```text
//! chunk word   FREE  0
//!              SLAB  class << 2 | 1                     cut into blocks of a class
//!              HEAD  length << 32 | tag << 2 | 2        first chunk of an extent, or of a claim that is growing
//!              CONT  distance << 32 | tag << 2 | 3      further chunk, `distance` after its head; the claimer's tag
//! block word   FREE  0
//!              HELD  tag << 2 | 1
//! ```

use crate::owner::Tag;

use super::geometry::CLASSES;

pub(super) const FREE: u64 = 0;

/// A chunk word, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Free,
    Slab {
        class: usize,
    },
    Head {
        tag: Tag,
        len: usize,
    },
    Cont {
        tag: Tag,
        distance: usize,
    },
    /// No word that this library writes.
    Garbage,
}

impl Chunk {
    #[inline]
    pub(super) fn decode(word: u64) -> Self {
        let high = (word >> 32) as usize;
        let tag = Tag::from_raw((word as u32) >> 2);
        match (word & 3, tag) {
            (0, _) if word == FREE => Self::Free,
            (1, _) if ((word >> 2) as usize) < CLASSES => Self::Slab {
                class: (word >> 2) as usize,
            },
            (2, Some(tag)) if high > 0 => Self::Head { tag, len: high },
            (3, Some(tag)) => Self::Cont { tag, distance: high },
            _ => Self::Garbage,
        }
    }
}

#[inline]
pub(super) fn slab(class: usize) -> u64 {
    (class as u64) << 2 | 1
}

#[inline]
pub(super) fn head(tag: Tag, len: usize) -> u64 {
    (len as u64) << 32 | u64::from(tag.raw()) << 2 | 2
}

#[inline]
pub(super) fn cont(tag: Tag, distance: usize) -> u64 {
    (distance as u64) << 32 | u64::from(tag.raw()) << 2 | 3
}

#[inline]
pub(super) fn held(tag: Tag) -> u64 {
    u64::from(tag.raw()) << 2 | 1
}

/// Who holds a block, or `None` when its word is free or garbage.
#[inline]
pub(super) fn holder(block_word: u64) -> Option<Tag> {
    if block_word & 3 != 1 || block_word >> 32 != 0 {
        return None;
    }
    Tag::from_raw((block_word as u32) >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::Owner;

    #[test]
    fn words_keep_what_they_say() {
        let tag = Tag::from(Owner::new(4095, (1 << 18) - 1).unwrap());
        assert_eq!(Chunk::decode(FREE), Chunk::Free);
        assert_eq!(Chunk::decode(head(tag, 1)), Chunk::Head { tag, len: 1 });
        assert_eq!(
            Chunk::decode(head(tag, (1 << 31) - 1)),
            Chunk::Head {
                tag,
                len: (1 << 31) - 1
            }
        );
        assert_eq!(Chunk::decode(cont(tag, 77)), Chunk::Cont { tag, distance: 77 });
        for class in 0..CLASSES {
            assert_eq!(Chunk::decode(slab(class)), Chunk::Slab { class });
        }
        assert_eq!(holder(held(tag)), Some(tag));
    }

    #[test]
    fn garbage_is_told_apart() {
        for word in [
            4,
            1 << 40,
            slab(CLASSES),
            slab(1 << 30),
            2,
            3,
            1 << 32 | 2,
            8 << 2 | 2,
            u64::MAX - 3,
        ] {
            assert_eq!(Chunk::decode(word), Chunk::Garbage, "{word:#x}");
        }
        for word in [0, 1, 2, 3, 1 << 32 | 5, u64::MAX] {
            assert_eq!(holder(word), None, "{word:#x}");
        }
    }
}
