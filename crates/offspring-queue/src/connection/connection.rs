use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getpeername, getsockopt, setsockopt, sockopt,
};

use super::socket::Socket;
use super::{Address, Client, ConnectionError, ConnectionReceiver, ConnectionSender, PeerCredentials};
use crate::Message;

/// One end of a socket over which two processes that need not know each other send messages: bytes, values, descriptors.
///
/// Messages keep their boundaries and their order. Nothing that comes is believed: lengths are checked before memory is
/// taken, values are validated before they are rebuilt, and an error other than a timeout ends the connection for both
/// sides (see [`ConnectionError`]). For processes of one family a [`Queue`](crate::Queue) is many times faster.
///
/// ```
/// use offspring_queue::connection::Connection;
///
/// let (mut one, mut two) = Connection::pair()?;
/// one.send(&vec!["any".to_string(), "message".to_string()])?;
/// one.send_bytes(b"raw")?;
/// assert_eq!(two.recv::<Vec<String>>()?, ["any", "message"]);
/// assert_eq!(two.recv_bytes()?, b"raw");
/// drop(one);
/// assert!(two.recv_bytes().unwrap_err().is_disconnected());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A connection that was dropped is closed, and the compiler knows:
///
/// ```compile_fail,E0382
/// # use offspring_queue::connection::Connection;
/// let (one, mut two) = Connection::pair()?;
/// drop(two);
/// two.recv_bytes();
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "Pipe")]
#[derive(Debug)]
pub struct Connection {
    pub(super) receiver: ConnectionReceiver,
    pub(super) sender: ConnectionSender,
}

impl Connection {
    /// Connects to a [`Listener`](super::Listener) that asks for no key; a [`Client`] has more to choose.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect(address: impl Into<Address>) -> Result<Self, ConnectionError> {
        Client::new().connect(address)
    }

    /// Two ends of a new connection, to keep or to hand over.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, two) = UnixStream::pair()?;
        Ok((Self::over(Socket::unix(one)), Self::over(Socket::unix(two))))
    }

    /// Takes a connection over from a descriptor, as one that was inherited or received with
    /// [`recv_fds`](Self::recv_fds).
    ///
    /// The other holders of the descriptor must not use it any more, and must not have been in the middle of a message.
    ///
    /// # Errors
    /// When it is no connected stream socket of the Unix or the Internet family.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let refuse = |why: &str| {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("this descriptor is no connection: {why}"),
            ))
        };
        match getsockopt(&fd, sockopt::SockType) {
            Ok(SockType::Stream) => {}
            Ok(_) => return refuse("it is a socket without streams"),
            Err(_) => return refuse("it is no socket"),
        }
        let Ok(peer) = getpeername::<SockaddrStorage>(fd.as_raw_fd()) else {
            return refuse("it is not connected");
        };
        let socket = match peer.family() {
            Some(AddressFamily::Unix) => {
                // Credentials would take the room of descriptors.
                setsockopt(&fd, sockopt::PassCred, &false)?;
                Socket::unix(UnixStream::from(fd))
            }
            Some(AddressFamily::Inet | AddressFamily::Inet6) => Socket::tcp(TcpStream::from(fd))?,
            _ => return refuse("its address family is neither Unix nor Internet"),
        };
        Ok(Self::over(socket))
    }

    pub(super) fn over(socket: Socket) -> Self {
        let socket = Arc::new(socket);
        Self {
            receiver: ConnectionReceiver::new(Arc::clone(&socket)),
            sender: ConnectionSender::new(socket),
        }
    }

    /// Sends a message of raw bytes, of any length, 0 included.
    ///
    /// Waits while the other side does not receive and the system's buffer is full.
    ///
    /// # Errors
    /// [`Disconnected`](ConnectionError::Disconnected) when the other side is gone, never a signal;
    /// [`Timeout`](ConnectionError::Timeout), after which the connection is as before if nothing was sent, and given up if
    /// the message was sent in part.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.sender.send_bytes(bytes)
    }

    /// Receives a message of raw bytes.
    ///
    /// # Errors
    /// [`Disconnected`](ConnectionError::Disconnected) when the other side is gone and nothing is left to receive,
    /// [`TooLong`](ConnectionError::TooLong), [`Timeout`](ConnectionError::Timeout), after which what has come of the
    /// message is kept for the next call, and those for what a stranger may do: see [`ConnectionError`].
    pub fn recv_bytes(&mut self) -> Result<Vec<u8>, ConnectionError> {
        self.receiver.recv_bytes()
    }

    /// Receives a message of raw bytes straight into `buffer`, and says how long it is.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes); [`BufferTooShort`](ConnectionError::BufferTooShort) brings the message that
    /// did not fit.
    pub fn recv_bytes_into(&mut self, buffer: &mut [u8]) -> Result<usize, ConnectionError> {
        self.receiver.recv_bytes_into(buffer)
    }

    /// Sends a value.
    ///
    /// Both programs must name the type alike, as those do that have it from one crate and were built by one version of the
    /// compiler. Queues and [`Shared`](offspring_shm::Shared) values mean something inside of their family only, and are
    /// refused: hand a [`Segment`](offspring_shm::Segment) over.
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes); [`Encode`](ConnectionError::Encode) when the value cannot be encoded.
    pub fn send<T: Message>(&mut self, value: &T) -> Result<(), ConnectionError> {
        self.sender.send(value)
    }

    /// Receives a value. Every byte of it is validated before it is rebuilt.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes); [`WrongType`](ConnectionError::WrongType) when a value of another type came;
    /// [`Decode`](ConnectionError::Decode) when its bytes are no value of this type, or nest more than 250 pointers deep.
    pub fn recv<T: Message>(&mut self) -> Result<T, ConnectionError> {
        self.receiver.recv()
    }

    /// Sends any number of descriptors, as one message. The other side gets duplicates.
    ///
    /// ```
    /// use std::os::fd::AsFd;
    /// use offspring_queue::connection::Connection;
    /// use offspring_shm::Segment;
    ///
    /// let (mut here, mut there) = Connection::pair()?;
    /// let segment = Segment::anonymous("picture", 1 << 20)?;
    /// here.send_fds(&[segment.as_fd()])?;
    ///
    /// // In any other process: the size of a segment is sealed, so nobody can cut it off under its reader.
    /// let [segment] = <[_; 1]>::try_from(there.recv_fds()?).map_err(|_| "one descriptor was promised")?;
    /// let segment = Segment::from_fd(segment)?;
    /// assert_eq!(segment.map()?.len(), 1 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes); an error over TCP, which carries no descriptors.
    #[doc(alias = "send_handle")]
    pub fn send_fds(&mut self, descriptors: &[BorrowedFd<'_>]) -> Result<(), ConnectionError> {
        self.sender.send_fds(descriptors)
    }

    /// Receives the descriptors of one message. They are closed by `exec`, and by any error.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes); [`TooManyDescriptors`](ConnectionError::TooManyDescriptors);
    /// [`Malformed`](ConnectionError::Malformed) also when this process has no room for them.
    #[doc(alias = "recv_handle")]
    pub fn recv_fds(&mut self) -> Result<Vec<OwnedFd>, ConnectionError> {
        self.receiver.recv_fds()
    }

    /// Waits until there is something to receive, the end of the connection included; `None` waits for ever.
    ///
    /// # Errors
    /// When the connection was given up, or the system refuses.
    pub fn poll(&self, timeout: Option<Duration>) -> Result<bool, ConnectionError> {
        self.receiver.poll(timeout)
    }

    /// Limits how long a receive may take; `None`, as at first, is no limit.
    pub fn set_recv_timeout(&mut self, timeout: Option<Duration>) {
        self.receiver.set_recv_timeout(timeout);
    }

    /// Limits how long a send may take; `None`, as at first, is no limit.
    pub fn set_send_timeout(&mut self, timeout: Option<Duration>) {
        self.sender.set_send_timeout(timeout);
    }

    /// Limits how many bytes a message may have that is received; at first 2^31 - 1.
    ///
    /// A longer one is refused before any memory is taken for it.
    pub fn set_max_message_len(&mut self, limit: usize) {
        self.receiver.set_max_message_len(limit);
    }

    /// Limits how many descriptors may come with one message; at first 1024.
    pub fn set_max_descriptors(&mut self, limit: usize) {
        self.receiver.set_max_descriptors(limit);
    }

    /// Who is on the other side: the process that called `connect`, `listen` or [`pair`](Self::pair).
    ///
    /// # Errors
    /// Over TCP.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        self.sender.socket.peer_credentials()
    }

    /// Takes the connection apart, for two threads. Each half is an end in one direction:
    ///
    /// ```compile_fail,E0599
    /// # use offspring_queue::connection::Connection;
    /// let (mut receiver, sender) = Connection::pair()?.0.split();
    /// receiver.send_bytes(b"the wrong way");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// When the sender is dropped the other side learns that nothing more will come.
    pub fn split(self) -> (ConnectionReceiver, ConnectionSender) {
        let Self { receiver, mut sender } = self;
        sender.alone = true;
        (receiver, sender)
    }
}

impl AsFd for Connection {
    /// The socket, to wait for in epoll or an async runtime: it is readable when there is something to receive, at the
    /// beginning of a message or in the middle of it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sender.socket.as_fd()
    }
}
