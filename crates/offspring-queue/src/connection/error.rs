use std::{error, fmt, io};

use crate::{DecodeError, EncodeError};

/// Why nothing was sent or received over a [`Connection`](super::Connection).
///
/// After [`Timeout`](Self::Timeout), [`BufferTooShort`](Self::BufferTooShort) and [`Encode`](Self::Encode) the connection can
/// be used as before. Any other error ends it, for the other side too: who breaks the rules once is not listened to any more.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The other side is gone, and everything that it sent was received.
    Disconnected,
    /// The other side is gone, and what it sent last is incomplete.
    Truncated,
    /// This side gave the connection up after an earlier error.
    Broken,
    /// Nothing happened in time.
    Timeout,
    /// A message came that is longer than this side allows, see
    /// [`set_max_message_len`](super::Connection::set_max_message_len).
    TooLong {
        /// How long it says it is.
        len: u64,
        /// How long it may be.
        limit: usize,
    },
    /// More descriptors came than this side allows, see [`set_max_descriptors`](super::Connection::set_max_descriptors).
    TooManyDescriptors {
        /// How many there are.
        count: u64,
        /// How many there may be.
        limit: usize,
    },
    /// The message did not fit into the buffer; here it is.
    BufferTooShort {
        /// The message.
        message: Vec<u8>,
    },
    /// A message of another kind came than was asked for.
    Unexpected {
        /// What was asked for.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// The value that came is none of the type that was asked for, or the other program lays that type out in another way.
    WrongType {
        /// The type that was asked for.
        expected: &'static str,
    },
    /// The bytes of the value that came are no value of its type.
    Decode(DecodeError),
    /// The value could not be encoded; nothing was sent.
    Encode(EncodeError),
    /// What came does not follow the protocol.
    Malformed(&'static str),
    /// One side could not prove to the other that it has the key, or was not asked to.
    Authentication(&'static str),
    /// The operating system refused.
    Io(io::Error),
}

impl ConnectionError {
    /// Whether nothing will ever come, or can be sent, any more.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected | Self::Truncated | Self::Broken)
    }

    /// Whether the time ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// Whether the two sides do not have the same key.
    pub fn is_authentication(&self) -> bool {
        matches!(self, Self::Authentication(_))
    }

    /// Whether the connection can be used as before.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(self, Self::Timeout | Self::BufferTooShort { .. } | Self::Encode(_))
    }

    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Disconnected | Self::Truncated => io::ErrorKind::UnexpectedEof,
            Self::Broken => io::ErrorKind::NotConnected,
            Self::Timeout => io::ErrorKind::TimedOut,
            Self::Authentication(_) => io::ErrorKind::PermissionDenied,
            Self::BufferTooShort { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::InvalidData,
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the other side of the connection is gone"),
            Self::Truncated => f.write_str("the other side of the connection went away in the middle of a message"),
            Self::Broken => f.write_str("the connection was given up after an earlier error: connect again"),
            Self::Timeout => f.write_str("the other side of the connection did nothing in time"),
            Self::TooLong { len, limit } => write!(
                f,
                "a message of {len} bytes came, and {limit} are allowed: see set_max_message_len"
            ),
            Self::TooManyDescriptors { count, limit } => write!(
                f,
                "{count} descriptors came, and {limit} are allowed: see set_max_descriptors"
            ),
            Self::BufferTooShort { message } => {
                write!(f, "the buffer is too short for the message of {} bytes", message.len())
            }
            Self::Unexpected { expected, found } => write!(f, "{found} came where {expected} was expected"),
            Self::WrongType { expected } => write!(
                f,
                "the value that came is no {expected}, or the two programs were built with different layouts of it"
            ),
            Self::Decode(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
            Self::Malformed(why) => write!(f, "malformed message: {why}"),
            Self::Authentication(why) => write!(f, "authentication failed: {why}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl error::Error for ConnectionError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) => error.source(),
            _ => None,
        }
    }
}

impl From<ConnectionError> for io::Error {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Io(error) => error,
            ConnectionError::Encode(error) => error.into(),
            error => Self::new(error.kind(), error),
        }
    }
}

impl From<io::Error> for ConnectionError {
    /// A peer that is gone is [`Disconnected`](Self::Disconnected), however the system says it.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Disconnected,
            _ => Self::Io(error),
        }
    }
}
