//! Values for strangers: rkyv bytes that are validated before they are believed.

use std::any::type_name;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::{error, fmt};

use offspring_shm::{Block, OutOfMemory, outside_family};
use rkyv::rancor::{self, Source, Strategy};
use rkyv::ser::Serializer;
use rkyv::ser::allocator::Arena as Scratch;
use rkyv::ser::sharing::Share;
use rkyv::util::AlignedVec;
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::validation::shared::SharedValidator;

use crate::transit::Journal;
use crate::{DecodeError, EncodeError, Message, Sink, Supply};

/// What the bytes of a value are aligned to: as much as a block of the arena is.
pub(super) const ALIGN: usize = 64;

/// The most pointers that may follow each other in a value that a stranger sent: checking follows them by recursion, and
/// a stack has an end.
const DEPTH: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// A number that two programs agree on when they mean the same type and lay it out alike.
///
/// It is made of the type's full name and the size and alignment of its archived form: a `TypeId` says more, but is
/// another one in every program.
pub fn fingerprint<T: Message>() -> u64 {
    let layout = [size_of::<T::Archived>() as u64, align_of::<T::Archived>() as u64];
    let layout = layout.iter().flat_map(|word| word.to_le_bytes());
    // FNV-1a.
    type_name::<T>()
        .bytes()
        .chain(layout)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The bytes of a value; its root is the last of them.
///
/// # Errors
/// When the value's own serialisation fails, or it holds what has a meaning inside of the family only.
pub fn encode<T: Message>(value: &T) -> Result<AlignedVec<ALIGN>, EncodeError> {
    // Queues in the value that were noted as on their way are not.
    let _journal = Journal::open();
    let (encoded, bound) = outside_family(|| {
        let mut heap = Heap::default();
        let mut scratch = Scratch::new();
        let mut serializer = Serializer::new(Sink::new(&mut heap), scratch.acquire(), Share::new());
        let root = rkyv::api::serialize_using(value, Strategy::<_, rancor::BoxedError>::wrap(&mut serializer))
            .map_err(EncodeError::Serialize)?;
        drop(serializer);
        // A value of no bytes got no memory.
        let end = (root + size_of::<T::Archived>()).min(heap.bytes.len());
        heap.bytes.resize(end, 0);
        Ok(heap.bytes)
    });
    if bound {
        return Err(EncodeError::Serialize(rancor::BoxedError::new(OfTheFamily)));
    }
    encoded
}

/// Rebuilds a value from bytes that a stranger sent, after it has checked all that the value reaches.
///
/// # Errors
/// When the bytes are no value of this type, are not aligned, or nest deeper than is allowed.
pub fn decode<T: Message>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut validator = Validator::new(
        ArchiveValidator::with_max_depth(bytes, Some(DEPTH)),
        SharedValidator::new(),
    );
    let archived = rkyv::api::access_with_context::<T::Archived, _, rancor::BoxedError>(bytes, &mut validator)
        .map_err(DecodeError::Deserialize)?;
    outside_family(|| crate::decode(archived)).0
}

#[derive(Debug)]
struct OfTheFamily;

impl fmt::Display for OfTheFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a shared value, or a queue, cannot go to a process outside of the family: send a Segment")
    }
}

impl error::Error for OfTheFamily {}

/// Supplies a sink with memory of this process alone.
#[derive(Default)]
struct Heap {
    bytes: AlignedVec<ALIGN>,
    /// What the sink has not yet moved out of.
    full: Option<AlignedVec<ALIGN>>,
    supplied: u64,
}

impl Supply for Heap {
    fn supply(&mut self, len: usize, _: Option<(Block, usize)>) -> Result<(Block, NonNull<u8>), OutOfMemory> {
        let capacity = len.max(self.bytes.len() * 2).max(256);
        // Zeroed: gaps between values are sent, too, and must not tell what this memory held before.
        let mut bytes = AlignedVec::with_capacity(capacity);
        bytes.resize(capacity, 0);
        self.full = Some(std::mem::replace(&mut self.bytes, bytes));
        self.supplied += 1;
        let address = NonNull::new(self.bytes.as_mut_ptr()).expect("a vector has an address");
        // A sink takes a block with another offset for another block.
        let block = Block {
            offset: self.supplied,
            capacity,
        };
        Ok((block, address))
    }

    fn retire(&mut self, _: Block) {
        self.full = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
    #[rkyv(serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, __S::Error: Source))]
    #[rkyv(deserialize_bounds(__D::Error: Source))]
    #[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: Source)))]
    struct Chain {
        #[rkyv(omit_bounds)]
        next: Option<Box<Chain>>,
    }

    fn chain(links: usize) -> Chain {
        (1..links).fold(Chain { next: None }, |next, _| Chain {
            next: Some(Box::new(next)),
        })
    }

    #[track_caller]
    fn survives<T: Message + PartialEq + fmt::Debug>(value: T) {
        let bytes = encode(&value).unwrap();
        assert_eq!(decode::<T>(&bytes).unwrap(), value);
    }

    #[test]
    fn values_of_all_sizes_survive() {
        survives(());
        survives(7_u8);
        survives([1_u64, 2, 3]);
        survives(u128::MAX);
        survives("text".to_string());
        survives(vec!["a longer text that is not inline".to_string(); 1000]);
        survives((0..100_000_u32).collect::<Vec<_>>());
        survives(BTreeMap::from([(1_u16, Some(2.5_f64)), (3, None)]));
        survives(vec![(); 1000]);
        survives(chain(200));
    }

    /// What is sent is told; what comes, made up by whoever saw a handle, is not attached.
    #[test]
    fn what_belongs_to_the_family_stays_in_it() {
        use offspring_shm::Shared;

        use crate::{Queue, QueueHandle};

        let refused = |error: EncodeError| assert!(error.to_string().contains("outside of the family"), "{error}");
        let shared = Shared::new(7_u32).unwrap();
        refused(encode(&(1_u8, vec![shared.clone()])).unwrap_err());
        let queue = Queue::<u8>::new(4).unwrap();
        refused(encode(&queue).unwrap_err());
        refused(encode(&queue.clone().split().0).unwrap_err());

        let handles: (QueueHandle, offspring_shm::Handle) = (queue.to_handle(), shared.to_handle());
        let bytes = encode(&handles.0).unwrap();
        let error = decode::<Queue<u8>>(&bytes).unwrap_err();
        assert!(error.to_string().contains("outside of the family"), "{error}");
        let bytes = encode(&handles.1).unwrap();
        let error = decode::<Shared<u32>>(&bytes).unwrap_err();
        assert!(error.to_string().contains("outside of the family"), "{error}");
        // Nothing was left on its way: the queue is over when its last handle is dropped.
        let (sender, receiver) = queue.split();
        drop(sender);
        assert!(receiver.recv().unwrap_err().is_disconnected());
    }

    #[test]
    fn other_types_have_other_fingerprints() {
        assert_eq!(fingerprint::<Vec<u32>>(), fingerprint::<Vec<u32>>());
        assert_ne!(fingerprint::<u64>(), fingerprint::<i64>());
        assert_ne!(fingerprint::<Vec<u32>>(), fingerprint::<Vec<u64>>());
        assert_ne!(fingerprint::<Option<u32>>(), fingerprint::<u32>());
    }

    #[test]
    fn a_chain_that_would_overflow_the_stack_is_refused() {
        let bytes = encode(&chain(100)).unwrap();
        decode::<Chain>(&bytes).unwrap();
        let bytes = encode(&chain(300)).unwrap();
        let error = decode::<Chain>(&bytes).unwrap_err();
        assert!(matches!(error, DecodeError::Deserialize(_)), "{error}");
    }
}
