//! Shared memory as one who writes where no protocol lets it sees it.

// UNSAFETY: gives out words of a mapping, and touches what the code under test says is memory.
#![expect(unsafe_code, reason = "words of a mapping, touching memory")]

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use offspring_shm::{Arena, Mapping, Segment, family};

/// A second mapping of an arena.
pub(crate) struct Words(Mapping);

impl Words {
    pub(crate) fn of(arena: &Arena) -> Self {
        let fd = arena.as_fd().try_clone_to_owned().expect("a descriptor");
        Self::over(&Segment::from_fd(fd).expect("an arena is a segment"))
    }

    pub(crate) fn over(segment: &Segment) -> Self {
        Self(segment.map().expect("address space"))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The word at `offset`, which is rounded down to the start of one.
    pub(crate) fn at(&self, offset: usize) -> &AtomicU64 {
        let offset = offset / 8 * 8;
        assert!(offset < self.len() && self.len() - offset >= 8);
        // SAFETY: inside of the mapping and aligned; everybody accesses these words as atomics.
        unsafe { self.0.as_ptr().add(offset).cast::<AtomicU64>().as_ref() }
    }
}

/// Reads and writes the first and the last of `len` bytes that were promised to be memory of this process's own.
pub(crate) fn touch(at: NonNull<u8>, len: usize) {
    for place in [0, len.saturating_sub(1)] {
        if place < len {
            // SAFETY: the code under test promises that it is memory; if it is not, the crash is the finding.
            let byte = unsafe { at.add(place).cast::<AtomicU8>().as_ref() };
            byte.store(byte.load(Relaxed), Relaxed);
        }
    }
}

/// The arena of this process, small, so that it is full now and then.
pub(crate) fn arena() -> &'static Arena {
    static ARENA: OnceLock<&'static Arena> = OnceLock::new();
    ARENA.get_or_init(|| {
        family::set_capacity(16 << 20).expect("nobody has used the arena yet");
        family::arena().expect("an arena")
    })
}
