//! A connected stream socket, and waiting for it.

use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, getsockopt, setsockopt, shutdown, sockopt};
use nix::unistd::Uid;

use super::{ConnectionError, PeerCredentials, message};

/// How long to wait until the system may have forgotten some descriptors that are on their way.
const CROWDED: Duration = Duration::from_millis(2);

/// A connected stream socket. Nothing here depends on whether it blocks.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    passes_descriptors: bool,
}

impl Socket {
    pub(super) fn unix(stream: UnixStream) -> Self {
        Self {
            fd: stream.into(),
            passes_descriptors: true,
        }
    }

    /// Short messages leave at once, and a machine that vanished is noticed at last.
    pub(super) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        setsockopt(&stream, sockopt::KeepAlive, &true)?;
        Ok(Self {
            fd: stream.into(),
            passes_descriptors: false,
        })
    }

    pub(super) fn passes_descriptors(&self) -> bool {
        self.passes_descriptors
    }

    pub(super) fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        if !self.passes_descriptors {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel knows the peers of Unix sockets only",
            ));
        }
        let credentials = getsockopt(&self.fd, sockopt::PeerCredentials)?;
        Ok(PeerCredentials {
            pid: u32::try_from(credentials.pid()).unwrap_or(0),
            uid: credentials.uid(),
            gid: credentials.gid(),
        })
    }

    /// Whether the other side may be talked to: over TCP everybody, on this machine the same user and root.
    pub(super) fn admit(&self, any_user: bool) -> Result<(), ConnectionError> {
        if any_user || !self.passes_descriptors {
            return Ok(());
        }
        let uid = self.peer_credentials()?.uid;
        if is_trusted(uid, Uid::effective().as_raw()) {
            Ok(())
        } else {
            Err(ConnectionError::Authentication(
                "the other side is a process of another user: see any_user",
            ))
        }
    }

    /// Sends all of `parts`, the descriptors with the first byte. Whether anything was sent before an error, `begun` tells.
    pub(super) fn send(
        &self,
        mut parts: &mut [IoSlice<'_>],
        descriptors: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
        begun: &mut bool,
    ) -> Result<(), ConnectionError> {
        let mut descriptors = descriptors;
        loop {
            match message::send(self.fd.as_fd(), parts, descriptors) {
                Ok(sent) => {
                    *begun |= sent > 0;
                    IoSlice::advance_slices(&mut parts, sent);
                    if parts.is_empty() {
                        return Ok(());
                    }
                    if sent > 0 {
                        descriptors = &[];
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(PollFlags::POLLOUT, deadline)? {
                        return Err(ConnectionError::Timeout);
                    }
                }
                // More descriptors of this user are on their way, in whatever sockets, than RLIMIT_NOFILE. Nothing tells
                // when some arrive, but the peer's end can be seen.
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                    let now = Instant::now();
                    if self.wait(PollFlags::empty(), Some(now))? {
                        return Err(ConnectionError::Disconnected);
                    }
                    if deadline.is_some_and(|deadline| deadline <= now) {
                        return Err(ConnectionError::Timeout);
                    }
                    sleep(CROWDED);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives some bytes, at least one; 0 only at the end of the connection. `buffer` is not empty.
    ///
    /// Descriptors that are not wanted are closed and an error.
    pub(super) fn receive(
        &self,
        buffer: &mut [u8],
        mut descriptors: Option<&mut Vec<OwnedFd>>,
        deadline: Option<Instant>,
    ) -> Result<usize, ConnectionError> {
        loop {
            match message::receive(self.fd.as_fd(), buffer, descriptors.as_deref_mut()) {
                Ok(received) if received.lost => {
                    return Err(ConnectionError::Malformed(if descriptors.is_some() {
                        "descriptors were lost: this process has no room for them (see RLIMIT_NOFILE), or too many came at \
                         once"
                    } else {
                        "descriptors came in the middle of a message"
                    }));
                }
                Ok(received) => return Ok(received.len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(PollFlags::POLLIN, deadline)? {
                        return Err(ConnectionError::Timeout);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until something happened, the end of the connection included; `false` when the time ran out.
    pub(super) fn wait(&self, what: PollFlags, deadline: Option<Instant>) -> io::Result<bool> {
        wait(self.fd.as_fd(), what, deadline)
    }

    /// Ends the connection for both sides and everybody who has it.
    pub(super) fn end(&self) {
        // It may have ended already; there is nobody to tell.
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }

    /// Tells the other side that nothing more will be sent.
    pub(super) fn end_sending(&self) {
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Write);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn is_trusted(peer: u32, me: u32) -> bool {
    peer == me || peer == 0
}

/// Waits for a descriptor; `false` when the time ran out.
pub(super) fn wait(fd: BorrowedFd<'_>, what: PollFlags, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up, so that it does not spin through the last millisecond; a very long wait goes in pieces.
                let millis = left.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(fd, what)], timeout) {
            Ok(0) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_user_and_root_are_trusted() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1000, 0) && !is_trusted(1001, 1000) && !is_trusted(65534, 1000));
    }
}
