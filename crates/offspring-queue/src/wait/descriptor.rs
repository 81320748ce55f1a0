use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Shared;
use super::WaitOn;
use super::bridge::Watch;
use super::waitable::Kind;

/// A descriptor that becomes readable when an end of a queue is ready, for poll, epoll and async runtimes.
///
/// [`Receiver::descriptor`](crate::Receiver::descriptor) and its like make one. An end of a queue costs no descriptor until
/// then; this one is an eventfd, and a thread of this process makes it readable. The thread is started for the first descriptor, serves
/// up to 63, and has ended when the last one is dropped. To the other users of the queue it is one more that waits.
/// Waiting costs no processor time.
///
/// # When it is readable
///
/// - It becomes readable when the operation (receiving, for a receiver) would not wait: also because the queue is over.
/// - It stays readable until [`rearm`](Self::rearm), whatever is received meanwhile. So readable means: try. Another consumer may
///   have been faster.
/// - `rearm` makes it unreadable, unless the operation would not wait: then it is readable at once, which an edge-triggered epoll
///   reports anew. Nothing that comes before, during or after the call is missed.
///
/// Reading or writing the descriptor by other means than `rearm` is a mistake, though not a dangerous one.
///
/// ```
/// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
/// use offspring_queue::Queue;
/// use std::os::fd::AsFd;
///
/// let (sender, receiver) = Queue::new(8)?.split();
/// let descriptor = receiver.descriptor()?;
/// sender.send("hello".to_string())?;
/// drop(sender);
///
/// let mut received = Vec::new();
/// loop {
///     poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
///     match receiver.try_recv() {
///         Ok(message) => received.push(message),
///         Err(error) if error.is_empty() => descriptor.rearm()?,
///         Err(_) => break,
///     }
/// }
/// assert_eq!(received, ["hello"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// In an async runtime the same loop awaits. With tokio, where `descriptor` is an `AsyncFd<Descriptor>`, registered with
/// `Interest::READABLE`:
///
/// ```text
/// loop {
///     match receiver.try_recv() {
///         Ok(message) => return Ok(message),
///         Err(error) if error.is_empty() => {
///             let mut guard = descriptor.readable().await?;
///             guard.clear_ready();
///             descriptor.get_ref().rearm()?;
///         }
///         Err(error) => return Err(error),
///     }
/// }
/// ```
///
/// # Forks and ends
///
/// A forked child shares the eventfd but has no such thread: there `rearm` is an error, and the child asks for a descriptor of
/// its own. A process that has the thread has two threads, and cannot be forked by `Process::fork`. The descriptor
/// keeps the memory of the queue but is no end of it: whose last receiver is dropped is gone for the senders, whatever
/// descriptors there are.
///
/// Before Linux 5.16, and where a sandbox forbids `futex_waitv`, the thread looks every 5 ms instead.
#[derive(Debug)]
pub struct Descriptor {
    notice: Arc<EventFd>,
    watches: Vec<Watch>,
}

impl Descriptor {
    /// Ready when one of `doorbells` is.
    ///
    /// # Errors
    /// When the eventfd or the thread cannot be had.
    pub(super) fn over(doorbells: impl IntoIterator<Item = Shared>) -> io::Result<Self> {
        let notice = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(|error| {
            io::Error::new(
                io::Error::from(error).kind(),
                format!("cannot make an eventfd for a queue: {}", error.desc()),
            )
        })?;
        let notice = Arc::new(notice);
        let watches = doorbells
            .into_iter()
            .map(|doorbell| Watch::new(doorbell, Arc::clone(&notice)));
        Ok(Self {
            watches: watches.collect::<io::Result<_>>()?,
            notice,
        })
    }

    /// Makes the descriptor unreadable until the next time that the operation would not wait; call it when there was nothing to
    /// receive, or no room.
    ///
    /// # Errors
    /// In a forked copy of the process that made the descriptor.
    pub fn rearm(&self) -> io::Result<()> {
        self.watches.iter().try_for_each(Watch::check_ours)?;
        // It fails if it was not readable.
        let _ = self.notice.read();
        // It would be told at once: not by way of the thread, then.
        if self.watches.iter().any(Watch::is_ready) {
            let _ = self.notice.write(1);
            return Ok(());
        }
        self.watches.iter().try_for_each(Watch::arm)
    }
}

impl WaitOn<'_> {
    /// The descriptor of an end of a queue.
    pub(crate) fn descriptor(&self) -> io::Result<Descriptor> {
        match &self.0 {
            Kind::Bell(doorbell) => Descriptor::over([doorbell.share()]),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notice.as_fd()
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.notice.as_raw_fd()
    }
}
