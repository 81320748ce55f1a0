use std::fmt;
use std::num::NonZeroU32;

/// The tag by which a process owns blocks of an arena: a place in the arena's roster and a generation.
///
/// A tag does not come back when its process is gone: the generation of the place moves on before it is given away
/// again, and only after everything that named the old tag was swept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(NonZeroU32);

/// Bits of the generation, below the index.
pub(crate) const GENERATION_BITS: u32 = 18;
/// Places in a roster; place 0 stands for nobody.
pub(crate) const PLACES: usize = 1 << 12;

const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl Owner {
    /// The tag with this number, as [`raw`](Self::raw) gave it, or `None` when no tag has this number.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        // Index 0 is nobody: the numbers below 1 << 18 name shared values (see `Tag`), not processes.
        let index = raw >> GENERATION_BITS;
        NonZeroU32::new(raw)
            .filter(|_| index >= 1 && (index as usize) < PLACES)
            .map(Self)
    }

    /// The tag as a number that fits into 30 bits and is never 0.
    #[must_use]
    pub fn raw(self) -> u32 {
        self.0.get()
    }

    /// The place in the roster, from 1 to 4095.
    #[must_use]
    pub fn index(self) -> usize {
        (self.0.get() >> GENERATION_BITS) as usize
    }

    /// How often the place was given away before.
    #[must_use]
    pub fn generation(self) -> u32 {
        self.0.get() & GENERATION_MASK
    }

    pub(crate) fn new(index: usize, generation: u32) -> Option<Self> {
        let index = u32::try_from(index).ok().filter(|&index| (index as usize) < PLACES)?;
        Self::from_raw(index << GENERATION_BITS | generation & GENERATION_MASK)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Owner({}.{})", self.index(), self.generation())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index(), self.generation())
    }
}

/// Who holds a block: a process, or the record of a shared value, which outlives its creator.
///
/// Both fit into the same 30 bits: an owner's index is at least 1, so the numbers below 1 << 18 are free for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u32);

impl Tag {
    /// The highest number of a record.
    pub(crate) const MAX_RECORD: usize = GENERATION_MASK as usize;
    const MASK: u32 = (1 << 30) - 1;

    /// The tag in the low 30 bits of `raw`, if there is one.
    pub(crate) fn from_raw(raw: u32) -> Option<Self> {
        (raw != 0 && raw & !Self::MASK == 0).then_some(Self(raw))
    }

    /// The tag of record `number`, from 1 to [`MAX_RECORD`](Self::MAX_RECORD).
    pub(crate) fn record(number: usize) -> Option<Self> {
        u32::try_from(number)
            .ok()
            .filter(|&number| number != 0 && number <= GENERATION_MASK)
            .map(Self)
    }

    pub(crate) fn raw(self) -> u32 {
        self.0
    }

    /// The process, if a process holds the block.
    pub(crate) fn owner(self) -> Option<Owner> {
        Owner::from_raw(self.0)
    }
}

impl From<Owner> for Tag {
    fn from(owner: Owner) -> Self {
        Self(owner.raw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_name_nobody_are_refused() {
        for raw in [0, 1, GENERATION_MASK, 1 << 30, u32::MAX] {
            assert_eq!(Owner::from_raw(raw), None, "{raw:#x}");
        }
        let first = Owner::new(1, 0).unwrap();
        let last = Owner::new(PLACES - 1, GENERATION_MASK).unwrap();
        assert_eq!(Owner::from_raw(first.raw()), Some(first));
        assert_eq!((last.index(), last.generation()), (4095, GENERATION_MASK));
        assert_eq!(Owner::new(0, 5), None);
        assert_eq!(Owner::new(PLACES, 5), None);
    }

    #[test]
    fn records_and_owners_share_no_number() {
        assert_eq!(Tag::record(Tag::MAX_RECORD).unwrap().owner(), None);
        assert_eq!(Tag::record(0), None);
        assert_eq!(Tag::record(Tag::MAX_RECORD + 1), None);
        let owner = Owner::new(1, 0).unwrap();
        assert_eq!(Tag::from(owner).owner(), Some(owner));
    }
}
