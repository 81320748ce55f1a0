use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

use super::authentication::Key;
use super::listener::Acceptor;
use super::socket_file::{PrivateDirectory, SocketFile, is_socket};
use super::{Address, Listener};

/// Choices for a [`Listener`].
#[derive(Clone, Debug)]
#[must_use = "it listens when `bind` is called"]
pub struct ListenerBuilder {
    key: Option<Key>,
    handshake_timeout: Duration,
    any_user: bool,
    backlog: u16,
}

impl ListenerBuilder {
    pub(super) fn new() -> Self {
        Self {
            key: None,
            handshake_timeout: Duration::from_secs(5),
            any_user: false,
            backlog: 128,
        }
    }

    /// Accepts only clients that prove to have this key, and proves it to them; the key itself is not sent.
    ///
    /// What is sent afterwards is neither encrypted nor signed: over a network that others can read or change, use a
    /// tunnel. Take 32 random bytes: a word can be guessed by who has heard one proof.
    #[doc(alias = "authkey")]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(Key::new(key.as_ref()));
        self
    }

    /// Limits how long a client may take to prove that it has the key; at first 5 seconds. Other clients wait so long.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Lets processes of any user connect on this machine; at first only those of this user and of root can.
    pub fn any_user(mut self, any: bool) -> Self {
        self.any_user = any;
        self
    }

    /// How many clients may have connected and wait to be accepted; at first 128. The system may allow fewer.
    pub fn backlog(mut self, clients: u16) -> Self {
        self.backlog = clients;
        self
    }

    /// Listens at an address.
    ///
    /// # Errors
    /// As [`Listener::bind`].
    pub fn bind(self, address: impl Into<Address>) -> io::Result<Listener> {
        self.listen(address.into(), None)
    }

    /// Listens at a new Unix address.
    ///
    /// # Errors
    /// As [`Listener::bind_temporary`].
    pub fn bind_temporary(self) -> io::Result<Listener> {
        let directory = PrivateDirectory::new()?;
        let address = Address::Unix(directory.path().join("listener"));
        self.listen(address, Some(directory))
    }

    fn listen(self, address: Address, directory: Option<PrivateDirectory>) -> io::Result<Listener> {
        let (family, place) = address.to_system()?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(family, SockType::Stream, flags, None)?;
        if family == AddressFamily::Unix {
            // The file gets the mode that the socket has when it is bound: there is no moment at which others could
            // connect, and no need to change the mask of all threads.
            let mode = if self.any_user { 0o666 } else { 0o600 };
            fchmod(&fd, Mode::from_bits_truncate(mode))?;
        } else {
            // Connections of an earlier listener that are not quite over do not count; a listener does.
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        }
        bind(fd.as_raw_fd(), &*place).map_err(|error| unbound(&address, error))?;
        let file = match &address {
            Address::Unix(path) => Some(SocketFile::made(path)?),
            _ => None,
        };
        listen(&fd, Backlog::new(self.backlog).unwrap_or(Backlog::MAXCONN))
            .map_err(|error| unbound(&address, error))?;
        let (acceptor, address) = match address {
            Address::Tcp(_) => {
                let listener = TcpListener::from(fd);
                let chosen = listener.local_addr()?.into();
                (Acceptor::Tcp(listener), chosen)
            }
            address => (Acceptor::Unix(UnixListener::from(fd)), address),
        };
        Ok(Listener {
            acceptor,
            address,
            key: self.key,
            handshake_timeout: self.handshake_timeout,
            any_user: self.any_user,
            last_accepted: Mutex::new(None),
            _file: file,
            _directory: directory,
        })
    }
}

/// Why an address cannot be listened at, in words.
fn unbound(address: &Address, error: Errno) -> io::Error {
    let why = match (error, address) {
        (Errno::EADDRINUSE, Address::Unix(path)) if !is_socket(path) => {
            "a file that is no socket is in its place".to_string()
        }
        (Errno::EADDRINUSE, Address::Unix(path)) if is_stale(path) => format!(
            "the process that listened there is gone and has left its file: remove {} first",
            path.display()
        ),
        (Errno::EADDRINUSE, _) => "a process listens there already".to_string(),
        (error, _) => error.desc().to_string(),
    };
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("cannot listen at {address}: {why}"))
}

/// Whether no process has the socket of this file any more.
fn is_stale(path: &Path) -> bool {
    let Ok(probe) = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None) else {
        return false;
    };
    // A socket of another type than the one that listens: the kernel says that they do not fit, and the listener does
    // not notice.
    let place = UnixAddr::new(path);
    place.is_ok_and(|place| connect(probe.as_raw_fd(), &place) == Err(Errno::ECONNREFUSED))
}
