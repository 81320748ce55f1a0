use std::{error, fmt, io};

use offspring_shm::OutOfMemory;
use rkyv::rancor;

/// Why a value could not be written into shared memory.
#[derive(Debug)]
#[non_exhaustive]
pub enum EncodeError {
    /// The arena has no room for it.
    OutOfMemory(OutOfMemory),
    /// Its own serialisation failed, or its parts lie more than 2 GiB apart.
    Serialize(rancor::BoxedError),
    /// This process has no place in the family, to own what it writes.
    NoOwner(io::Error),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfMemory(source) => write!(f, "no room for the value: {source}"),
            Self::Serialize(source) => write!(f, "the value could not be serialised: {source}"),
            Self::NoOwner(source) => write!(f, "this process cannot write into the shared arena: {source}"),
        }
    }
}

impl error::Error for EncodeError {}

impl From<OutOfMemory> for EncodeError {
    fn from(source: OutOfMemory) -> Self {
        Self::OutOfMemory(source)
    }
}

impl From<EncodeError> for io::Error {
    fn from(error: EncodeError) -> Self {
        let kind = match error {
            EncodeError::OutOfMemory(_) => io::ErrorKind::OutOfMemory,
            EncodeError::Serialize(_) => io::ErrorKind::InvalidData,
            EncodeError::NoOwner(_) => io::ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, error)
    }
}

/// Why a value could not be read from shared memory.
#[derive(Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes lie outside the arena, or not where its words say.
    OutOfBounds(io::Error),
    /// The bytes are no value of this type, or rebuilding it failed.
    Deserialize(rancor::BoxedError),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds(source) => write!(f, "the message is damaged: {source}"),
            Self::Deserialize(source) => write!(f, "the message could not be rebuilt as a value: {source}"),
        }
    }
}

impl DecodeError {
    /// The words in shared memory that describe the message contradict each other.
    pub(crate) fn damaged(why: &'static str) -> Self {
        Self::OutOfBounds(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

impl error::Error for DecodeError {}

impl From<DecodeError> for io::Error {
    fn from(error: DecodeError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
