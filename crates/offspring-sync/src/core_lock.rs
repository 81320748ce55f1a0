//! What every lock with a guard is made of: a head, an owner word, and the notes beside it.

use std::fmt;
use std::time::{Duration, Instant};

use crate::head::{Head, Kind};
use crate::holder::{Holder, Watch, Watched};
use crate::lock_error::{LockError, Ruin};
use crate::member::Membership;
use crate::member::current::{Claim, Me};
use crate::primitive::{AtomicU32, Ordering};
use crate::raw::{Acquired, NotOwner, RawLock, Refused};

/// The words before a lock's data, the same in every lock.
#[repr(C)]
pub(crate) struct CoreLock {
    pub(crate) head: Head,
    pub(crate) raw: RawLock,
    /// A [`Ruin`]; only the lock's owner touches it.
    ruin: AtomicU32,
    watch: Watch,
}

/// How long an acquisition may take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    Never,
    Until(Instant),
    ForEver,
}

impl Wait {
    /// For at most `timeout`; for ever if that is beyond the clock.
    pub(crate) fn timeout(timeout: Duration) -> Wait {
        Instant::now().checked_add(timeout).map_or(Wait::ForEver, Wait::Until)
    }

    pub(crate) const fn deadline(self) -> Option<Instant> {
        match self {
            Wait::Until(deadline) => Some(deadline),
            Wait::Never | Wait::ForEver => None,
        }
    }
}

impl CoreLock {
    pub(crate) const fn new(head: Head) -> CoreLock {
        CoreLock {
            head,
            raw: RawLock::new(),
            ruin: AtomicU32::new(0),
            watch: Watch::new(),
        }
    }

    pub(crate) fn bound(kind: Kind, membership: &Membership) -> CoreLock {
        CoreLock::new(Head::bound(kind, membership))
    }

    /// The uncontended case: the caller's tag, if the lock was free and clean and is now the caller's.
    #[inline]
    pub(crate) fn take_free<'a>(&self, kind: Kind) -> Option<Me<'a>> {
        let me = self.head.cached(kind)?;
        self.raw.take_free(me.tag).then_some(me)
    }

    /// Every other case.
    #[cold]
    pub(crate) fn take_slow<'a>(&self, kind: Kind, wait: Wait) -> Result<(Me<'a>, Acquired), LockError<()>> {
        let me = self.head.me(kind)?;
        let acquired = self
            .take_as(me, wait)
            .map_err(|refused| LockError::refused(refused, || self.holder()))?;
        Ok((me, acquired))
    }

    pub(crate) fn take_as(&self, me: Me<'_>, wait: Wait) -> Result<Acquired, Refused> {
        let lives = self.lives(me);
        let acquired = match wait {
            Wait::Never => self.raw.try_lock(&lives, me.tag),
            Wait::Until(deadline) => self.raw.lock(&lives, me.tag, Some(deadline)),
            Wait::ForEver => self.raw.lock(&lives, me.tag, None),
        }?;
        self.note_theft(acquired);
        Ok(acquired)
    }

    /// The new owner writes down that the one before it died.
    pub(crate) fn note_theft(&self, acquired: Acquired) {
        if acquired == Acquired::Stolen {
            self.ruin.store(Ruin::Death as u32, Ordering::Relaxed);
        }
    }

    pub(crate) fn lives<'a>(&'a self, me: Me<'a>) -> Watched<'a> {
        Watched {
            table: me.table(),
            watch: &self.watch,
        }
    }

    /// The owner has repaired the data: what comes next is a death, unless somebody says otherwise.
    pub(crate) fn forget_ruin(&self) {
        self.ruin.store(Ruin::Death as u32, Ordering::Relaxed);
    }

    pub(crate) fn ruin(&self) -> Ruin {
        Ruin::from_word(self.ruin.load(Ordering::Relaxed))
    }

    /// Gives the lock back, with the mark for the next owner if `ruined` says so.
    #[inline]
    pub(crate) fn give_back(&self, claim: Claim, ruined: Option<Ruin>) -> Result<(), NotOwner> {
        if ruined.is_none() && claim.is_mine() && self.raw.give_back_free(claim.tag) {
            return Ok(());
        }
        self.give_back_slow(claim, ruined, false)
    }

    /// As [`give_back`](Self::give_back), for a lock whose sleepers can all go on.
    #[inline]
    pub(crate) fn give_back_to_all(&self, claim: Claim, ruined: Option<Ruin>) -> Result<(), NotOwner> {
        if ruined.is_none() && claim.is_mine() && self.raw.give_back_free(claim.tag) {
            return Ok(());
        }
        self.give_back_slow(claim, ruined, true)
    }

    #[cold]
    fn give_back_slow(&self, claim: Claim, ruined: Option<Ruin>, wake_all: bool) -> Result<(), NotOwner> {
        // A guard that came along in a fork, or into the destructors of an ending thread, owns nothing.
        if !self.is_held_by(claim) {
            return Err(NotOwner);
        }
        if let Some(ruin) = ruined {
            self.ruin.store(ruin as u32, Ordering::Relaxed);
        }
        // Somebody may have waited: the next owner's time starts anew.
        self.watch.clear();
        self.raw
            .unlock(claim.tag, ruined.is_some(), if wake_all { u32::MAX } else { 1 })
    }

    /// Whether the claim is the caller's, and still good for the lock.
    #[inline]
    pub(crate) fn is_held_by(&self, claim: Claim) -> bool {
        claim.is_mine() && self.raw.state().owner() == Some(claim.tag)
    }

    /// Who holds the lock at this moment.
    pub(crate) fn holder(&self) -> Option<Holder> {
        let owner = self.raw.state().owner()?;
        let me = self.head.any_me()?;
        self.watch.holder(me.table(), owner)
    }

    /// Shows the state without waiting for anybody.
    pub(crate) fn describe(&self, kind: Kind, f: &mut fmt::DebugStruct<'_, '_>) {
        if let Err(unusable) = self.head.check(kind) {
            f.field("unusable", &format_args!("{unusable}"));
            return;
        }
        let state = self.raw.state();
        if state.is_free() {
            f.field("held_by", &None::<()>);
        } else {
            match self.holder() {
                Some(holder) => f.field("held_by", &Some(format_args!("{holder}"))),
                None => f.field("held_by", &state.owner()),
            };
        }
        f.field("poisoned", &state.is_poisoned())
            .field("waiters", &state.has_waiters());
    }
}
