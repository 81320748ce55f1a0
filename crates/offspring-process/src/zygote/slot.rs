//! The word in which the kernel notes the pid of the zygote's latest clone.
//!
// UNSAFETY: a shared mapping of one word that the kernel writes to during clone(2).
#![expect(unsafe_code, reason = "a shared mapping")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap, munmap};

use crate::socket;

const LENGTH: NonZeroUsize = NonZeroUsize::new(size_of::<AtomicU32>()).unwrap();

/// The word in which the kernel notes the pid of the zygote's latest clone.
///
/// The client clears it before each request. The kernel writes it in the clone call (CLONE_PARENT_SETTID) before the clone
/// runs, and a zygote that is killed during the call is still in it until then. So when the zygote is found dead, the
/// word holds the pid of the clone that it could not report any more, or zero if there is none. There is no third case,
/// and a request is never carried out twice or forgotten.
///
/// No orderings are needed: the client reads the word only after it has waited for the zygote's death, and clears it
/// only while the zygote is waiting for its request.
#[derive(Debug)]
pub(super) struct Slot {
    word: NonNull<AtomicU32>,
}

// SAFETY: the word is an atomic, and the mapping belongs to no thread.
unsafe impl Send for Slot {}

impl Slot {
    /// A new word, and the descriptor by which the zygote maps it.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let memfd = socket::above_streams(memfd_create(c"offspring-zygote", MFdFlags::MFD_CLOEXEC)?)?;
        nix::unistd::ftruncate(&memfd, LENGTH.get() as i64)?;
        Ok((Self::map(&memfd)?, memfd))
    }

    pub(super) fn map(memfd: &OwnedFd) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let address = unsafe { mmap(None, LENGTH, protection, flags, memfd.as_fd(), 0) }?;
        Ok(Self { word: address.cast() })
    }

    /// Prepares the word for the kernel, in the zygote: the write must not fault, as that could fail in a process that is
    /// being killed, and the clones do not get the mapping.
    pub(super) fn for_clones(self) -> &'static AtomicU32 {
        let address = self.word.cast();
        // SAFETY: the mapping is this value's own. Where locking is not allowed, the page is merely most likely there.
        unsafe {
            let _ = mlock(address, LENGTH.get());
            let _ = madvise(address, LENGTH.get(), MmapAdvise::MADV_DONTFORK);
        }
        // SAFETY: the mapping is never removed, as this value is forgotten.
        let word = unsafe { self.word.as_ref() };
        std::mem::forget(self);
        word
    }

    pub(super) fn clear(&self) {
        self.word().store(0, Ordering::Relaxed);
    }

    pub(super) fn pid(&self) -> Option<u32> {
        Some(self.word().load(Ordering::Relaxed)).filter(|&pid| pid != 0)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the word is mapped as long as this value lives.
        unsafe { self.word.as_ref() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing refers to it any more.
        let _ = unsafe { munmap(self.word.cast(), LENGTH.get()) };
    }
}
