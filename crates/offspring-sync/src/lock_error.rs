//! Why a lock was not simply handed over.

use std::error::Error;
use std::fmt;
use std::io;

use crate::holder::Holder;
use crate::raw::{Acquired, NotOwner, Refused};
use crate::unusable::Unusable;

/// What can come back from a lock instead of a guard.
///
/// Two of the cases carry the guard: the lock *was* taken, and the data needs a look before it is trusted.
#[non_exhaustive]
pub enum LockError<G> {
    /// The lock was taken from an owner that died inside, or from one that knew so and did not repair: the data may be
    /// half-written. Repair it and call the guard's `mark_consistent`, or every later owner is told the same.
    OwnerDied(G),
    /// As [`OwnerDied`](LockError::OwnerDied), but the owner panicked inside.
    Poisoned(G),
    /// Somebody else holds the lock, and the call does not wait.
    WouldBlock,
    /// Somebody else held the lock for as long as the call wanted to wait: this one.
    TimedOut(Option<Box<Holder>>),
    /// The calling thread holds the lock already: waiting would never end.
    AlreadyHeld,
    /// The calling thread does not hold the lock that it wants to give back for a while: its guard came along in a fork.
    NotHeld,
    /// There is no lock here that could be used.
    Unusable(Unusable),
}

impl<G> LockError<G> {
    /// The guard, if the lock was taken.
    pub fn into_guard(self) -> Option<G> {
        match self {
            LockError::OwnerDied(guard) | LockError::Poisoned(guard) => Some(guard),
            _ => None,
        }
    }

    /// Whether an owner died inside.
    pub fn is_owner_death(&self) -> bool {
        matches!(self, LockError::OwnerDied(_))
    }

    /// Whether the time was up.
    pub fn is_timeout(&self) -> bool {
        matches!(self, LockError::TimedOut(_))
    }

    /// Turns the guard into another.
    pub(crate) fn map<H>(self, convert: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            LockError::OwnerDied(guard) => LockError::OwnerDied(convert(guard)),
            LockError::Poisoned(guard) => LockError::Poisoned(convert(guard)),
            LockError::WouldBlock => LockError::WouldBlock,
            LockError::TimedOut(holder) => LockError::TimedOut(holder),
            LockError::AlreadyHeld => LockError::AlreadyHeld,
            LockError::NotHeld => LockError::NotHeld,
            LockError::Unusable(unusable) => LockError::Unusable(unusable),
        }
    }

    /// A refusal by the raw lock; `holder` is asked only when the time was up.
    pub(crate) fn refused(refused: Refused, holder: impl FnOnce() -> Option<Holder>) -> Self {
        match refused {
            Refused::WouldBlock => LockError::WouldBlock,
            Refused::TimedOut => LockError::TimedOut(holder().map(Box::new)),
            Refused::AlreadyHeld => LockError::AlreadyHeld,
            Refused::Corrupted(word) => LockError::Unusable(Unusable::Corrupted { word }),
        }
    }
}

impl<G> From<Unusable> for LockError<G> {
    fn from(unusable: Unusable) -> Self {
        LockError::Unusable(unusable)
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::OwnerDied(_) => f.write_str("an owner of the lock died inside: its data may be half-written"),
            LockError::Poisoned(_) => f.write_str("an owner of the lock panicked inside: its data may be half-written"),
            LockError::WouldBlock => f.write_str("the lock is held by somebody else"),
            LockError::TimedOut(Some(holder)) => write!(f, "timed out waiting for a lock that is held by {holder}"),
            LockError::TimedOut(None) => f.write_str("timed out waiting for a lock"),
            LockError::AlreadyHeld => f.write_str("this thread holds the lock already: waiting for it would never end"),
            LockError::NotHeld => NotOwner.fmt(f),
            LockError::Unusable(unusable) => unusable.fmt(f),
        }
    }
}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::OwnerDied(_) => f.write_str("OwnerDied(..)"),
            LockError::Poisoned(_) => f.write_str("Poisoned(..)"),
            LockError::WouldBlock => f.write_str("WouldBlock"),
            LockError::TimedOut(holder) => f.debug_tuple("TimedOut").field(holder).finish(),
            LockError::AlreadyHeld => f.write_str("AlreadyHeld"),
            LockError::NotHeld => f.write_str("NotHeld"),
            LockError::Unusable(unusable) => f.debug_tuple("Unusable").field(unusable).finish(),
        }
    }
}

impl<G> Error for LockError<G> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            LockError::Unusable(unusable) => Some(unusable),
            _ => None,
        }
    }
}

/// Lets `?` work in a function that returns [`io::Result`]; a guard inside is dropped, and the data stays marked.
impl<G> From<LockError<G>> for io::Error {
    fn from(error: LockError<G>) -> Self {
        let kind = match &error {
            LockError::WouldBlock => io::ErrorKind::WouldBlock,
            LockError::TimedOut(_) => io::ErrorKind::TimedOut,
            LockError::AlreadyHeld => io::ErrorKind::Deadlock,
            LockError::NotHeld => io::ErrorKind::PermissionDenied,
            LockError::OwnerDied(_) | LockError::Poisoned(_) => io::ErrorKind::Other,
            LockError::Unusable(_) => io::ErrorKind::InvalidData,
        };
        let message = error.to_string();
        match error {
            LockError::Unusable(unusable) => unusable.into(),
            _ => io::Error::new(kind, message),
        }
    }
}

/// Why the mark is on a lock's data, in a word beside it: only the lock's owner reads or writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Ruin {
    Death = 0,
    Panic = 1,
}

impl Ruin {
    pub(crate) const fn from_word(word: u32) -> Ruin {
        if word == Ruin::Panic as u32 {
            Ruin::Panic
        } else {
            Ruin::Death
        }
    }

    /// What `acquired` means for a lock whose word of ruin says `self`.
    pub(crate) fn verdict<G>(self, acquired: Acquired, guard: G) -> Result<G, LockError<G>> {
        match (acquired, self) {
            (Acquired::Clean, _) => Ok(guard),
            (Acquired::Poisoned, Ruin::Panic) => Err(LockError::Poisoned(guard)),
            (Acquired::Poisoned, Ruin::Death) | (Acquired::Stolen, _) => Err(LockError::OwnerDied(guard)),
        }
    }
}
