use std::any::type_name;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use rkyv::util::AlignedVec;

use super::buffer::Buffer;
use super::frame::{self, BATCH, HEAD, Head, Kind, PROOF};
use super::socket::Socket;
use super::{ConnectionError, value};
use crate::Message;

/// The longest message that is received unless another limit is set.
const MAX_MESSAGE_LEN: usize = i32::MAX as usize;

/// The most descriptors that are received with one message unless another limit is set.
const MAX_DESCRIPTORS: usize = 1024;

/// The receiving half of a [`Connection`](super::Connection).
#[derive(Debug)]
pub struct ConnectionReceiver {
    pub(super) socket: Arc<Socket>,
    timeout: Option<Duration>,
    max_message_len: usize,
    max_descriptors: usize,
    broken: bool,
    incoming: Incoming,
}

/// What has come of the next message. A receive whose time runs out leaves it for the next one.
#[derive(Debug, Default)]
struct Incoming {
    head: [u8; HEAD],
    /// How many bytes of `head`.
    have: usize,
    /// The head, when all of it has come.
    current: Option<Head>,
    /// Those that came with this and the earlier heads of the message.
    descriptors: Vec<OwnedFd>,
    /// How many of them came with earlier heads.
    settled: usize,
    /// How many are still to come with further heads.
    awaited: u64,
    bytes: Buffer<Vec<u8>>,
    value: Buffer<AlignedVec<{ value::ALIGN }>>,
}

impl ConnectionReceiver {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        Self {
            socket,
            timeout: None,
            max_message_len: MAX_MESSAGE_LEN,
            max_descriptors: MAX_DESCRIPTORS,
            broken: false,
            incoming: Incoming::default(),
        }
    }

    /// As [`Connection::recv_bytes`](super::Connection::recv_bytes).
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, ConnectionError> {
        let deadline = self.deadline();
        self.guarded(|this| {
            let len = this.body(Kind::Bytes, deadline)?.0;
            let Self { socket, incoming, .. } = this;
            incoming.bytes.fill(socket, len, deadline)?;
            incoming.current = None;
            Ok(incoming.bytes.take())
        })
    }

    /// As [`Connection::recv_bytes_into`](super::Connection::recv_bytes_into).
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, ConnectionError> {
        let deadline = self.deadline();
        self.guarded(|this| {
            let len = this.body(Kind::Bytes, deadline)?.0;
            let Self { socket, incoming, .. } = this;
            if len > buffer.len() {
                incoming.bytes.fill(socket, len, deadline)?;
                incoming.current = None;
                let message = incoming.bytes.take();
                return Err(ConnectionError::BufferTooShort { message });
            }
            incoming.bytes.fill_slice(socket, &mut buffer[..len], deadline)?;
            incoming.current = None;
            Ok(len)
        })
    }

    /// As [`Connection::recv`](super::Connection::recv).
    ///
    /// # Errors
    /// As there.
    pub fn recv<T: Message>(&mut self) -> Result<T, ConnectionError> {
        let deadline = self.deadline();
        self.guarded(|this| {
            let (len, tag) = this.body(Kind::Value, deadline)?;
            if tag != value::fingerprint::<T>() {
                let expected = type_name::<T>();
                return Err(ConnectionError::WrongType { expected });
            }
            let Self { socket, incoming, .. } = this;
            incoming.value.fill(socket, len, deadline)?;
            incoming.current = None;
            value::decode(&incoming.value.take()).map_err(ConnectionError::Decode)
        })
    }

    /// As [`Connection::recv_fds`](super::Connection::recv_fds).
    ///
    /// # Errors
    /// As there.
    pub fn recv_fds(&mut self) -> Result<Vec<OwnedFd>, ConnectionError> {
        let deadline = self.deadline();
        self.guarded(|this| {
            loop {
                this.expect(Kind::Descriptors, deadline)?;
                let incoming = &mut this.incoming;
                incoming.current = None;
                if incoming.awaited == 0 {
                    incoming.settled = 0;
                    return Ok(std::mem::take(&mut incoming.descriptors));
                }
            }
        })
    }

    /// As [`Connection::poll`](super::Connection::poll).
    ///
    /// # Errors
    /// As there.
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool, ConnectionError> {
        if self.broken {
            return Err(ConnectionError::Broken);
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Ok(self.socket.wait(PollFlags::POLLIN, deadline)?)
    }

    /// As [`Connection::set_recv_timeout`](super::Connection::set_recv_timeout).
    pub fn set_recv_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// As [`Connection::set_max_message_len`](super::Connection::set_max_message_len).
    pub fn set_max_message_len(&mut self, limit: usize) {
        self.max_message_len = limit;
    }

    /// As [`Connection::set_max_descriptors`](super::Connection::set_max_descriptors).
    pub fn set_max_descriptors(&mut self, limit: usize) {
        self.max_descriptors = limit;
    }

    /// Receives a nonce or a code, which comes in a frame of this kind.
    pub(super) fn proof(&mut self, kind: Kind, deadline: Instant) -> Result<[u8; PROOF], ConnectionError> {
        self.guarded(|this| {
            this.expect(kind, Some(deadline))?;
            let Self { socket, incoming, .. } = this;
            let mut proof = [0; PROOF];
            incoming.bytes.fill_slice(socket, &mut proof, Some(deadline))?;
            incoming.current = None;
            Ok(proof)
        })
    }

    /// Lets `work` receive, and gives the connection up when it fails for good.
    fn guarded<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R, ConnectionError>) -> Result<R, ConnectionError> {
        if self.broken {
            return Err(ConnectionError::Broken);
        }
        let amid = |incoming: &Incoming| incoming.have > 0 || incoming.current.is_some() || incoming.awaited > 0;
        let error = match work(self) {
            Ok(done) => return Ok(done),
            Err(ConnectionError::Disconnected) if amid(&self.incoming) => ConnectionError::Truncated,
            Err(error) => error,
        };
        if !error.is_harmless() {
            // Closes the descriptors that have come.
            self.incoming = Incoming::default();
            // The end of a connection is met again by the next call.
            if !matches!(error, ConnectionError::Disconnected) {
                self.broken = true;
                self.socket.end();
            }
        }
        Err(error)
    }

    /// The length and the tag of the message whose body comes next.
    fn body(&mut self, kind: Kind, deadline: Option<Instant>) -> Result<(usize, u64), ConnectionError> {
        let head = self.expect(kind, deadline)?;
        match usize::try_from(head.len) {
            Ok(len) if len <= self.max_message_len => Ok((len, head.tag)),
            _ => Err(ConnectionError::TooLong {
                len: head.len,
                limit: self.max_message_len,
            }),
        }
    }

    /// The head of the next frame, which must be of this kind.
    fn expect(&mut self, kind: Kind, deadline: Option<Instant>) -> Result<Head, ConnectionError> {
        let head = self.head(deadline)?;
        match head.kind {
            found if found == kind => Ok(head),
            Kind::Refusal => Err(ConnectionError::Authentication(
                "the other side has another key, or refuses whoever has this one",
            )),
            Kind::Challenge => Err(ConnectionError::Authentication(
                "the other side asks for a proof of a key, and this side was given none: see Client::key and \
                 ListenerBuilder::key",
            )),
            found => Err(ConnectionError::Unexpected {
                expected: kind.name(),
                found: found.name(),
            }),
        }
    }

    /// The head of the next frame, with its descriptors received and counted.
    fn head(&mut self, deadline: Option<Instant>) -> Result<Head, ConnectionError> {
        let incoming = &mut self.incoming;
        if let Some(head) = incoming.current {
            return Ok(head);
        }
        while incoming.have < HEAD {
            // Never more than the head, so that the descriptors that come are those of this frame.
            let rest = &mut incoming.head[incoming.have..];
            let got = self.socket.receive(rest, Some(&mut incoming.descriptors), deadline)?;
            if got == 0 {
                return Err(ConnectionError::Disconnected);
            }
            incoming.have += got;
        }
        let head = frame::decode(&incoming.head)?;
        let attached = incoming.descriptors.len() - incoming.settled;
        if head.kind == Kind::Descriptors {
            if incoming.awaited == 0 && head.tag > self.max_descriptors as u64 {
                return Err(ConnectionError::TooManyDescriptors {
                    count: head.tag,
                    limit: self.max_descriptors,
                });
            }
            if incoming.awaited != 0 && head.tag != incoming.awaited {
                return Err(ConnectionError::Malformed(
                    "the parts of a message with descriptors do not fit each other",
                ));
            }
            let batch = head.tag.min(BATCH as u64);
            if attached as u64 != batch {
                return Err(ConnectionError::Malformed(
                    "a message came with more or fewer descriptors than it says",
                ));
            }
            incoming.settled += attached;
            incoming.awaited = head.tag - batch;
        } else if attached > 0 {
            return Err(ConnectionError::Malformed(
                "descriptors came with a message that has none",
            ));
        } else if incoming.awaited > 0 {
            return Err(ConnectionError::Malformed("a message with descriptors ended too early"));
        }
        incoming.have = 0;
        incoming.current = Some(head);
        Ok(head)
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

impl AsFd for ConnectionReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
