//! What a lock asks about its owner.

use crate::primitive::AtomicU32;
use crate::tag::Tag;

/// Who lives, as far as a lock wants to know: a membership table, or a model of one.
pub trait Lives {
    /// The state of the member `tag`; `None` if no such tag was ever given out here, so that the word it came from is damaged.
    fn life(&self, tag: Tag) -> Option<Life<'_>>;

    /// Looks again by slower means at a member that has kept somebody waiting for long, and says whether it is dead.
    fn inquire(&self, tag: Tag) -> bool;

    /// Told before the caller goes to sleep because of `owner`.
    fn asleep_for(&self, owner: Tag) {
        let _ = owner;
    }
}

/// The state of one member.
#[derive(Clone, Copy, Debug)]
pub struct Life<'a> {
    /// The word that changes, and wakes one sleeper, when the member dies.
    pub word: &'a AtomicU32,
    /// What it held while `dead` was found out: sleep on this value.
    pub seen: u32,
    /// Whether the member will never execute another instruction under this tag.
    pub dead: bool,
}
