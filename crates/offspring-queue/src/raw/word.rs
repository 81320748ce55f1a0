//! The bits of a slot's words: its state with lap and owner, the kind of its contents, its returns.

use offspring_sync::Tag;

use super::Position;

pub(super) const EMPTY: u64 = 0;
pub(super) const WRITING: u64 = 1;
pub(super) const READY: u64 = 2;
pub(super) const LEASED: u64 = 3;
pub(super) const STATE: u64 = 3;

pub(super) const TAG_SHIFT: u32 = 2;
pub(super) const LAP_SHIFT: u32 = 32;

#[inline]
pub(super) const fn word(lap: u32, state: u64) -> u64 {
    (lap as u64) << LAP_SHIFT | state
}

#[inline]
pub(super) const fn owned(lap: u32, tag: Tag, state: u64) -> u64 {
    (lap as u64) << LAP_SHIFT | (tag.bits() as u64) << TAG_SHIFT | state
}

#[inline]
pub(super) const fn lap_of(word: u64) -> u32 {
    (word >> LAP_SHIFT) as u32
}

/// How many laps the slot is ahead of `lap`.
#[inline]
pub(super) const fn ahead(word: u64, lap: u32) -> i32 {
    lap_of(word).wrapping_sub(lap) as i32
}

pub(super) const fn tag_of(word: u64) -> Option<Tag> {
    Tag::from_bits((word as u32) >> TAG_SHIFT)
}

/// The kinds of a slot's contents, in the low two bits of its `kind`.
pub(super) const KIND: u64 = 3;
pub(super) const NONE: u64 = 0;
pub(super) const INLINE: u64 = 1;
pub(super) const BLOCK: u64 = 2;
pub(super) const TAKING: u64 = 3;

pub(super) const RETURNS_MOST: u64 = (1 << 12) - 1;
pub(super) const RETURNS_TAG: u32 = 12;
pub(super) const TAG_IN_RETURNS: u64 = (Tag::MASK as u64) << RETURNS_TAG;
pub(super) const RETURNS_LAP: u32 = 42;
pub(super) const RETURNS_LAP_MASK: u64 = (1 << 22) - 1;

/// The newest position that a slot's word proves claimed, in the slot at which `at` stands.
#[inline]
pub(super) const fn claimed(found: u64, at: Position) -> Position {
    let lap = lap_of(found);
    let lap = if found & STATE == EMPTY {
        lap.wrapping_sub(1)
    } else {
        lap
    };
    Position::new(lap, at.index())
}
