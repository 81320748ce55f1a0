//! The name of a member in a lock word.

use std::fmt;
use std::num::NonZeroU32;

const INDEX_BITS: u32 = 12;
const GENERATION_BITS: u32 = 18;

/// The name of one thread that is registered in a membership table: `index:12 | generation:18`.
///
/// Thirty bits, so that a 32-bit lock word has room for two flags beside it. The index says which record of the table; the
/// generation says which of the threads that had the record one after another. No two threads ever share a tag, unless
/// 262 144 of them came and went on the same record in between.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(NonZeroU32);

impl Tag {
    /// The bits of a word that a tag may use.
    pub const MASK: u32 = (1 << (INDEX_BITS + GENERATION_BITS)) - 1;
    /// The highest index there is; index 0 is nobody.
    pub const MAX_INDEX: usize = (1 << INDEX_BITS) - 1;
    /// The bits of a generation.
    pub const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

    /// The tag of the `generation`-th member on record `index`; `None` if the index is nobody's or out of range.
    pub const fn new(index: usize, generation: u32) -> Option<Tag> {
        if index == 0 || index > Tag::MAX_INDEX {
            return None;
        }
        Tag::from_bits((index as u32) << GENERATION_BITS | (generation & Tag::GENERATION_MASK))
    }

    /// Reads a tag from the low bits of a word; `None` if there is none or it cannot be one.
    #[inline]
    pub const fn from_bits(word: u32) -> Option<Tag> {
        let bits = word & Tag::MASK;
        if bits >> GENERATION_BITS == 0 {
            return None;
        }
        match NonZeroU32::new(bits) {
            Some(bits) => Some(Tag(bits)),
            None => None,
        }
    }

    /// The tag that [`bits`](Self::bits) gave, or 0 for none: for words that nobody else writes.
    #[inline]
    pub(crate) const fn from_own_bits(bits: u32) -> Option<Tag> {
        match NonZeroU32::new(bits) {
            Some(bits) => Some(Tag(bits)),
            None => None,
        }
    }

    /// The tag as the low bits of a word.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0.get()
    }

    /// Which record.
    #[inline]
    pub const fn index(self) -> usize {
        (self.0.get() >> GENERATION_BITS) as usize
    }

    /// Which of its owners, one after another.
    #[inline]
    pub const fn generation(self) -> u32 {
        self.0.get() & Tag::GENERATION_MASK
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({}.{})", self.index(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_its_bits() {
        for (index, generation) in [(1, 0), (1, 1), (4095, Tag::GENERATION_MASK), (77, 123_456)] {
            let tag = Tag::new(index, generation).unwrap();
            assert_eq!((tag.index(), tag.generation()), (index, generation));
            assert_eq!(Tag::from_bits(tag.bits() | !Tag::MASK), Some(tag));
        }
    }

    #[test]
    fn nobody_has_no_tag() {
        assert_eq!(Tag::new(0, 5), None);
        assert_eq!(Tag::new(4096, 5), None);
        assert_eq!(Tag::from_bits(0), None);
        assert_eq!(Tag::from_bits(17), None, "a generation without an index");
    }
}
