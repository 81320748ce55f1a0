use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use super::address::System;
use super::authentication::{Key, Role};
use super::handshake::shake_hands;
use super::socket::Socket;
use super::{Address, Connection, ConnectionError};

const NOBODY: &str = "nobody listens there";

/// Connects to a [`Listener`](super::Listener).
///
/// ```
/// use offspring_queue::connection::{Client, Listener};
///
/// let listener = Listener::builder().key(b"what both know").bind_temporary()?;
/// let address = listener.address().clone();
/// let client = std::thread::spawn(move || Client::new().key(b"what both know").connect(address)?.recv::<u64>());
/// listener.accept()?.send(&6_u64)?;
/// assert_eq!(client.join().unwrap()?, 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    key: Option<Key>,
    timeout: Duration,
    any_user: bool,
}

impl Client {
    /// A client without a key.
    pub fn new() -> Self {
        Self {
            key: None,
            timeout: Duration::from_secs(20),
            any_user: false,
        }
    }

    /// Sets the key that both sides prove to each other to have; see [`ListenerBuilder::key`](super::ListenerBuilder::key).
    #[must_use]
    #[doc(alias = "authkey")]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(Key::new(key.as_ref()));
        self
    }

    /// Limits how long connecting, with the proof of the key, may take; at first 20 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Lets the listener on this machine be a process of any user; at first it must be of this user or of root.
    #[must_use]
    pub fn any_user(mut self, any: bool) -> Self {
        self.any_user = any;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there, not in time, or as another user;
    /// [`Authentication`](ConnectionError::Authentication) when the listener does not have the same key. A client without
    /// a key learns only with its first receive that the listener wants one.
    pub fn connect(&self, address: impl Into<Address>) -> Result<Connection, ConnectionError> {
        let address = address.into();
        let deadline = deadline(self.timeout);
        let system = address.to_system()?;
        let fd = reach(&system, &address, deadline)?;
        let socket = match system.0 {
            AddressFamily::Unix => Socket::unix(UnixStream::from(fd)),
            _ => {
                let stream = TcpStream::from(fd);
                // Where nobody listens at a port that the system gives to clients, a client can meet itself.
                if stream.local_addr().ok() == stream.peer_addr().ok() {
                    return Err(in_vain(io::ErrorKind::ConnectionRefused, &address, NOBODY));
                }
                Socket::tcp(stream)?
            }
        };
        socket.admit(self.any_user)?;
        let mut connection = Connection::over(socket);
        if let Some(key) = &self.key {
            shake_hands(&mut connection, key, Role::Client, deadline)?;
        }
        Ok(connection)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

/// A connected socket. A listener may be there whose queue is full: then this waits.
fn reach((family, place): &System, address: &Address, deadline: Instant) -> Result<OwnedFd, ConnectionError> {
    let fd = socket(*family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(io::Error::from)?;
    loop {
        // A time that is over bounds the wait, not the attempt.
        let left = deadline.saturating_duration_since(Instant::now());
        limit(&fd, Some(left))?;
        match connect(fd.as_raw_fd(), &**place) {
            // Connected in an earlier round.
            Ok(()) | Err(Errno::EISCONN) => break,
            // A signal, or the time ran out; a further call goes on waiting.
            Err(Errno::EINTR | Errno::EAGAIN | Errno::EINPROGRESS | Errno::EALREADY) if left.is_zero() => {
                return Err(ConnectionError::Timeout);
            }
            Err(Errno::EINTR | Errno::EAGAIN | Errno::EINPROGRESS | Errno::EALREADY) => {}
            Err(error) => {
                let error = io::Error::from(error);
                let why = match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NOBODY.to_string(),
                    _ => error.to_string(),
                };
                return Err(in_vain(error.kind(), address, &why));
            }
        }
    }
    limit(&fd, None)?;
    Ok(fd)
}
fn in_vain(kind: io::ErrorKind, address: &Address, why: &str) -> ConnectionError {
    ConnectionError::Io(io::Error::new(kind, format!("cannot connect to {address}: {why}")))
}

/// Bounds the wait of `connect`.
fn limit(fd: &OwnedFd, time: Option<Duration>) -> io::Result<()> {
    // Zero would be no bound.
    let time = time.map_or(TimeVal::new(0, 0), |time| {
        TimeVal::new(time.as_secs().min(1 << 30) as i64, time.subsec_micros().max(1).into())
    });
    Ok(setsockopt(fd, sockopt::SendTimeout, &time)?)
}

/// When a wait that begins now ends; one that is too long to count is a very long one.
pub(super) fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout)
        .unwrap_or_else(|| now + Duration::from_secs(1 << 30))
}
