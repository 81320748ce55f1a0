//! What a slot of a pair says about its message: as in a queue, and whether it is raw bytes.

use offspring_sync::Membership;

use crate::core::Core;
use crate::raw::Ring;

type Kinds<'a> = Ring<'a, Core, Membership>;

/// Stands where the root of a value would.
const BYTES: u64 = u32::MAX as u64;

/// A plain value in its slot.
pub(super) const PLAIN: u64 = Kinds::inline_kind(0);

/// Raw bytes in a block.
pub(super) const BYTES_IN_BLOCK: u64 = Kinds::block_kind(BYTES);

/// So many raw bytes in the slot.
pub(super) const fn inline_bytes(len: usize) -> u64 {
    Kinds::inline_kind((len as u64) << 32 | BYTES)
}

/// How many raw bytes are in the slot.
pub(super) const fn inline_len(kind: u64) -> usize {
    (kind >> 34) as usize
}

pub(super) const fn is_bytes(kind: u64) -> bool {
    (kind >> 2) as u32 == u32::MAX
}

pub(super) const fn is_block(kind: u64) -> bool {
    Kinds::is_block(kind)
}
