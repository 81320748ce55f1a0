use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::{BATCH, Head, Kind};
use super::socket::Socket;
use super::{ConnectionError, value};
use crate::Message;

/// The sending half of a [`Connection`](super::Connection).
///
/// When it is dropped the other side has received all when it has received what was sent.
#[derive(Debug)]
pub struct ConnectionSender {
    pub(super) socket: Arc<Socket>,
    pub(super) timeout: Option<Duration>,
    broken: bool,
    /// Whether the other half lives on its own.
    pub(super) alone: bool,
}

impl ConnectionSender {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            timeout: None,
            broken: false,
            alone: false,
        }
    }

    /// As [`Connection::send_bytes`](super::Connection::send_bytes).
    ///
    /// # Errors
    /// As there.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.frame(Kind::Bytes, 0, bytes, self.deadline())
    }

    /// As [`Connection::send`](super::Connection::send).
    ///
    /// # Errors
    /// As there.
    pub fn send<T: Message>(&mut self, value: &T) -> Result<(), ConnectionError> {
        let bytes = value::encode(value).map_err(ConnectionError::Encode)?;
        self.frame(Kind::Value, value::fingerprint::<T>(), &bytes, self.deadline())
    }

    /// As [`Connection::send_fds`](super::Connection::send_fds).
    ///
    /// # Errors
    /// As there.
    pub fn send_fds(&mut self, descriptors: &[BorrowedFd<'_>]) -> Result<(), ConnectionError> {
        if !self.socket.passes_descriptors() {
            return Err(ConnectionError::Io(io::Error::new(
                io::ErrorKind::Unsupported,
                "descriptors travel over Unix sockets only: connect to a unix or an abstract address",
            )));
        }
        let deadline = self.deadline();
        let mut rest = descriptors;
        loop {
            let (batch, after) = rest.split_at(rest.len().min(BATCH));
            let head = Head {
                kind: Kind::Descriptors,
                len: 0,
                tag: rest.len() as u64,
            };
            // Once a batch is out the message is begun, whether or not this batch is.
            self.transmit(head, &[], batch, deadline, rest.len() < descriptors.len())?;
            rest = after;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// As [`Connection::set_send_timeout`](super::Connection::set_send_timeout).
    pub fn set_send_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Sends one frame.
    pub(super) fn frame(
        &mut self,
        kind: Kind,
        tag: u64,
        body: &[u8],
        deadline: Option<Instant>,
    ) -> Result<(), ConnectionError> {
        let head = Head {
            kind,
            len: body.len() as u64,
            tag,
        };
        self.transmit(head, body, &[], deadline, false)
    }

    fn transmit(
        &mut self,
        head: Head,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Option<Instant>,
        mut begun: bool,
    ) -> Result<(), ConnectionError> {
        if self.broken {
            return Err(ConnectionError::Broken);
        }
        let head = head.encode();
        let mut parts = [IoSlice::new(&head), IoSlice::new(body)];
        let sent = self.socket.send(&mut parts, descriptors, deadline, &mut begun);
        sent.inspect_err(|error| {
            // What the other side sent before it went can still be received; half a message makes the rest unreadable.
            if begun && !error.is_disconnected() {
                self.broken = true;
                self.socket.end();
            }
        })
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

impl AsFd for ConnectionSender {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for ConnectionSender {
    fn drop(&mut self) {
        // A whole connection is not ended but closed: another process may have its descriptor.
        if self.alone {
            self.socket.end_sending();
        }
    }
}
