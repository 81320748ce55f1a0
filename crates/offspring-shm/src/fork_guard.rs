//! Tells a process from a copy of it that somebody forked.
//!
//! What a process owns in shared memory is not its child's, but a plain `fork` copies the belief to own it: caches of
//! free blocks, the tag, handles. One page that the kernel wipes in every child (`MADV_WIPEONFORK`) holds a mark that
//! only its maker reads as set. Unlike a `pthread_atfork` handler it also sees a raw `clone`, and it costs one load.

// UNSAFETY: maps one anonymous page, has it wiped on fork, and reads one word of it.
#![expect(unsafe_code, reason = "one page with MADV_WIPEONFORK")]

use std::io;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

pub(crate) const MESSAGE: &str = "this process was forked by other means than offspring's and must not act as its \
                                  parent: start it with Process::fork, or use nothing shared in it";

/// Null until [`mark`] was called once; never unmapped.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
/// The process's id where the kernel does not know `MADV_WIPEONFORK` (before 4.14), else 0.
static PID: AtomicU32 = AtomicU32::new(0);

/// Makes this process the one that [`is_original`] answers for.
pub(crate) fn mark() -> io::Result<()> {
    let mut page = PAGE.load(Acquire); // PAIRS: guard-page
    if page.is_null() {
        page = map_page()?;
        // PAIRS: guard-page
        if let Err(other) = PAGE.compare_exchange(ptr::null_mut(), page, Release, Acquire) {
            // SAFETY: the page was mapped just now and nobody else has seen it.
            unsafe { libc::munmap(page.cast(), page_size()) };
            page = other;
        }
    }
    if PID.load(Relaxed) != 0 {
        PID.store(std::process::id(), Relaxed);
    }
    // SAFETY: `page` is mapped for the rest of the process and is only accessed as an atomic.
    unsafe { (*page).store(1, Relaxed) };
    Ok(())
}

/// Whether this is the process that called [`mark`] last, or one in which nobody has called it.
#[inline]
pub(crate) fn is_original() -> bool {
    let page = PAGE.load(Acquire); // PAIRS: guard-page
    if page.is_null() {
        return true;
    }
    // SAFETY: as in `mark`.
    let marked = unsafe { (*page).load(Relaxed) } == 1;
    let pid = PID.load(Relaxed);
    marked && (pid == 0 || pid == std::process::id())
}

/// The error for who acts in a process that is not the original.
pub(crate) fn check() -> io::Result<()> {
    if is_original() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, MESSAGE))
    }
}

fn map_page() -> io::Result<*mut AtomicU64> {
    let len = page_size();
    // SAFETY: a new private mapping at an address of the kernel's choice.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: exactly the mapping made above.
    if unsafe { libc::madvise(page, len, libc::MADV_WIPEONFORK) } != 0 {
        PID.store(std::process::id(), Relaxed);
    }
    Ok(page.cast())
}

/// The size of a page of this system.
pub(crate) fn page_size() -> usize {
    // SAFETY: asks for a constant.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
