//! Ways to the memory of a queue, for fuzz targets.

// UNSAFETY: gives out the memory of a queue as words.
#![expect(unsafe_code, reason = "views the memory of a queue as words")]

use std::{fmt, io};

use offspring_shm::{Handle, SharedSlice};
use offspring_sync::primitive::AtomicU64;

use crate::core::Memory;
use crate::{Message, Queue, QueueHandle};

/// The whole memory of a queue: its header, its slots and its counts of returns.
#[must_use]
pub fn words<T: Message>(queue: &Queue<T>) -> &[AtomicU64] {
    queue.sender.port.core.words()
}

/// The bytes of a header, and those of a slot.
#[must_use]
pub fn layout<T: Message>(queue: &Queue<T>) -> (usize, usize) {
    (crate::shape::Shape::SLOTS_AT, queue.sender.port.core.shape().stride)
}

/// Memory as a queue's, in which nobody has made one.
pub struct Bare(SharedSlice<Memory>);

impl Bare {
    /// So many lines of 128 bytes, all zero.
    ///
    /// # Errors
    /// When there is no room.
    pub fn new(lines: usize) -> io::Result<Self> {
        SharedSlice::zeroed(lines).map(Self)
    }

    /// What it is made of.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the slice is made of words, which are aligned, and everybody accesses them as atomics.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(&*self.0) / size_of::<AtomicU64>()) }
    }

    /// Its name.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.to_handle()
    }
}

impl fmt::Debug for Bare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bare").field(&self.handle()).finish()
    }
}

/// A queue's name that says it came from `from`.
#[must_use]
pub fn queue_handle(memory: Handle, from: u32) -> QueueHandle {
    QueueHandle { memory, from }
}

/// What a queue's name says.
#[must_use]
pub fn memory_of(handle: QueueHandle) -> (Handle, u32) {
    (handle.memory, handle.from)
}

/// Says that blocks may be named by no slot any more, so that they are freed with the queue.
pub fn mark_astray<T: Message>(queue: &Queue<T>) {
    use crate::raw::Place;
    queue.sender.port.core.mark_astray();
}
