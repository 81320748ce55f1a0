//! Where threads of several processes meet.

// UNSAFETY: declares that the type may live in shared memory.
#![expect(unsafe_code, reason = "implements ShmSafe")]

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use offspring_shm::ShmSafe;

use crate::head::{Head, Kind};
use crate::member::current::Me;
use crate::member::{Member, Membership};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::raw::{Breach, Lives, RawBarrier, Spin, Unmet, processors};
use crate::unusable::Unusable;

/// Keeps a number of threads in step: each waits until all have arrived.
///
/// Reusable, round after round. A barrier breaks when one of its members dies while others wait, when one runs out of time, or
/// when somebody aborts it; then all who wait, and all who come, are told so instead of hanging, until it is
/// [`reset`](Barrier::reset).
///
/// `CAPACITY` is the most parties there is room for, 8 bytes each.
///
/// # When a thread dies
///
/// - A member dies, before it arrives or while it waits: the barrier breaks, all who wait are told who died. A member is who
///   has [joined](Barrier::join) or arrived once; a thread that ends counts as dead, unless it has [left](Barrier::leave) or
///   the others went on without it. (Somebody who never came is unknown: nobody can tell that it died.)
/// - The member that runs the round's action dies in it: the same.
///
/// ```
/// use offspring_sync::Barrier;
///
/// let barrier = Barrier::new(2)?;
/// std::thread::scope(|scope| {
///     let other = scope.spawn(|| barrier.wait().unwrap().is_leader());
///     let leader = barrier.wait().unwrap().is_leader();
///     assert!(leader != other.join().unwrap(), "one of them is the leader");
/// });
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
pub struct Barrier<const CAPACITY: usize = 64> {
    head: Head,
    /// Nanoseconds that a wait may take, 0 for ever. Never changes.
    timeout: AtomicU64,
    /// How many must meet. Never changes.
    parties: AtomicU32,
    breach: AtomicU32,
    actor: AtomicU64,
    /// The words that spinning waiters look at, away from those that arriving ones write.
    round: Round,
    seats: Seats<CAPACITY>,
}

#[repr(C, align(64))]
struct Round {
    state: AtomicU64,
    bell: AtomicU32,
}

#[repr(C, align(64))]
struct Seats<const CAPACITY: usize>([AtomicU64; CAPACITY]);

// SAFETY: words without addresses, checked before they are used.
unsafe impl<const CAPACITY: usize> ShmSafe for Barrier<CAPACITY> {}

impl Barrier {
    /// A barrier for `parties` of the family's threads, up to 64.
    ///
    /// # Errors
    ///
    /// No parties, or more than there is room for.
    pub fn new(parties: usize) -> io::Result<Self> {
        Barrier::with_capacity(parties)
    }

    /// A barrier for `parties` threads of `membership`, up to 64.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn new_in(membership: &Membership, parties: usize) -> io::Result<Self> {
        Barrier::with_capacity_in(membership, parties)
    }
}

impl<const CAPACITY: usize> Barrier<CAPACITY> {
    /// A barrier for `parties` of the family's threads, with room for `CAPACITY`.
    ///
    /// # Errors
    ///
    /// No parties, or more than that.
    pub fn with_capacity(parties: usize) -> io::Result<Self> {
        Barrier::with_head(Head::unbound(Kind::Barrier), parties)
    }

    /// A barrier for `parties` threads of `membership`, with room for `CAPACITY`.
    ///
    /// # Errors
    ///
    /// As [`with_capacity`](Self::with_capacity).
    pub fn with_capacity_in(membership: &Membership, parties: usize) -> io::Result<Self> {
        Barrier::with_head(Head::bound(Kind::Barrier, membership), parties)
    }

    fn with_head(head: Head, parties: usize) -> io::Result<Self> {
        if parties == 0 || parties > CAPACITY {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a barrier has from 1 to {CAPACITY} parties, not {parties}: for more, name a larger CAPACITY in its type"
                ),
            ));
        }
        Ok(Barrier {
            head,
            timeout: AtomicU64::new(0),
            parties: AtomicU32::new(parties as u32),
            breach: AtomicU32::new(0),
            actor: AtomicU64::new(0),
            round: Round {
                state: AtomicU64::new(0),
                bell: AtomicU32::new(0),
            },
            seats: Seats([const { AtomicU64::new(0) }; CAPACITY]),
        })
    }

    /// Makes every [`wait`](Self::wait) give up after `timeout`.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        let nanoseconds = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.timeout.store(nanoseconds, Ordering::Relaxed);
        self
    }

    fn raw(&self) -> RawBarrier<'_> {
        RawBarrier {
            state: &self.round.state,
            bell: &self.round.bell,
            breach: &self.breach,
            seats: &self.seats.0[..self.parties()],
            actor: &self.actor,
        }
    }

    /// How many threads must meet.
    pub fn parties(&self) -> usize {
        // A number beyond the capacity is garbage; the seats that exist are the limit.
        (self.parties.load(Ordering::Relaxed) as usize).min(CAPACITY)
    }

    /// Waits until all parties have arrived.
    ///
    /// # Errors
    ///
    /// See [`BarrierError`].
    pub fn wait(&self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_within(self.default_deadline(), None)
    }

    /// Waits for at most `timeout`, whatever the barrier's own is. Running out of time breaks the barrier for all.
    ///
    /// # Errors
    ///
    /// See [`BarrierError`].
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_within(Instant::now().checked_add(timeout), None)
    }

    /// Waits until `deadline` at most.
    ///
    /// # Errors
    ///
    /// See [`BarrierError`].
    pub fn wait_deadline(&self, deadline: Instant) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_within(Some(deadline), None)
    }

    /// Waits until all parties have arrived; one of them then runs its `action`, and only then do they go on.
    ///
    /// All parties of a round must use this call. An action that panics breaks the barrier.
    ///
    /// # Errors
    ///
    /// See [`BarrierError`].
    pub fn wait_with(&self, action: impl FnOnce()) -> Result<BarrierWaitResult, BarrierError> {
        let mut action = Some(action);
        let mut run = || {
            if let Some(action) = action.take() {
                action();
            }
        };
        self.wait_within(self.default_deadline(), Some(&mut run))
    }

    fn default_deadline(&self) -> Option<Instant> {
        match self.timeout.load(Ordering::Relaxed) {
            0 => None,
            nanoseconds => Instant::now().checked_add(Duration::from_nanos(nanoseconds)),
        }
    }

    fn wait_within(
        &self,
        deadline: Option<Instant>,
        action: Option<&mut dyn FnMut()>,
    ) -> Result<BarrierWaitResult, BarrierError> {
        let me = self.me()?;
        let raw = self.raw();
        // With more parties than processors the last one cannot run while the others spin.
        let spin = if self.parties() <= processors() {
            Spin::steady()
        } else {
            Spin::none()
        };
        let panics = AbortOnPanic { raw: &raw, me };
        let met = raw.wait(me.table(), me.tag, deadline, spin, action);
        std::mem::forget(panics);
        match met {
            Ok(met) => Ok(BarrierWaitResult {
                index: met.seat,
                leader: met.leader,
            }),
            Err(Unmet::TimedOut) => Err(BarrierError::TimedOut),
            Err(Unmet::Broken(breach)) => Err(BarrierError::broken(breach, me)),
        }
    }

    fn me<'a>(&self) -> Result<Me<'a>, Unusable> {
        let me = self.head.me(Kind::Barrier)?;
        if self.parties() == 0 {
            return Err(Unusable::Corrupted { word: 0 });
        }
        Ok(me)
    }

    /// Makes the calling thread a member before it arrives for the first time, so that the others notice if it dies on the way.
    /// Says whether there was a place for it.
    ///
    /// # Errors
    ///
    /// The memory is no usable barrier.
    pub fn join(&self) -> Result<bool, Unusable> {
        let me = self.me()?;
        Ok(self.raw().join(me.tag))
    }

    /// Ends the calling thread's membership: it may end without breaking the barrier, and another may take its place.
    ///
    /// # Errors
    ///
    /// The memory is no usable barrier.
    pub fn leave(&self) -> Result<(), Unusable> {
        let me = self.me()?;
        self.raw().leave(me.tag);
        Ok(())
    }

    /// Breaks the barrier: all who wait, and all who come, get an error, until it is reset.
    ///
    /// # Errors
    ///
    /// The memory is no usable barrier.
    pub fn abort(&self) -> Result<(), Unusable> {
        let me = self.me()?;
        self.raw().abort(me.tag);
        Ok(())
    }

    /// Makes the barrier as new. Who waits in it is told that it was broken.
    ///
    /// # Errors
    ///
    /// The memory is no usable barrier.
    pub fn reset(&self) -> Result<(), Unusable> {
        let me = self.me()?;
        self.raw().reset(me.table());
        Ok(())
    }

    /// Whether the barrier is broken.
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        self.raw().is_broken()
    }

    /// How many wait at this moment.
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        self.raw().arrived()
    }
}

impl<const CAPACITY: usize> fmt::Debug for Barrier<CAPACITY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Barrier");
        if let Err(unusable) = self.head.check(Kind::Barrier) {
            return out.field("unusable", &format_args!("{unusable}")).finish();
        }
        out.field("parties", &self.parties()).field("waiting", &self.waiting());
        out.field("broken", &self.is_broken()).finish_non_exhaustive()
    }
}

struct AbortOnPanic<'a> {
    raw: &'a RawBarrier<'a>,
    me: Me<'a>,
}

impl Drop for AbortOnPanic<'_> {
    fn drop(&mut self) {
        self.raw.abort(self.me.tag);
    }
}

/// How a round ended for one party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: usize,
    leader: bool,
}

impl BarrierWaitResult {
    /// Whether this party completed the round; true for exactly one.
    pub fn is_leader(&self) -> bool {
        self.leader
    }

    /// A number from 0, different for each party of the round, and mostly the same for a thread from round to round.
    pub fn index(&self) -> usize {
        self.index
    }
}

/// Why a round did not come about.
#[derive(Debug)]
#[non_exhaustive]
pub enum BarrierError {
    /// A member died: this one, if it is still known.
    MemberDied(Option<Member>),
    /// The caller's time was up, which broke the barrier for all.
    TimedOut,
    /// Another member's time was up, somebody aborted the barrier, or it was reset.
    Broken,
    /// There is no barrier here that could be used.
    Unusable(Unusable),
}

impl BarrierError {
    /// Whether the barrier is, or was, broken for all, by whatever cause.
    pub fn is_broken(&self) -> bool {
        !matches!(self, BarrierError::Unusable(_))
    }

    fn broken(breach: Breach, me: Me<'_>) -> Self {
        match breach {
            Breach::Death(tag) if me.table().life(tag).is_some() => BarrierError::MemberDied(me.table().member(tag)),
            _ => BarrierError::Broken,
        }
    }
}

impl From<Unusable> for BarrierError {
    fn from(unusable: Unusable) -> Self {
        BarrierError::Unusable(unusable)
    }
}

impl fmt::Display for BarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BarrierError::MemberDied(Some(member)) => write!(f, "the barrier is broken: {member} died"),
            BarrierError::MemberDied(None) => f.write_str("the barrier is broken: a member died"),
            BarrierError::TimedOut => f.write_str("timed out waiting at a barrier, which is broken now"),
            BarrierError::Broken => f.write_str("the barrier is broken"),
            BarrierError::Unusable(unusable) => unusable.fmt(f),
        }
    }
}

impl Error for BarrierError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BarrierError::Unusable(unusable) => Some(unusable),
            _ => None,
        }
    }
}

impl From<BarrierError> for io::Error {
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::Unusable(unusable) => unusable.into(),
            BarrierError::TimedOut => io::Error::new(io::ErrorKind::TimedOut, error),
            other => io::Error::new(io::ErrorKind::BrokenPipe, other),
        }
    }
}
