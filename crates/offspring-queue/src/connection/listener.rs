use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use nix::poll::PollFlags;

use super::authentication::{Key, Role};
use super::client::deadline;
use super::handshake::shake_hands;
use super::socket::{Socket, wait};
use super::socket_file::{PrivateDirectory, SocketFile};
use super::{Address, Connection, ConnectionError, ListenerBuilder};

/// Waits for [`Client`](super::Client)s that connect to an address.
///
/// ```
/// use offspring_queue::connection::{Address, Connection, Listener};
///
/// let listener = Listener::bind("127.0.0.1:0".parse::<std::net::SocketAddr>()?)?;
/// let mut client = Connection::connect(listener.address())?;
/// client.send_bytes(b"hello")?;
/// assert_eq!(listener.accept()?.recv_bytes()?, b"hello");
/// assert!(matches!(listener.last_accepted(), Some(Address::Tcp(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Listener {
    pub(super) acceptor: Acceptor,
    pub(super) address: Address,
    pub(super) key: Option<Key>,
    pub(super) handshake_timeout: Duration,
    pub(super) any_user: bool,
    pub(super) last_accepted: Mutex<Option<Address>>,
    /// Dropped in this order: a directory can be removed when it is empty.
    pub(super) _file: Option<SocketFile>,
    pub(super) _directory: Option<PrivateDirectory>,
}

/// A listening socket that never blocks.
#[derive(Debug)]
pub(super) enum Acceptor {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Listens at an address.
    ///
    /// A port 0 lets the system choose one; [`address`](Self::address) says which. A socket file is made for this user
    /// only, and removed when the listener is dropped.
    ///
    /// # Errors
    /// When the address is in use, also by the file of a listener that was killed, or the system refuses.
    pub fn bind(address: impl Into<Address>) -> io::Result<Self> {
        ListenerBuilder::new().bind(address)
    }

    /// Listens at a new Unix address, in a directory of its own that goes with the listener.
    ///
    /// A process that is killed leaves the directory behind; an [abstract name](Address::Abstract) goes in any case.
    ///
    /// # Errors
    /// When the directory for temporary files cannot be written to, or its path is longer than a socket's may be.
    pub fn bind_temporary() -> io::Result<Self> {
        ListenerBuilder::new().bind_temporary()
    }

    /// Listens with choices of one's own: a key, above all.
    pub fn builder() -> ListenerBuilder {
        ListenerBuilder::new()
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// When a client came but could not prove itself, not in time, or is a process of another user. That ends the
    /// attempt of this client only: call again for the next one. Other errors are those of the system, as when the
    /// process has no descriptor left.
    pub fn accept(&self) -> Result<Connection, ConnectionError> {
        self.accept_until(None)
    }

    /// Waits for the next client, for at most so long; the proof of its key has a limit of its own.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), and [`Timeout`](ConnectionError::Timeout) when no client came.
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Connection, ConnectionError> {
        self.accept_until(Some(deadline(timeout)))
    }

    fn accept_until(&self, until: Option<Instant>) -> Result<Connection, ConnectionError> {
        let (socket, from) = loop {
            match self.acceptor.accept() {
                Ok(accepted) => break accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(self.as_fd(), PollFlags::POLLIN, until)? {
                        return Err(ConnectionError::Timeout);
                    }
                }
                // This client has changed its mind; the next one has not.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(ConnectionError::Io(error)),
            }
        };
        *self.last_accepted.lock().unwrap_or_else(PoisonError::into_inner) = from;
        socket.admit(self.any_user)?;
        let mut connection = Connection::over(socket);
        if let Some(key) = &self.key {
            shake_hands(&mut connection, key, Role::Listener, deadline(self.handshake_timeout))?;
        }
        Ok(connection)
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where the last client came from: `None` before the first, and for one whose socket has no address, as those of
    /// Unix clients; [`peer_credentials`](Connection::peer_credentials) knows more of these.
    pub fn last_accepted(&self) -> Option<Address> {
        self.last_accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Acceptor {
    fn accept(&self) -> io::Result<(Socket, Option<Address>)> {
        match self {
            Self::Unix(listener) => {
                let (stream, from) = listener.accept()?;
                Ok((Socket::unix(stream), Address::of_unix(&from)))
            }
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept()?;
                Ok((Socket::tcp(stream)?, Some(from.into())))
            }
        }
    }
}

impl AsFd for Listener {
    /// The socket, to wait for in epoll or an async runtime: it is readable when a client has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.acceptor {
            Acceptor::Unix(listener) => listener.as_fd(),
            Acceptor::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
