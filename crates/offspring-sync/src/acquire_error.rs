//! Why a permit was not had.

use std::error::Error;
use std::fmt;
use std::io;

use crate::raw::Refused;
use crate::unusable::Unusable;

/// What can come back from a semaphore instead of a permit.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// There is no permit, and the call does not wait.
    WouldBlock,
    /// There was no permit for as long as the call wanted to wait.
    TimedOut,
    /// There is no semaphore here that could be used.
    Unusable(Unusable),
}

impl AcquireError {
    /// Whether the time was up.
    pub fn is_timeout(&self) -> bool {
        matches!(self, AcquireError::TimedOut)
    }
}

impl From<Unusable> for AcquireError {
    fn from(unusable: Unusable) -> Self {
        AcquireError::Unusable(unusable)
    }
}

impl From<Refused> for AcquireError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TimedOut => AcquireError::TimedOut,
            Refused::Corrupted(word) => AcquireError::Unusable(Unusable::Corrupted { word }),
            Refused::WouldBlock | Refused::AlreadyHeld => AcquireError::WouldBlock,
        }
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcquireError::WouldBlock => f.write_str("all permits of the semaphore are taken"),
            AcquireError::TimedOut => f.write_str("timed out waiting for a permit of a semaphore"),
            AcquireError::Unusable(unusable) => unusable.fmt(f),
        }
    }
}

impl Error for AcquireError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            AcquireError::Unusable(unusable) => Some(unusable),
            _ => None,
        }
    }
}

impl From<AcquireError> for io::Error {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, error),
            AcquireError::TimedOut => io::Error::new(io::ErrorKind::TimedOut, error),
            AcquireError::Unusable(unusable) => unusable.into(),
        }
    }
}
