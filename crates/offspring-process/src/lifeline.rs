//! The socket that ties a child to its parent.
//!
//! Each child holds one end of a private sequenced-packet socket pair, and only its parent holds the other end. The
//! child asks the kernel to send it SIGKILL as soon as anything happens on its end (fcntl(2), `F_SETSIG` and `O_ASYNC`).
//! The parent never writes, so the one thing that can happen is that the parent's end is closed: because the parent
//! died, however it died, or because it dropped the child. The kernel then kills the child in the middle of whatever it
//! does: no thread, no polling, and, unlike `PR_SET_PDEATHSIG`, no dependence on which thread of the parent started it.
//!
//! The other direction carries at most two messages, the outcome of the settings and the report of a panic, so that the
//! send buffer never fills: the kernel would signal the space that becomes free, too.
//!
// UNSAFETY: a descriptor that the whole process owns.
#![expect(unsafe_code, reason = "a descriptor kept as a number")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use nix::poll::PollFlags;

use crate::packet::{self, Absent, Kind, Packet};
use crate::private::PrivateFd;
use crate::wire::Writer;
use crate::{kernel, poll};

const NONE: i32 = -1;

/// From `asm-generic/fcntl.h`; libc has them for some targets only.
const F_SETSIG: libc::c_int = 10;
const F_GETSIG: libc::c_int = 11;

/// The child's end in this process, if it is a child. Set once by [`arm`], before there is a second thread, and reset in
/// a forked copy; relaxed, because nothing else is published by it.
static ARMED: AtomicI32 = AtomicI32::new(NONE);

/// The parent's end. Dropping it kills the child.
#[derive(Debug)]
pub(crate) struct Lifeline(PrivateFd);

impl Lifeline {
    /// A new lifeline and the end for the child.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = PrivateFd::pair()?;
        Ok((Self(ours), theirs))
    }

    /// A message of the child that is already there.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Packet, Absent> {
        Packet::receive(self.0.as_fd(), buffer, false)
    }

    /// Waits for a message of the child, or for its death, which `pidfd` tells.
    pub(crate) fn wait(&self, pidfd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Packet, Absent> {
        loop {
            match self.receive(buffer) {
                Err(Absent::NotYet) => {}
                result => return result,
            }
            let ready = poll::wait(
                &[(self.0.as_fd(), PollFlags::POLLIN), (pidfd, PollFlags::POLLIN)],
                None::<Instant>,
            )
            .map_err(Absent::Error)?;
            // The child may have written before it died, so the socket is looked at once more.
            if !ready[0] {
                return match self.receive(buffer) {
                    Err(Absent::NotYet) => Err(Absent::End),
                    result => result,
                };
            }
        }
    }
}

/// Ties this process to the holder of the other end of `end`, for the rest of its life. If that one is already gone,
/// this process is killed here.
#[inline(always)]
pub(crate) fn arm(end: OwnedFd) -> io::Result<()> {
    let fd = end.as_raw_fd();
    kernel::fcntl(fd, libc::F_SETOWN, kernel::process_id())?;
    kernel::fcntl(fd, F_SETSIG, libc::SIGKILL)?;
    kernel::fcntl(fd, libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK)?;
    // Only now: a hang-up before O_ASYNC was set is seen here, one after it is signalled by the kernel.
    if kernel::has_hung_up(end.as_fd()) {
        kernel::kill_this_process();
    }
    ARMED.store(end.into_raw_fd(), Ordering::Relaxed);
    Ok(())
}

/// Whether `fd` still is a lifeline: user code may have closed every descriptor and opened others.
fn is_lifeline(fd: i32) -> bool {
    fd != NONE && kernel::fcntl(fd, F_GETSIG, 0).is_ok_and(|signal| signal == libc::SIGKILL)
}

/// Closes the lifeline of the process that this one was forked from. Async-signal-safe.
pub(crate) fn forget_inherited() {
    let fd = ARMED.swap(NONE, Ordering::Relaxed);
    if is_lifeline(fd) {
        // SAFETY: `arm` gave the descriptor to this module for good, and it is still the same one.
        unsafe { libc::close(fd) };
    }
}

/// Sends a message to the parent, if this process has a lifeline.
pub(crate) fn tell_parent(kind: Kind, body: &Writer) {
    let fd = ARMED.load(Ordering::Relaxed);
    if is_lifeline(fd) {
        // SAFETY: the descriptor is open and stays so, as only this module closes it.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        // A parent that is gone takes this process with it; any other failure costs no more than the report.
        let _ = packet::send(socket, kind, body, &[], &[]);
    }
}
