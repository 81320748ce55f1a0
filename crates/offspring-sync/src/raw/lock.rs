//! The owner-word lock: one 32-bit word that names its owner.

use std::fmt;
use std::time::Instant;

use super::{Lives, Naps, Spin};
use crate::primitive::{AtomicU32, Ordering, Waited, futex_wait_many, futex_wake};
use crate::tag::Tag;

/// Somebody sleeps, or may: whoever unlocks must wake one.
const WAITERS: u32 = 1 << 31;
/// An owner died inside, or left its data unrepaired.
const POISON: u32 = 1 << 30;

/// A lock that is one word, `WAITERS:1 | POISON:1 | tag:30`, and outlives its owner.
///
/// | word | means | who may change it |
/// |---|---|---|
/// | `0` | free | anybody, to its own tag |
/// | `POISON` | free, data unrepaired | anybody, to its own tag, keeping the mark |
/// | `tag` | held | the owner, to `0` or `POISON`; a waiter, to add `WAITERS`; once the owner is dead, anybody, to its own tag and `POISON` |
///
/// A thief takes the lock by a compare-and-swap from the exact word of the dead owner: two thieves cannot both win, and a tag
/// never comes back, so a late thief cannot hit a new owner. A waiter sleeps on this word *and* on its owner's life word, so
/// that a death wakes it without polling.
///
/// # Lost wakes
///
/// Which wake-ups can a kill swallow, and who repairs it?
/// - The owner dies inside: the kernel wakes one sleeper on its life word, which wakes the rest of them before it goes on.
/// - The owner dies between its unlocking store and its `FUTEX_WAKE`: those who went to sleep while it was the owner sleep on its
///   life word too, and are woken as above.
/// - What is left: sleepers that saw an *earlier* owner, when a later one dies in that window; and a sleeper that is killed
///   after it was woken and before it looked. There the nap ends, after at most a second ([`Naps`]).
#[repr(transparent)]
pub struct RawLock {
    word: AtomicU32,
}

/// How a lock was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The last owner left it in order.
    Clean,
    /// The last owner died inside, just now.
    Stolen,
    /// An earlier owner died or panicked inside, and nobody has repaired the data yet.
    Poisoned,
}

/// Why a lock was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Somebody else holds it.
    WouldBlock,
    /// The deadline passed.
    TimedOut,
    /// The caller holds it already: waiting would never end.
    AlreadyHeld,
    /// The word holds what no owner could have written.
    Corrupted(u32),
}

/// The caller does not hold the lock that it wanted to unlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOwner;

impl fmt::Display for NotOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this thread does not hold the lock that it wants to give back")
    }
}

impl std::error::Error for NotOwner {}

impl RawLock {
    /// A free lock.
    pub const fn new() -> Self {
        RawLock {
            word: AtomicU32::new(0),
        }
    }

    /// Takes the lock for `me`, waiting until `deadline`, or for ever.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    #[inline]
    pub fn lock(&self, lives: &impl Lives, me: Tag, deadline: Option<Instant>) -> Result<Acquired, Refused> {
        if self.take_free(me) {
            Ok(Acquired::Clean)
        } else {
            self.lock_slow(lives, me, deadline)
        }
    }

    /// The uncontended case of [`lock`](Self::lock): free, clean, and now `me`'s.
    #[inline]
    pub fn take_free(&self, me: Tag) -> bool {
        // PAIRS: lock-handover
        self.word
            .compare_exchange(0, me.bits(), Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the lock for `me` if nobody who lives holds it.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn try_lock(&self, lives: &impl Lives, me: Tag) -> Result<Acquired, Refused> {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            match self.attempt(lives, me, seen, 0)? {
                Attempt::Got(acquired) => return Ok(acquired),
                Attempt::Changed => {}
                Attempt::Held(_) => return Err(Refused::WouldBlock),
            }
        }
    }

    #[cold]
    fn lock_slow(&self, lives: &impl Lives, me: Tag, deadline: Option<Instant>) -> Result<Acquired, Refused> {
        let mut spin = Spin::new();
        let mut naps = Naps::new(deadline);
        // Set from my first sleep on: I cannot tell whether others sleep, so I hand the lock on with the bit set.
        let mut waiters = 0;
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            let life = match self.attempt(lives, me, seen, waiters)? {
                Attempt::Got(acquired) => {
                    spin.succeeded();
                    return Ok(acquired);
                }
                Attempt::Changed => continue,
                Attempt::Held(life) => life,
            };
            // Behind sleepers there is no point in spinning: the lock is over-committed.
            if seen & WAITERS == 0 && spin.again() {
                continue;
            }
            let Some(nap) = naps.until() else {
                if waiters != 0 {
                    self.leave();
                }
                return Err(Refused::TimedOut);
            };
            let marked = seen | WAITERS;
            if seen != marked
                && self
                    .word
                    .compare_exchange(seen, marked, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            waiters = WAITERS;
            if let Some(owner) = Tag::from_bits(seen) {
                lives.asleep_for(owner);
            }
            let waited = futex_wait_many(&[(&self.word, marked), (life.word, life.seen)], Some(nap));
            // PAIRS: life-ended
            if life.word.load(Ordering::Acquire) != life.seen {
                // The kernel woke one sleeper of the dead; the others wait for other locks, or behind me.
                futex_wake(life.word, u32::MAX);
            }
            if waited == Waited::TimedOut
                && naps.ran_out()
                && let Some(owner) = Tag::from_bits(marked)
            {
                lives.inquire(owner);
            }
        }
    }

    /// One look at the word as it was `seen`, and one try to take it if it can be taken.
    fn attempt<'a>(&self, lives: &'a impl Lives, me: Tag, seen: u32, waiters: u32) -> Result<Attempt<'a>, Refused> {
        if seen & Tag::MASK == 0 {
            // PAIRS: lock-handover
            let mine = me.bits() | seen & (WAITERS | POISON) | waiters;
            if self
                .word
                .compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
            {
                return Ok(Attempt::Changed);
            }
            return Ok(Attempt::Got(if seen & POISON == 0 {
                Acquired::Clean
            } else {
                Acquired::Poisoned
            }));
        }
        let Some(owner) = Tag::from_bits(seen) else {
            return Err(Refused::Corrupted(seen));
        };
        if owner == me {
            return Err(Refused::AlreadyHeld);
        }
        let Some(life) = lives.life(owner) else {
            return Err(Refused::Corrupted(seen));
        };
        if !life.dead {
            return Ok(Attempt::Held(life));
        }
        // The life word was read as dead with Acquire: all that the dead owner wrote is visible.
        let mine = me.bits() | POISON | seen & WAITERS | waiters;
        // PAIRS: lock-handover
        if self
            .word
            .compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Ok(Attempt::Changed);
        }
        Ok(Attempt::Got(Acquired::Stolen))
    }

    /// A sleeper gives up. It may have eaten a wake that was meant for the lock and not for itself, so it leaves the word such
    /// that somebody is woken later, or wakes somebody now.
    fn leave(&self) {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen & Tag::MASK == 0 {
                futex_wake(&self.word, 1);
                return;
            }
            if seen & WAITERS != 0
                || self
                    .word
                    .compare_exchange(seen, seen | WAITERS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
        }
    }

    /// The uncontended case of [`unlock`](Self::unlock): held by `me`, clean, nobody asleep; and now free.
    #[inline]
    pub fn give_back_free(&self, me: Tag) -> bool {
        // PAIRS: lock-handover
        self.word
            .compare_exchange(me.bits(), 0, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives the lock back; `poison` leaves the mark for the next owner. Wakes up to `wake` sleepers: 1, unless they do not all
    /// want the same.
    ///
    /// # Errors
    ///
    /// `me` does not hold it; nothing was changed.
    pub fn unlock(&self, me: Tag, poison: bool, wake: u32) -> Result<(), NotOwner> {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if seen & Tag::MASK != me.bits() {
                return Err(NotOwner);
            }
            let left = if poison { POISON } else { 0 };
            // PAIRS: lock-handover
            if self
                .word
                .compare_exchange(seen, left, Ordering::Release, Ordering::Relaxed)
                .is_ok()
            {
                if seen & WAITERS != 0 {
                    futex_wake(&self.word, wake);
                }
                return Ok(());
            }
        }
    }

    /// What the word says at this moment.
    pub fn state(&self) -> State {
        State(self.word.load(Ordering::Relaxed))
    }

    /// The word, for protocols that sleep on it in a set of their own.
    pub(crate) const fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Whether a word of this lock bears the mark.
    pub(crate) const fn poisoned(&self, word: u32) -> bool {
        word & POISON != 0
    }

    /// Asks whoever unlocks to wake the caller, who read `seen`; false if the word has changed.
    pub(crate) fn announce_sleeper(&self, seen: State) -> bool {
        seen.0 & WAITERS != 0
            || self
                .word
                .compare_exchange(seen.0, seen.0 | WAITERS, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl Default for RawLock {
    fn default() -> Self {
        RawLock::new()
    }
}

impl fmt::Debug for RawLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

enum Attempt<'a> {
    Got(Acquired),
    Held(super::Life<'a>),
    Changed,
}

/// A lock's word at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(u32);

impl State {
    /// Who holds it.
    pub const fn owner(self) -> Option<Tag> {
        Tag::from_bits(self.0)
    }

    /// Whether nobody holds it.
    pub const fn is_free(self) -> bool {
        self.0 & Tag::MASK == 0
    }

    /// Whether the data waits for repair.
    pub const fn is_poisoned(self) -> bool {
        self.0 & POISON != 0
    }

    /// Whether somebody may be asleep on it.
    pub const fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    /// The word as it stands after [`RawLock::announce_sleeper`].
    pub(crate) const fn announced(self) -> u32 {
        self.0 | WAITERS
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut state = f.debug_struct("State");
        state
            .field("owner", &self.owner())
            .field("poisoned", &self.is_poisoned());
        state.field("waiters", &self.has_waiters()).finish()
    }
}
