//! Where everything lies in a queue's memory.

use std::any::TypeId;
use std::hash::{Hash, Hasher};
use std::io;

use offspring_sync::primitive::{AtomicU32, AtomicU64};
use offspring_sync::raw::EventCount;

use crate::{Message, is_copied};

/// The most bytes of a message that is copied into its slot as it is; larger ones travel in blocks.
const MOST_INLINE: usize = 4096;

/// The bytes that a message of no fixed size may take in its slot.
const FLEXIBLE_INLINE: usize = 128 - SLOT_HEAD;

/// The state and the kind of a slot, before its payload.
pub(crate) const SLOT_HEAD: usize = 16;

/// The alignment of a slot's payload.
pub(crate) const PAYLOAD_ALIGN: usize = 16;

/// How many processes can hold one side of a queue at the same time.
pub(crate) const CELLS: usize = 64;

/// "offspqu1", little-endian.
pub(crate) const MAGIC: u64 = 0x3175_7170_7366_666f;

#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Line<T>(pub(crate) T);

/// The start of a queue's memory; all zero but for the constants when the queue is new.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Header {
    /// [`MAGIC`], stored last. `// PAIRS: queue-made`
    pub(crate) magic: AtomicU64,
    /// Which type of messages, and which kind of queue. Constant.
    pub(crate) layout: AtomicU64,
    /// How many slots. Constant.
    pub(crate) capacity: AtomicU64,
    /// Which process uses each side, where only one may: see `spsc/seat.rs`.
    pub(crate) seats: [AtomicU64; 2],
    /// Which of its threads did last: a tag, or 0.
    pub(crate) users: [AtomicU64; 2],
    /// What is over: see `core.rs`. Set and cleared by `SeqCst` read-modify-writes.
    pub(crate) over: AtomicU32,
    /// Whether receivers have the senders' processors pass a fence before they sleep: 1, or every sender does each time: 0. Constant.
    pub(crate) asymmetric: AtomicU32,
    /// A position that was claimed: a hint.
    pub(crate) tail: Line<AtomicU64>,
    /// A position that was taken out: a hint.
    pub(crate) head: Line<AtomicU64>,
    pub(crate) arrivals: Line<EventCount>,
    pub(crate) departures: Line<EventCount>,
    pub(crate) rest: Line<EventCount>,
    /// Which processes hold each side: see `peers.rs`.
    pub(crate) cells: [[AtomicU64; CELLS]; 2],
}

/// The sizes that follow from the type of the messages and the capacity; private to each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) capacity: u32,
    pub(crate) stride: usize,
    /// The bytes of a slot's payload.
    pub(crate) inline: usize,
    /// Whether messages may lie in blocks.
    pub(crate) blocks: bool,
    /// Whether somebody may wait until all work is done.
    pub(crate) joinable: bool,
    /// Whether each side is used by one process at a time.
    pub(crate) exclusive: bool,
    /// Identifies the type of the messages.
    pub(crate) layout: u64,
}

/// Whether a `T` lies in its slot as it is, always.
pub(crate) const fn is_plain<T: Message>() -> bool {
    is_copied::<T>() && size_of::<T>() <= MOST_INLINE && align_of::<T>() <= PAYLOAD_ALIGN
}

impl Shape {
    pub(crate) fn of<T: Message>(capacity: usize, joinable: bool) -> io::Result<Self> {
        if capacity == 0 {
            return Err(invalid("a queue needs room for at least one message".to_string()));
        }
        let inline = if const { is_plain::<T>() } {
            size_of::<T>()
        } else {
            FLEXIBLE_INLINE
        };
        let stride = (SLOT_HEAD + inline).next_multiple_of(64);
        let too_large = || {
            invalid(format!(
                "a queue of {capacity} messages is too large: it would take {stride} bytes for each"
            ))
        };
        let slots = u32::try_from(capacity)
            .ok()
            .filter(|&slots| slots < u32::MAX)
            .ok_or_else(too_large)?;
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        (TypeId::of::<T>(), size_of::<T>(), align_of::<T>(), joinable).hash(&mut hasher);
        Ok(Self {
            capacity: slots,
            stride,
            inline: stride - SLOT_HEAD,
            blocks: !is_plain::<T>(),
            joinable,
            exclusive: false,
            layout: hasher.0,
        })
    }

    /// The shape of a pair of one producer and one consumer, in which any message may be raw bytes as well.
    pub(crate) fn of_pair<T: Message>(capacity: usize) -> io::Result<Self> {
        let shape = Self::of::<T>(capacity, false)?;
        Ok(Self {
            blocks: true,
            exclusive: true,
            layout: !shape.layout,
            ..shape
        })
    }

    pub(crate) const SLOTS_AT: usize = size_of::<Header>();

    /// Where the counts of returns lie.
    pub(crate) const fn returns_at(&self) -> usize {
        Self::SLOTS_AT + self.capacity as usize * self.stride
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.returns_at() + self.capacity as usize * 8
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// FNV-1a: gives the same in every process, unlike the standard hasher, which is seeded.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_get_the_slots_that_they_need() {
        let shape = Shape::of::<u64>(5, false).unwrap();
        assert_eq!((shape.stride, shape.blocks), (64, false));
        assert_eq!(Shape::of::<[u64; 8]>(5, false).unwrap().stride, 128);
        let shape = Shape::of::<String>(5, false).unwrap();
        assert_eq!((shape.stride, shape.inline, shape.blocks), (128, 112, true));
        assert!(Shape::of::<[u8; 4097]>(5, false).unwrap().blocks);
        assert_ne!(
            Shape::of::<u64>(5, false).unwrap().layout,
            Shape::of::<i64>(5, false).unwrap().layout
        );
    }

    #[test]
    fn capacities_that_cannot_be_are_refused_in_words() {
        let error = Shape::of::<u64>(0, false).unwrap_err().to_string();
        assert!(error.contains("at least one"), "{error}");
        let error = Shape::of::<u64>(1 << 40, false).unwrap_err().to_string();
        assert!(error.contains("1099511627776 messages is too large"), "{error}");
    }
}
