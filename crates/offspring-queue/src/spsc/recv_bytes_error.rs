use std::{error, fmt, io};

use crate::recv_error::Unreceived;
use crate::{DecodeError, RecvError};

/// Why [`recv_bytes_into`](super::Consumer::recv_bytes_into) received nothing.
#[derive(Debug)]
#[non_exhaustive]
#[doc(alias = "BufferTooShort")]
pub enum RecvBytesError {
    /// The next message is longer than the buffer. It stays where it is: receive it into a longer one.
    TooShort {
        /// The length of the message.
        needed: usize,
    },
    /// Nothing is left to receive, and the pair is closed or its producer gone.
    Disconnected,
    /// A message came but its words lie; it is out of the pair.
    Damaged(DecodeError),
    /// The next message is no raw bytes; or this process cannot use this end; or its memory is damaged.
    Unusable(io::Error),
}

impl RecvBytesError {
    /// Whether nothing will ever come.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected)
    }

    /// The length of a message that was longer than the buffer.
    pub fn needed(&self) -> Option<usize> {
        match self {
            Self::TooShort { needed } => Some(*needed),
            _ => None,
        }
    }
}

impl From<Unreceived> for RecvBytesError {
    fn from(why: Unreceived) -> Self {
        match why {
            // Whoever waits without a limit is not told that the pair is empty.
            Unreceived::Empty | Unreceived::Disconnected => Self::Disconnected,
            Unreceived::Decode(error) => Self::Damaged(error),
            Unreceived::Unusable(error) => Self::Unusable(error),
        }
    }
}

impl fmt::Display for RecvBytesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { needed } => write!(f, "the next message has {needed} bytes, more than the buffer"),
            Self::Disconnected => RecvError::Disconnected.fmt(f),
            Self::Damaged(error) => error.fmt(f),
            Self::Unusable(error) => error.fmt(f),
        }
    }
}

impl error::Error for RecvBytesError {}

impl From<RecvBytesError> for io::Error {
    fn from(error: RecvBytesError) -> Self {
        match error {
            RecvBytesError::TooShort { .. } => Self::new(io::ErrorKind::InvalidInput, error),
            RecvBytesError::Disconnected => RecvError::Disconnected.into(),
            RecvBytesError::Damaged(error) => error.into(),
            RecvBytesError::Unusable(error) => error,
        }
    }
}
