//! Memory that cannot be used as what it should be.

use std::error::Error;
use std::fmt;
use std::io;

/// Why a lock, barrier or other object in shared memory cannot be used at all.
///
/// Every operation checks what it reads from shared memory. None of these errors changed anything.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unusable {
    /// The memory is all zeros: nobody made the object.
    NeverInitialised {
        /// The type that should be there.
        expected: &'static str,
    },
    /// The memory holds something else.
    NotOne {
        /// The type that should be there.
        expected: &'static str,
        /// The word that was found instead of its head.
        head: u64,
    },
    /// The object belongs to a membership that this process has not attached.
    ForeignMembership {
        /// The membership's [`id`](crate::Membership::id).
        id: u64,
    },
    /// A word holds what no operation could have written there.
    Corrupted {
        /// The word.
        word: u32,
    },
    /// The calling thread could not become a member.
    NoMembership(io::Error),
}

impl Unusable {
    pub(crate) fn no_membership(error: io::Error) -> Self {
        Unusable::NoMembership(error)
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::NeverInitialised { expected } => {
                write!(
                    f,
                    "the memory was never initialised: write a {expected} there before it is used"
                )
            }
            Unusable::NotOne { expected, head } => {
                write!(f, "the memory does not hold a {expected} (it starts with {head:#018x})")
            }
            Unusable::ForeignMembership { id } => {
                write!(
                    f,
                    "the object belongs to membership {id:#x}, which this process has not attached"
                )
            }
            Unusable::Corrupted { word } => write!(f, "the object is damaged: {word:#010x} is no possible state"),
            Unusable::NoMembership(error) => write!(f, "this thread could not become a member: {error}"),
        }
    }
}

impl Error for Unusable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Unusable::NoMembership(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Unusable> for io::Error {
    fn from(unusable: Unusable) -> Self {
        let kind = match &unusable {
            Unusable::NoMembership(error) => error.kind(),
            Unusable::ForeignMembership { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, unusable)
    }
}
