use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::socket::{AddressFamily, SockaddrIn, SockaddrIn6, SockaddrLike, UnixAddr};

/// Where a [`Listener`](super::Listener) listens and a [`Client`](super::Client) connects to.
///
/// It is written as `unix:/run/service.sock`, `abstract:service` or `tcp:127.0.0.1:7777`, and read back from that, so that
/// it can be an argument of a program. A name of a host is looked up when it is read.
///
/// ```
/// use std::path::Path;
/// use offspring_queue::connection::Address;
///
/// let address: Address = "tcp:[::1]:7777".parse()?;
/// assert_eq!(address, Address::Tcp("[::1]:7777".parse().unwrap()));
/// assert_eq!(Address::from(Path::new("/run/service.sock")).to_string(), "unix:/run/service.sock");
/// assert!("smoke:signal".parse::<Address>().is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A socket in the file system, on this machine.
    Unix(PathBuf),
    /// A Linux socket with a name but no file: the name is gone when the listener is, however it ends. Whoever shares the
    /// network namespace can see and use it.
    Abstract(Vec<u8>),
    /// An address and port of the network.
    Tcp(SocketAddr),
}

impl Address {
    /// The name of a socket without a file.
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Self {
        Self::Abstract(name.as_ref().to_vec())
    }

    pub(super) fn of_unix(address: &net::SocketAddr) -> Option<Self> {
        let path = address.as_pathname().map(|path| Self::Unix(path.to_path_buf()));
        path.or_else(|| address.as_abstract_name().map(Self::abstract_name))
    }

    /// The address as the system takes it.
    pub(super) fn to_system(&self) -> io::Result<System> {
        let unusable = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("the address {self} {why}"));
        let unix = |made: nix::Result<UnixAddr>| match made {
            Ok(place) => Ok((AddressFamily::Unix, Box::new(place) as Box<dyn SockaddrLike>)),
            Err(_) => Err(unusable(
                "is too long: the path or name of a socket has at most 107 bytes",
            )),
        };
        match self {
            // An empty path would mean that the system chooses a name, and a NUL byte would cut the path off.
            Self::Unix(path) if path.as_os_str().is_empty() => Err(unusable("has no path")),
            Self::Unix(path) if path.as_os_str().as_bytes().contains(&0) => Err(unusable("has a NUL byte in it")),
            Self::Unix(path) => unix(UnixAddr::new(path)),
            Self::Abstract(name) if name.is_empty() => Err(unusable("has no name")),
            Self::Abstract(name) => unix(UnixAddr::new_abstract(name)),
            Self::Tcp(SocketAddr::V4(place)) => Ok((AddressFamily::Inet, Box::new(SockaddrIn::from(*place)))),
            Self::Tcp(SocketAddr::V6(place)) => Ok((AddressFamily::Inet6, Box::new(SockaddrIn6::from(*place)))),
        }
    }
}

/// An [`Address`] as the system takes it.
pub(super) type System = (AddressFamily, Box<dyn SockaddrLike>);

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_path_buf())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl fmt::Display for Address {
    /// Writes what [`parse`](str::parse) reads; bytes of paths and names that are no text are lost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "abstract:{}", String::from_utf8_lossy(name)),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl FromStr for Address {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is no address: {why}"));
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Path::new(OsStr::new(path)).into()),
            Some(("abstract", name)) if !name.is_empty() => Ok(Self::abstract_name(name)),
            Some(("tcp", place)) => {
                let mut found = place.to_socket_addrs().map_err(|error| invalid(&error.to_string()))?;
                let found = found.next().ok_or_else(|| invalid("the host has no address"))?;
                Ok(Self::Tcp(found))
            }
            _ => Err(invalid("write unix:PATH, abstract:NAME or tcp:HOST:PORT")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in [
            "unix:/run/a b:c.sock",
            "unix:relative",
            "abstract:name",
            "tcp:127.0.0.1:80",
            "tcp:[::1]:0",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_in_words() {
        for text in [
            "",
            "nothing",
            "pipe:/x",
            "unix:",
            "abstract:",
            "tcp:",
            "tcp:127.0.0.1",
            "tcp:127.0.0.1:99999",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("is no address"), "{error}");
        }
        let refused = |address: Address, why: &str| {
            let error = address.to_system().map(drop).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(Address::Unix(PathBuf::new()), "has no path");
        refused(Address::Unix("a\0b".into()), "NUL");
        refused(Address::Unix("x".repeat(108).into()), "107 bytes");
        refused(Address::abstract_name(""), "has no name");
        refused(Address::abstract_name("x".repeat(108)), "107 bytes");
        assert!(Address::Unix("x".repeat(107).into()).to_system().is_ok());
        assert!(Address::abstract_name("a\0b").to_system().is_ok());
    }
}
