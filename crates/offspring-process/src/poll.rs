//! ppoll(2) with a deadline on the monotonic clock, which signals do not end.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// Waits until one of the descriptors is ready or the deadline has passed (then none is). `None` waits for ever.
pub(crate) fn wait<const N: usize>(
    descriptors: &[(BorrowedFd<'_>, PollFlags); N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    let mut entries = descriptors.map(|(fd, flags)| PollFd::new(fd, flags));
    loop {
        let timeout = deadline.map(|deadline| TimeSpec::from(deadline.saturating_duration_since(Instant::now())));
        match ppoll(&mut entries, timeout, None) {
            Ok(_) => return Ok(entries.map(|entry| entry.revents() != Some(PollFlags::empty()))),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
