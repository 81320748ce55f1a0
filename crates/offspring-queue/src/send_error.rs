use std::{error, fmt, io};

use crate::EncodeError;

/// Why [`send`](crate::Sender::send) did not send; holds the value.
#[non_exhaustive]
pub enum SendError<T> {
    /// The queue is closed, or nobody is left who could receive.
    Disconnected(T),
    /// The value could not be written into shared memory.
    Encode(T, EncodeError),
    /// The queue cannot be used by this thread, or its memory is damaged.
    Unusable(T, io::Error),
}

/// Why [`try_send`](crate::Sender::try_send) did not send; holds the value.
#[non_exhaustive]
pub enum TrySendError<T> {
    /// There is no room now.
    Full(T),
    /// The queue is closed, or nobody is left who could receive.
    Disconnected(T),
    /// The value could not be written into shared memory.
    Encode(T, EncodeError),
    /// The queue cannot be used by this thread, or its memory is damaged.
    Unusable(T, io::Error),
}

/// Why [`send_timeout`](crate::Sender::send_timeout) did not send; holds the value.
#[non_exhaustive]
pub enum SendTimeoutError<T> {
    /// There was no room in time.
    Timeout(T),
    /// The queue is closed, or nobody is left who could receive.
    Disconnected(T),
    /// The value could not be written into shared memory.
    Encode(T, EncodeError),
    /// The queue cannot be used by this thread, or its memory is damaged.
    Unusable(T, io::Error),
}

/// How sending can fail, before it is known what it was called.
pub(crate) enum Unsent {
    Full,
    Disconnected,
    Encode(EncodeError),
    Unusable(io::Error),
}

const DISCONNECTED: &str = "the queue is closed, or nobody is left to receive from it";

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Disconnected(value) | Self::Encode(value, _) | Self::Unusable(value, _) => value,
        }
    }

    /// Whether nobody will receive from the queue any more.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }

    pub(crate) fn new(value: T, why: Unsent) -> Self {
        match why {
            // Whoever waits without a limit is not told that the queue is full.
            Unsent::Full | Unsent::Disconnected => Self::Disconnected(value),
            Unsent::Encode(error) => Self::Encode(value, error),
            Unsent::Unusable(error) => Self::Unusable(value, error),
        }
    }
}

impl<T> TrySendError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Disconnected(value) | Self::Encode(value, _) | Self::Unusable(value, _) => value,
        }
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether nobody will receive from the queue any more.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }

    pub(crate) fn new(value: T, why: Unsent) -> Self {
        match why {
            Unsent::Full => Self::Full(value),
            Unsent::Disconnected => Self::Disconnected(value),
            Unsent::Encode(error) => Self::Encode(value, error),
            Unsent::Unusable(error) => Self::Unusable(value, error),
        }
    }
}

impl<T> SendTimeoutError<T> {
    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(value) | Self::Disconnected(value) | Self::Encode(value, _) | Self::Unusable(value, _) => {
                value
            }
        }
    }

    /// Whether the time ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Whether nobody will receive from the queue any more.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }

    pub(crate) fn new(value: T, why: Unsent) -> Self {
        match why {
            Unsent::Full => Self::Timeout(value),
            Unsent::Disconnected => Self::Disconnected(value),
            Unsent::Encode(error) => Self::Encode(value, error),
            Unsent::Unusable(error) => Self::Unusable(value, error),
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(_) => f.write_str(DISCONNECTED),
            Self::Encode(_, error) => error.fmt(f),
            Self::Unusable(_, error) => error.fmt(f),
        }
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the queue is full"),
            Self::Disconnected(_) => f.write_str(DISCONNECTED),
            Self::Encode(_, error) => error.fmt(f),
            Self::Unusable(_, error) => error.fmt(f),
        }
    }
}

impl<T> fmt::Display for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(_) => f.write_str("the queue was full until the time ran out"),
            Self::Disconnected(_) => f.write_str(DISCONNECTED),
            Self::Encode(_, error) => error.fmt(f),
            Self::Unusable(_, error) => error.fmt(f),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(_) => f.write_str("Disconnected(..)"),
            Self::Encode(_, error) => f.debug_tuple("Encode").field(error).finish_non_exhaustive(),
            Self::Unusable(_, error) => f.debug_tuple("Unusable").field(error).finish_non_exhaustive(),
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Disconnected(_) => f.write_str("Disconnected(..)"),
            Self::Encode(_, error) => f.debug_tuple("Encode").field(error).finish_non_exhaustive(),
            Self::Unusable(_, error) => f.debug_tuple("Unusable").field(error).finish_non_exhaustive(),
        }
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(_) => f.write_str("Timeout(..)"),
            Self::Disconnected(_) => f.write_str("Disconnected(..)"),
            Self::Encode(_, error) => f.debug_tuple("Encode").field(error).finish_non_exhaustive(),
            Self::Unusable(_, error) => f.debug_tuple("Unusable").field(error).finish_non_exhaustive(),
        }
    }
}

impl<T> error::Error for SendError<T> {}
impl<T> error::Error for TrySendError<T> {}
impl<T> error::Error for SendTimeoutError<T> {}

impl<T> From<SendError<T>> for io::Error {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Disconnected(_) => Self::new(io::ErrorKind::BrokenPipe, DISCONNECTED),
            SendError::Encode(_, error) => error.into(),
            SendError::Unusable(_, error) => error,
        }
    }
}

impl<T> From<TrySendError<T>> for io::Error {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(_) => Self::new(io::ErrorKind::WouldBlock, "the queue is full"),
            TrySendError::Disconnected(value) => SendError::Disconnected(value).into(),
            TrySendError::Encode(_, error) => error.into(),
            TrySendError::Unusable(_, error) => error,
        }
    }
}

impl<T> From<SendTimeoutError<T>> for io::Error {
    fn from(error: SendTimeoutError<T>) -> Self {
        match error {
            SendTimeoutError::Timeout(_) => Self::new(io::ErrorKind::TimedOut, "the queue was full"),
            SendTimeoutError::Disconnected(value) => SendError::Disconnected(value).into(),
            SendTimeoutError::Encode(_, error) => error.into(),
            SendTimeoutError::Unusable(_, error) => error,
        }
    }
}
