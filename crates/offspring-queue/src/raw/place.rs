use offspring_sync::primitive::{AtomicU64, Mode};
use offspring_sync::raw::EventCount;

/// Where the words of a ring lie, and what becomes of the blocks that its messages name.
///
/// All words are zero in a new ring.
pub trait Place {
    /// A block that was withdrawn from a slot, to be freed or read.
    type Block;

    /// How many slots there are: at least 1.
    fn slots(&self) -> u32;

    /// The state of a slot; its values stand in the table of [`Ring`](super::Ring). `// PAIRS: slot-published`
    fn state(&self, index: u32) -> &AtomicU64;

    /// What the slot's message is made of: a kind in the low two bits (see [`Ring`](super::Ring)), anything above them.
    /// Written by the slot's owner alone.
    fn kind(&self, index: u32) -> &AtomicU64;

    /// How often the message was given back: `lap:22 | tag:30 | count:12`, where the tag is the holder's whose death was
    /// counted last, 0 if it was alive.
    fn returns(&self, index: u32) -> &AtomicU64;

    /// A position that was claimed. A hint.
    fn tail_hint(&self) -> &AtomicU64;

    /// A position that was taken out. A hint.
    fn head_hint(&self) -> &AtomicU64;

    /// Where those sleep who wait for a message.
    fn arrivals(&self) -> &EventCount;

    /// What stands between the publishing of a message and the look at [`arrivals`](Self::arrivals), on the publisher's side.
    fn fences(&self) -> Mode;

    /// Where those sleep who wait for room.
    fn departures(&self) -> &EventCount;

    /// Where those sleep who wait until nothing is left; `None` if nobody ever does.
    fn rest(&self) -> Option<&EventCount>;

    /// Whether messages may name blocks: if not, kinds are neither read nor written.
    fn has_blocks(&self) -> bool;

    /// Takes the block that slot `index` names out of transit, for the calling process.
    fn withdraw(&self, index: u32) -> Option<Self::Block>;

    /// Frees a block that [`withdraw`](Self::withdraw) gave.
    fn free(&self, block: Self::Block);

    /// Notes that a block in transit may be named by no slot any more.
    fn mark_astray(&self);
}
