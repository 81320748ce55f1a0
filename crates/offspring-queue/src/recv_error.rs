use std::{error, fmt, io};

use crate::DecodeError;

/// Why [`recv`](crate::Receiver::recv) received nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The queue is empty, and closed or without anybody who could send.
    Disconnected,
    /// A message came but could not be read; it is out of the queue.
    Decode(DecodeError),
    /// The queue cannot be used by this thread, or its memory is damaged.
    Unusable(io::Error),
}

/// Why [`try_recv`](crate::Receiver::try_recv) received nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum TryRecvError {
    /// There is no message now.
    Empty,
    /// The queue is empty, and closed or without anybody who could send.
    Disconnected,
    /// A message came but could not be read; it is out of the queue.
    Decode(DecodeError),
    /// The queue cannot be used by this thread, or its memory is damaged.
    Unusable(io::Error),
}

/// Why [`recv_timeout`](crate::Receiver::recv_timeout) received nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// There was no message in time.
    Timeout,
    /// The queue is empty, and closed or without anybody who could send.
    Disconnected,
    /// A message came but could not be read; it is out of the queue.
    Decode(DecodeError),
    /// The queue cannot be used by this thread, or its memory is damaged.
    Unusable(io::Error),
}

/// How receiving can fail, before it is known what it was called.
#[derive(Debug)]
pub(crate) enum Unreceived {
    Empty,
    Disconnected,
    Decode(DecodeError),
    Unusable(io::Error),
}

const DISCONNECTED: &str = "the queue is empty, and it is closed or nobody is left to send";

impl RecvError {
    /// Whether nothing will ever come.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected)
    }
}

impl TryRecvError {
    /// Whether there was nothing to receive.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Whether nothing will ever come.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected)
    }
}

impl RecvTimeoutError {
    /// Whether the time ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// Whether nothing will ever come.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected)
    }
}

impl From<Unreceived> for RecvError {
    fn from(why: Unreceived) -> Self {
        match why {
            // Whoever waits without a limit is not told that the queue is empty.
            Unreceived::Empty | Unreceived::Disconnected => Self::Disconnected,
            Unreceived::Decode(error) => Self::Decode(error),
            Unreceived::Unusable(error) => Self::Unusable(error),
        }
    }
}

impl From<Unreceived> for TryRecvError {
    fn from(why: Unreceived) -> Self {
        match why {
            Unreceived::Empty => Self::Empty,
            Unreceived::Disconnected => Self::Disconnected,
            Unreceived::Decode(error) => Self::Decode(error),
            Unreceived::Unusable(error) => Self::Unusable(error),
        }
    }
}

impl From<Unreceived> for RecvTimeoutError {
    fn from(why: Unreceived) -> Self {
        match why {
            Unreceived::Empty => Self::Timeout,
            Unreceived::Disconnected => Self::Disconnected,
            Unreceived::Decode(error) => Self::Decode(error),
            Unreceived::Unusable(error) => Self::Unusable(error),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str(DISCONNECTED),
            Self::Decode(error) => error.fmt(f),
            Self::Unusable(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the queue is empty"),
            Self::Disconnected => f.write_str(DISCONNECTED),
            Self::Decode(error) => error.fmt(f),
            Self::Unusable(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("the queue was empty until the time ran out"),
            Self::Disconnected => f.write_str(DISCONNECTED),
            Self::Decode(error) => error.fmt(f),
            Self::Unusable(error) => error.fmt(f),
        }
    }
}

impl error::Error for RecvError {}
impl error::Error for TryRecvError {}
impl error::Error for RecvTimeoutError {}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Disconnected => Self::new(io::ErrorKind::UnexpectedEof, DISCONNECTED),
            RecvError::Decode(error) => error.into(),
            RecvError::Unusable(error) => error,
        }
    }
}

impl From<TryRecvError> for io::Error {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::new(io::ErrorKind::WouldBlock, "the queue is empty"),
            TryRecvError::Disconnected => RecvError::Disconnected.into(),
            TryRecvError::Decode(error) => error.into(),
            TryRecvError::Unusable(error) => error,
        }
    }
}

impl From<RecvTimeoutError> for io::Error {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::Timeout => Self::new(io::ErrorKind::TimedOut, "the queue was empty"),
            RecvTimeoutError::Disconnected => RecvError::Disconnected.into(),
            RecvTimeoutError::Decode(error) => error.into(),
            RecvTimeoutError::Unusable(error) => error,
        }
    }
}
