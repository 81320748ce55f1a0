//! ppoll(2) with a deadline on the monotonic clock, which signals do not end.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// Waits until one of the descriptors is ready, or the deadline; `None` waits for ever.
///
/// # Errors
/// When a descriptor is not open; when there are more of them than this process may have.
pub(super) fn poll(entries: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let timeout = deadline.map(|deadline| TimeSpec::from(deadline.saturating_duration_since(Instant::now())));
        match ppoll(entries, timeout, None) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(error) => {
                let count = entries.len();
                return Err(io::Error::new(
                    io::Error::from(error).kind(),
                    format!("cannot wait for {count} descriptors: {}", error.desc()),
                ));
            }
        }
    }
    let closed = |entry: &&PollFd<'_>| entry.revents().is_some_and(|seen| seen.contains(PollFlags::POLLNVAL));
    match entries.iter().find(closed) {
        None => Ok(()),
        Some(entry) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "cannot wait for descriptor {}: it is not open",
                std::os::fd::AsFd::as_fd(entry).as_raw_fd()
            ),
        )),
    }
}
