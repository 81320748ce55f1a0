//! The first word of everything that lives in shared memory.

use std::fmt;
use std::io;

use crate::member::Membership;
use crate::member::current::{self, Me};
use crate::member::table::is_id;
use crate::primitive::{AtomicU64, Ordering};
use crate::unusable::Unusable;

const ID_BITS: u32 = 48;
const ID_MASK: u64 = (1 << ID_BITS) - 1;

/// The id of an object that nobody has used yet: its first user binds it to the family.
const UNBOUND: u64 = ID_MASK;

/// What an object is: `kind:16 | membership id:48`, checked by every operation.
///
/// | word | means |
/// |---|---|
/// | 0 | memory that nobody initialised |
/// | kind, all ones | made by `new`, not used yet: the first user puts its family's id there |
/// | kind, id | belongs to that membership, for ever |
///
/// One load and one comparison thus tell that the memory was initialised, as what, and that the tags in it are of the table that
/// the caller is a member of. A lock never holds the table's address.
#[repr(transparent)]
pub(crate) struct Head(AtomicU64);

/// The kinds, two letters each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    Mutex = u16::from_be_bytes(*b"Mu"),
    ReentrantMutex = u16::from_be_bytes(*b"Re"),
    RwLock = u16::from_be_bytes(*b"Rw"),
    Condvar = u16::from_be_bytes(*b"Cv"),
    Semaphore = u16::from_be_bytes(*b"Se"),
    BoundedSemaphore = u16::from_be_bytes(*b"Bs"),
    CountingSemaphore = u16::from_be_bytes(*b"Cs"),
    Event = u16::from_be_bytes(*b"Ev"),
    Barrier = u16::from_be_bytes(*b"Ba"),
    Once = u16::from_be_bytes(*b"On"),
}

impl Kind {
    const fn bits(self) -> u64 {
        (self as u64) << ID_BITS
    }

    /// The name of the type.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Mutex => "Mutex",
            Kind::ReentrantMutex => "ReentrantMutex",
            Kind::RwLock => "RwLock",
            Kind::Condvar => "Condvar",
            Kind::Semaphore => "Semaphore",
            Kind::BoundedSemaphore => "BoundedSemaphore",
            Kind::CountingSemaphore => "CountingSemaphore",
            Kind::Event => "Event",
            Kind::Barrier => "Barrier",
            Kind::Once => "Once",
        }
    }
}

impl Head {
    /// An object that its first user binds to the family.
    pub(crate) const fn unbound(kind: Kind) -> Head {
        Head(AtomicU64::new(kind.bits() | UNBOUND))
    }

    /// An object of `membership`.
    pub(crate) fn bound(kind: Kind, membership: &Membership) -> Head {
        Head(AtomicU64::new(kind.bits() | membership.id()))
    }

    /// The caller as a member, if everything is as it was at the last call.
    #[inline]
    pub(crate) fn cached<'a>(&self, kind: Kind) -> Option<Me<'a>> {
        // A head of another kind leaves bits above the id, and no id has those. Relaxed: the head never changes once it is bound,
        // and whoever can reach the object got it by something stronger.
        current::cached(self.0.load(Ordering::Relaxed) ^ kind.bits())
    }

    /// The caller as a member; registers it if need be.
    #[inline]
    pub(crate) fn me<'a>(&self, kind: Kind) -> Result<Me<'a>, Unusable> {
        match self.cached(kind) {
            Some(me) => Ok(me),
            None => self.me_slow(kind),
        }
    }

    #[cold]
    fn me_slow<'a>(&self, kind: Kind) -> Result<Me<'a>, Unusable> {
        self.check(kind)?;
        let mut head = self.0.load(Ordering::Relaxed);
        if head & ID_MASK == UNBOUND {
            let family = Membership::family().map_err(Unusable::no_membership)?;
            let bound = kind.bits() | family.id();
            head = match self
                .0
                .compare_exchange(head, bound, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => bound,
                Err(other) => other,
            };
        }
        let id = head & ID_MASK;
        match current::find(id) {
            Ok(Some(me)) => Ok(me),
            Ok(None) => {
                // The family's is attached when it is first needed.
                let family = Membership::family().ok().filter(|family| family.id() == id);
                let family = family.ok_or(Unusable::ForeignMembership { id })?;
                current::join(family.table()).map_err(Unusable::no_membership)?;
                current::cached(id)
                    .ok_or_else(|| Unusable::no_membership(io::Error::other("the registration did not last")))
            }
            Err(error) => Err(Unusable::no_membership(error)),
        }
    }

    /// Whether the word can be the head of a `kind`.
    pub(crate) fn check(&self, kind: Kind) -> Result<(), Unusable> {
        let head = self.0.load(Ordering::Relaxed);
        if head == 0 {
            return Err(Unusable::NeverInitialised { expected: kind.name() });
        }
        if head & !ID_MASK != kind.bits() || !(is_id(head & ID_MASK) || head & ID_MASK == UNBOUND) {
            return Err(Unusable::NotOne {
                expected: kind.name(),
                head,
            });
        }
        Ok(())
    }

    /// The caller as a member of the table that this object belongs to, if it belongs to one that can be had.
    pub(crate) fn any_me<'a>(&self) -> Option<Me<'a>> {
        let id = self.0.load(Ordering::Relaxed) & ID_MASK;
        if !is_id(id) {
            return None;
        }
        current::find(id).ok().flatten()
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0.load(Ordering::Relaxed))
    }
}
