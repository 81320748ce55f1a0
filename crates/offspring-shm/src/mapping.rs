// UNSAFETY: gives out addresses in shared memory and passes advice on them to the kernel.
#![expect(unsafe_code, reason = "atomics and advice on a shared mapping")]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use memmap2::{Mmap, MmapRaw};

/// A segment in this process's address space; unmapped when dropped.
///
/// It gives out an address, never a `&[u8]`: other processes may be writing the same bytes at any moment, which a
/// reference would forbid. Whoever makes references or slices of the address must know that nobody writes there.
#[derive(Debug)]
pub struct Mapping {
    /// Copies of what `pages` knows, next to each other for the hot paths.
    base: NonNull<u8>,
    len: usize,
    pages: Pages,
}

/// Keeps the mapping, and unmaps it when dropped.
#[derive(Debug)]
enum Pages {
    Writable {
        _pages: MmapRaw,
    },
    /// A write-sealed segment. It is mapped privately, because kernels before 6.7 refuse a shared mapping of it.
    ReadOnly {
        _pages: Mmap,
    },
}

// SAFETY: the address is valid in every thread until the mapping is dropped, and using it is the user's `unsafe` matter.
unsafe impl Send for Mapping {}
// SAFETY: as above; through a shared reference this type itself only makes references to atomics.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn writable(pages: MmapRaw) -> io::Result<Self> {
        Ok(Self {
            base: address(pages.as_mut_ptr())?,
            len: pages.len(),
            pages: Pages::Writable { _pages: pages },
        })
    }

    pub(crate) fn read_only(pages: Mmap) -> io::Result<Self> {
        let base = address(pages.as_ptr().cast_mut())?;
        Ok(Self {
            base,
            len: pages.len(),
            pages: Pages::ReadOnly { _pages: pages },
        })
    }

    /// The address of the first byte, aligned to a page.
    ///
    /// Writing through it is a segmentation fault when the mapping is not [writable](Self::is_writable).
    #[must_use]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.base
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes; a segment never has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether this process may write here.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        matches!(self.pages, Pages::Writable { .. })
    }

    /// The word at `offset`.
    ///
    /// # Panics
    /// When the word does not lie in the mapping or is not aligned: callers in this crate compute offsets from checked
    /// indices.
    #[inline]
    pub(crate) fn atomic(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset < self.len && self.len - offset >= 8,
            "a word outside the mapping"
        );
        // SAFETY: in bounds, and aligned because the mapping starts on a page; the memory stays mapped as long as
        // `self`; every process accesses control words as atomics only.
        unsafe { self.as_ptr().add(offset).cast::<AtomicU64>().as_ref() }
    }

    /// Keeps the mapping out of core dumps.
    pub(crate) fn exclude_from_dumps(&self) -> io::Result<()> {
        // SAFETY: the whole mapping; the advice changes no contents.
        let done = unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_DONTDUMP) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn address(first: *mut u8) -> io::Result<NonNull<u8>> {
    NonNull::new(first).ok_or_else(|| io::Error::other("the system mapped a segment at address 0"))
}
