// UNSAFETY: the words through which a result is handed over lie in the arena.
#![expect(
    unsafe_code,
    reason = "shared words are reached through a checked pointer into the arena"
)]

use std::io;

use offspring_queue::{EncodeError, Parcel};
use offspring_shm::{Arena, Block, Owner};
use offspring_sync::primitive::{AtomicU32, AtomicU64, Ordering};

use crate::task::Report;

/// Where a child puts its result for its parent, in a block of the parent's.
///
/// The child first notes which block it is going to hand over, then hands it over, then says so in `state`. Whoever
/// is killed in between leaves either a block of the child's, which is swept with it, or one that is already the
/// parent's and noted here, which the parent frees.
#[repr(C)]
#[derive(Debug)]
struct Words {
    /// [`NOTHING`] until the child is done; then for ever what it says. Child: `Release`.
    state: AtomicU32,
    block: AtomicU64,
    capacity: AtomicU64,
    root: AtomicU64,
}

const NOTHING: u32 = 0;
const RESULT: u32 = 1;
const REPORT: u32 = 2;
const NO_ROOM: u32 = 3;

/// What a child has left in its [`Delivery`].
#[derive(Debug)]
pub(crate) enum Delivered {
    Nothing,
    Result(Parcel<()>),
    Report(Parcel<Report>),
    NoRoom,
}

/// The place for one result, seen by the parent or by the child.
#[derive(Debug)]
pub(crate) struct Delivery {
    arena: &'static Arena,
    words: &'static Words,
    /// The parent's, who frees it.
    block: Option<Block>,
}

impl Delivery {
    /// Makes the place, in a block of this process.
    ///
    /// # Errors
    /// When the arena is full.
    pub(crate) fn new(arena: &'static Arena, me: Owner) -> Result<Self, EncodeError> {
        let block = arena.allocate(me, size_of::<Words>())?;
        let words = arena
            .pointer(block.offset, size_of::<Words>())
            .expect("a fresh block lies in the arena");
        // SAFETY: the block is new, ours alone, and large and aligned enough; zeros are valid words, `state` is
        // `NOTHING`.
        let words = unsafe {
            words.write_bytes(0, size_of::<Words>());
            words.cast::<Words>().as_ref()
        };
        Ok(Self {
            arena,
            words,
            block: Some(block),
        })
    }

    /// Finds the place that the parent made.
    ///
    /// # Errors
    /// When the offset is no such place.
    pub(crate) fn at(arena: &'static Arena, offset: u64) -> io::Result<Self> {
        let at = arena.pointer(offset, size_of::<Words>())?.cast::<Words>();
        if !at.is_aligned() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no place for a result at {offset:#x}"),
            ));
        }
        // SAFETY: in bounds and aligned; the words are atomics, and the parent keeps the block until the child is gone.
        let words = unsafe { at.as_ref() };
        Ok(Self {
            arena,
            words,
            block: None,
        })
    }

    pub(crate) fn offset(&self) -> u64 {
        self.block.map_or(0, |block| block.offset)
    }

    /// Hands the outcome of the function over to the parent.
    pub(crate) fn deliver(&self, me: Owner, parent: Owner, outcome: Result<Parcel<()>, Report>) {
        let (parcel, state) = match outcome {
            Ok(result) => (Ok(result), RESULT),
            Err(report) => (Parcel::encode(self.arena, me, &report).map(Parcel::erase), REPORT),
        };
        let mut delivered = NO_ROOM;
        if let Ok(parcel) = parcel {
            let (block, root) = parcel.into_raw();
            self.words.capacity.store(block.capacity as u64, Ordering::Relaxed);
            self.words.root.store(root, Ordering::Relaxed);
            // PAIRS: delivery-noted
            self.words.block.store(block.offset, Ordering::Release);
            // SAFETY: the child writes nothing more into the block, and the parent knows of it through `block`.
            if unsafe { self.arena.transfer(block, me, parent) } {
                delivered = state;
            }
        }
        // PAIRS: delivered
        self.words.state.store(delivered, Ordering::Release);
    }

    /// Takes what the child has left. The child must be gone, and its blocks not yet swept.
    pub(crate) fn take(&self, me: Owner) -> Delivered {
        // PAIRS: delivered
        let state = self.words.state.load(Ordering::Acquire);
        // PAIRS: delivery-noted
        let offset = self.words.block.load(Ordering::Acquire);
        if offset == 0 || self.arena.owner_of(offset) != Some(me) {
            return if state == NO_ROOM {
                Delivered::NoRoom
            } else {
                Delivered::Nothing
            };
        }
        let block = Block {
            offset,
            capacity: self.words.capacity.load(Ordering::Relaxed) as usize,
        };
        let root = self.words.root.load(Ordering::Relaxed);
        match state {
            // SAFETY: the child, of this program's own image, archived its result into this block, gave it to us, and
            // is gone.
            RESULT => Delivered::Result(unsafe { Parcel::from_raw(self.arena, block, root) }),
            // SAFETY: as above, its report.
            REPORT => Delivered::Report(unsafe { Parcel::from_raw(self.arena, block, root) }),
            _ => {
                // SAFETY: ours, noted for us alone, and its writer is gone.
                unsafe { self.arena.free(block) };
                Delivered::Nothing
            }
        }
    }
}

const _: () = assert!(NOTHING == 0, "a place of zeros holds nothing");

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(block) = self.block {
            // SAFETY: the child is gone, or was never started.
            unsafe { self.arena.free(block) };
        }
    }
}
