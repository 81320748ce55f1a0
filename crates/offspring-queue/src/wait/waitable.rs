use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::poll::PollFlags;

use super::Doorbell;

/// What [`wait_any`](crate::wait_any) can wait for.
///
/// | type | ready when |
/// |---|---|
/// | [`Receiver`](crate::Receiver), [`Queue`](crate::Queue), [`TaskReceiver`](crate::TaskReceiver) | receiving would not wait: a message, or the end |
/// | [`Sender`](crate::Sender) | sending would not wait: room, or nobody to receive |
/// | [`PipeEnd`](crate::PipeEnd), [`Consumer`](crate::spsc::Consumer) | as a receiver |
/// | [`Producer`](crate::spsc::Producer) | as a sender |
/// | [`JoinableQueue`](crate::JoinableQueue) | `join` would not wait: nothing is left to do, or nobody who could |
/// | [`Deadline`](crate::Deadline) | the moment has come |
/// | any descriptor: sockets, processes, [`Descriptor`](crate::Descriptor) | it is readable, at its end, or broken |
/// | [`Writable`](crate::Writable) of a descriptor | it is writable, or broken |
///
/// A type of your own can pass on what one of its fields waits for:
///
/// ```
/// use offspring_queue::{Receiver, WaitOn, Waitable};
///
/// struct Inbox {
///     messages: Receiver<String>,
/// }
///
/// impl Waitable for Inbox {
///     fn wait_on(&self) -> WaitOn<'_> {
///         self.messages.wait_on()
///     }
/// }
/// ```
pub trait Waitable {
    /// What to wait for, made anew for each wait.
    fn wait_on(&self) -> WaitOn<'_>;
}

impl<F: AsFd + ?Sized> Waitable for F {
    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::readable(self.as_fd())
    }
}

/// One thing to wait for, from [`Waitable::wait_on`].
pub struct WaitOn<'a>(pub(super) Kind<'a>);

pub(super) enum Kind<'a> {
    Bell(Box<dyn Doorbell + 'a>),
    Descriptor(BorrowedFd<'a>, PollFlags),
    Deadline(Instant),
}

impl<'a> WaitOn<'a> {
    /// Until the descriptor is readable, at its end, or broken.
    pub const fn readable(fd: BorrowedFd<'a>) -> Self {
        Self(Kind::Descriptor(fd, PollFlags::POLLIN))
    }

    /// Until the descriptor is writable, or broken.
    pub const fn writable(fd: BorrowedFd<'a>) -> Self {
        Self(Kind::Descriptor(fd, PollFlags::POLLOUT))
    }

    /// Until a moment has come.
    pub const fn deadline(at: Instant) -> Self {
        Self(Kind::Deadline(at))
    }

    pub(crate) fn bell(doorbell: impl Doorbell + 'a) -> Self {
        Self(Kind::Bell(Box::new(doorbell)))
    }
}

impl fmt::Debug for WaitOn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bell(doorbell) => f.debug_tuple("Bell").field(doorbell.bell()).finish(),
            Kind::Descriptor(fd, flags) => f.debug_tuple("Descriptor").field(fd).field(flags).finish(),
            Kind::Deadline(at) => f.debug_tuple("Deadline").field(at).finish(),
        }
    }
}
