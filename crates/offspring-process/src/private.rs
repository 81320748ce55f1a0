//! Descriptors of this process that a forked copy of it must not keep.
//!
//! The parent's end of a lifeline tells the child, by being open, that its parent lives. A fork of the parent, even by
//! code that knows nothing of this crate, would inherit a second reference and keep the child alive after the parent's
//! death. So these descriptors are listed, and a `pthread_atfork` handler replaces them in the copy, before anything
//! else runs there, by a harmless one of the same number: the `OwnedFd` in the copy stays valid. An exec closes them
//! (they are CLOEXEC), and `posix_spawn`, which does not run the handlers, always ends in one.
//!
// UNSAFETY: pthread_atfork handlers, which hold a lock across the fork and replace descriptors behind their owners.
#![expect(unsafe_code, reason = "fork handlers")]

use std::cell::UnsafeCell;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use crate::{lifeline, socket};

// The standard library's mutex and not parking_lot's: the handler in the child has to unlock it, and parking_lot's
// slow path would look for waiters in a table whose locks may be held by threads that do not exist in the copy.
static LISTED: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

fn listed() -> MutexGuard<'static, BTreeSet<RawFd>> {
    // Nothing panics while the list is locked but an allocation failure, which aborts.
    LISTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The guard of [`LISTED`] while a fork is going on.
struct Held(UnsafeCell<Option<MutexGuard<'static, BTreeSet<RawFd>>>>);

// SAFETY: the cell is only touched by the three fork handlers, between taking the lock in `prepare` and releasing it in
// `parent` or `child`, so by one thread at a time.
unsafe impl Sync for Held {}

static HELD: Held = Held(UnsafeCell::new(None));

extern "C" fn prepare() {
    let guard = listed();
    // SAFETY: the lock is held, so no other thread is between `prepare` and its end.
    unsafe { *HELD.0.get() = Some(guard) };
}

extern "C" fn parent() {
    // SAFETY: this thread took the lock in `prepare`.
    drop(unsafe { (*HELD.0.get()).take() });
}

extern "C" fn child() {
    // SAFETY: this thread, the only one of the copy, took the lock in `prepare`.
    let Some(mut listed) = (unsafe { (*HELD.0.get()).take() }) else {
        return;
    };
    lifeline::forget_inherited();
    for &fd in listed.iter() {
        sever(fd);
    }
    listed.clear();
}

/// Makes `fd` refer to something harmless. Async-signal-safe. When no descriptor can be had for that, the number is
/// left as it is: the copy then shares it, which delays the end of a child until the copy ends too.
fn sever(fd: RawFd) {
    // SAFETY: plain system calls; `fd` belongs to this module's owners, who only close it, read or write it, all of
    // which is safe with an eventfd in its place.
    unsafe {
        let harmless = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if harmless >= 0 {
            libc::dup3(harmless, fd, libc::O_CLOEXEC);
            libc::close(harmless);
        }
    }
}

/// Installs the handlers, once; copies made by the zygote's raw `clone3` inherit them.
pub(crate) fn install_handlers() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the handlers are functions of this image and take no arguments. The only failure is ENOMEM, and then
        // copies merely share the descriptors.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    });
}

/// A descriptor that no fork inherits.
#[derive(Debug)]
pub(crate) struct PrivateFd(Option<OwnedFd>);

impl PrivateFd {
    /// A socket pair whose first end is private. The list is locked while the pair is made, so that no fork can happen
    /// between making and listing it.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        install_handlers();
        let mut listed = listed();
        let (ours, theirs) = socket::pair()?;
        listed.insert(ours.as_raw_fd());
        Ok((Self(Some(ours)), theirs))
    }
}

impl AsFd for PrivateFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().expect("taken only by drop").as_fd()
    }
}

impl Drop for PrivateFd {
    fn drop(&mut self) {
        // Closed under the lock: a fork must find the number either listed and open or neither.
        let mut listed = listed();
        if let Some(fd) = self.0.take() {
            listed.remove(&fd.as_raw_fd());
            drop(fd);
        }
    }
}
