//! Meeting of a fixed number of threads.

use std::time::{Duration, Instant};

use super::{Lives, Spin};
use crate::primitive::{
    AtomicU32, AtomicU64, FUTEX_WAIT_MANY_MAX, Ordering, Waited, full_fence_after_rmw, futex_wait, futex_wait_many,
    futex_wake,
};
use crate::raw::Naps;
use crate::tag::Tag;

const BROKEN: u64 = 1;
const SLEEPERS: u64 = 2;
const ROUND_SHIFT: u32 = 2;
const ROUND_MASK: u64 = (1 << 28) - 1;
const HISTORY_SHIFT: u32 = 32;

/// How long a waiter sleeps before it looks for dead members: meetings that come about sooner need not pay for it.
const FIRST_SLEEP: Duration = Duration::from_millis(10);

/// A barrier over words of shared memory.
///
/// `state` is `history:32 | 0:2 | round:28 | SLEEPERS:1 | BROKEN:1`. A seat is `tag:30 << 32 | round:28`: the round in which that
/// member arrived last. Nothing is counted, so that nobody can tell a wrong number: a round is complete when all seats bear
/// its number, and whoever sees that moves `state` on to the next, by a compare-and-swap that one of them wins.
///
/// | state | to | by |
/// |---|---|---|
/// | round r | round r+1, history bit 0 | whoever sees all seats at r |
/// | round r | round r+1, history bit 1 | a reset, that breaks the waiters' round |
/// | round r | round r, BROKEN | whoever sees a dead member, runs out of time, or aborts |
/// | round r, BROKEN | round r+1, history bit 1 | a reset |
///
/// The history tells a waiter that slept through several rounds how its own ended.
///
/// A member is who has a seat: it gets one at its first arrival and keeps it until another thread needs it in a round for which it
/// has not arrived yet. While somebody waits, the death of any member breaks the barrier: it would be missing for ever.
#[derive(Debug)]
pub struct RawBarrier<'a> {
    /// The round and how it stands.
    pub state: &'a AtomicU64,
    /// Changes when sleepers are to be woken.
    pub bell: &'a AtomicU32,
    /// Who broke it, and how: a [`Breach`] in one word. Set before `BROKEN`; a hint, as two may break it at once.
    pub breach: &'a AtomicU32,
    /// One per party.
    pub seats: &'a [AtomicU64],
    /// `round:28 << 32 | tag:30` of the party that runs the round's action.
    pub actor: &'a AtomicU64,
}

/// Why a barrier is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// This member died.
    Death(Tag),
    /// This member ran out of time.
    Timeout(Tag),
    /// This member aborted it, or its action panicked.
    Abort(Tag),
    /// The round was reset under its waiters.
    Reset,
}

impl Breach {
    const fn to_word(self) -> u32 {
        match self {
            Breach::Death(tag) => tag.bits(),
            Breach::Timeout(tag) => tag.bits() | 1 << 30,
            Breach::Abort(tag) => tag.bits() | 2 << 30,
            Breach::Reset => 0,
        }
    }

    const fn from_word(word: u32) -> Breach {
        match (Tag::from_bits(word), word >> 30) {
            (Some(tag), 0) => Breach::Death(tag),
            (Some(tag), 1) => Breach::Timeout(tag),
            (Some(tag), 2) => Breach::Abort(tag),
            _ => Breach::Reset,
        }
    }
}

/// How a wait ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// The caller's seat, from 0: different for all parties of a round.
    pub seat: usize,
    /// Whether it was the caller who completed the round.
    pub leader: bool,
}

/// How a wait ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// The barrier was or became broken.
    Broken(Breach),
    /// The caller's time was up, which broke the barrier.
    TimedOut,
}

fn round(state: u64) -> u64 {
    state >> ROUND_SHIFT & ROUND_MASK
}

fn next_round(state: u64, reset: bool) -> u64 {
    let history = (state >> HISTORY_SHIFT) << 1 | u64::from(reset);
    history << HISTORY_SHIFT | ((round(state) + 1) & ROUND_MASK) << ROUND_SHIFT
}

fn seat(tag: Tag, round: u64) -> u64 {
    u64::from(tag.bits()) << 32 | round
}

fn seat_tag(seat: u64) -> Option<Tag> {
    Tag::from_bits((seat >> 32) as u32)
}

fn seat_round(seat: u64) -> u64 {
    seat & ROUND_MASK
}

/// A step of a wait.
enum Arrival {
    At(usize),
    /// All seats of this round are taken: the next one is ours.
    Full,
}

impl RawBarrier<'_> {
    /// Arrives and waits for the others, until `deadline` or for ever. `action`, if any, is run by one of the parties after all
    /// have arrived and before any leaves.
    ///
    /// # Errors
    ///
    /// See [`Unmet`].
    pub fn wait(
        &self,
        lives: &impl Lives,
        me: Tag,
        deadline: Option<Instant>,
        spin: Spin,
        action: Option<&mut dyn FnMut()>,
    ) -> Result<Met, Unmet> {
        let mut action = action;
        let mut patience = Patience {
            spin,
            naps: Naps::new(deadline),
            first: true,
        };
        loop {
            // PAIRS: barrier-round
            let state = self.state.load(Ordering::Acquire);
            if state & BROKEN != 0 {
                return Err(Unmet::Broken(self.breach()));
            }
            let current = round(state);
            let index = match self.arrive(me, current) {
                Arrival::At(index) => index,
                Arrival::Full => {
                    self.sleep_through(lives, me, current, &mut patience)?;
                    continue;
                }
            };
            full_fence_after_rmw();
            if self.all_arrived(current)
                && self.act(me, current, &mut action)
                && let Some(met) = self.complete(current, index)
            {
                return Ok(met);
            }
            return self.await_round(lives, me, current, index, &mut patience);
        }
    }

    fn arrive(&self, me: Tag, current: u64) -> Arrival {
        loop {
            let mut chosen = None;
            for (index, word) in self.seats.iter().enumerate() {
                let seen = word.load(Ordering::Relaxed);
                if seat_tag(seen) == Some(me) {
                    chosen = Some((index, seen));
                    break;
                }
                // A free seat before one whose member may still come.
                let better = chosen.is_none_or(|(_, best)| best != 0 && seen == 0);
                if better && (seen == 0 || seat_round(seen) != current) {
                    chosen = Some((index, seen));
                }
            }
            let Some((index, seen)) = chosen else {
                return Arrival::Full;
            };
            // PAIRS: barrier-arrival
            let arrived =
                self.seats[index].compare_exchange(seen, seat(me, current), Ordering::SeqCst, Ordering::Relaxed);
            if arrived.is_ok() {
                return Arrival::At(index);
            }
        }
    }

    fn all_arrived(&self, current: u64) -> bool {
        // PAIRS: barrier-arrival
        self.seats.iter().all(|word| {
            let seen = word.load(Ordering::SeqCst);
            seen != 0 && seat_round(seen) == current
        })
    }

    /// Runs the action, if there is one and this party is the one to do it. Says whether the round may be completed by the caller.
    fn act(&self, me: Tag, current: u64, action: &mut Option<&mut dyn FnMut()>) -> bool {
        let Some(action) = action else { return true };
        let mine = current << 32 | u64::from(me.bits());
        let seen = self.actor.load(Ordering::Acquire);
        // Bit 30 tells round 0 from "nobody yet".
        if seen == mine | 1 << 30 || seen & 1 << 30 != 0 && seen >> 32 == current {
            return false;
        }
        if self
            .actor
            .compare_exchange(seen, mine | 1 << 30, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        action();
        true
    }

    fn complete(&self, current: u64, index: usize) -> Option<Met> {
        let mut state = self.state.load(Ordering::Relaxed);
        while round(state) == current && state & BROKEN == 0 {
            // PAIRS: barrier-round
            match self
                .state
                .compare_exchange(state, next_round(state, false), Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => {
                    self.ring(state);
                    return Some(Met {
                        seat: index,
                        leader: true,
                    });
                }
                Err(found) => state = found,
            }
        }
        None
    }

    /// Wakes the sleepers of the state that was left.
    fn ring(&self, left: u64) {
        if left & SLEEPERS != 0 {
            // PAIRS: barrier-bell
            self.bell.fetch_add(1, Ordering::AcqRel);
            futex_wake(self.bell, u32::MAX);
        }
    }

    /// How `ended`, a round before that of `state`, came out.
    fn outcome(&self, state: u64, ended: u64) -> Result<(), Unmet> {
        let ago = round(state).wrapping_sub(ended) & ROUND_MASK;
        // Too long ago to know: the safe answer.
        if ago > 32 || state >> HISTORY_SHIFT >> (ago - 1) & 1 != 0 {
            return Err(Unmet::Broken(Breach::Reset));
        }
        Ok(())
    }

    fn await_round(
        &self,
        lives: &impl Lives,
        me: Tag,
        current: u64,
        index: usize,
        patience: &mut Patience,
    ) -> Result<Met, Unmet> {
        self.sleep_through(lives, me, current, patience)?;
        // PAIRS: barrier-round
        self.outcome(self.state.load(Ordering::Acquire), current)?;
        Ok(Met {
            seat: index,
            leader: false,
        })
    }

    /// Waits until the round is another one.
    fn sleep_through(&self, lives: &impl Lives, me: Tag, current: u64, patience: &mut Patience) -> Result<(), Unmet> {
        loop {
            // PAIRS: barrier-bell
            let bell = self.bell.load(Ordering::Acquire);
            // PAIRS: barrier-round
            let state = self.state.load(Ordering::Acquire);
            if round(state) != current {
                patience.spin.succeeded();
                return Ok(());
            }
            if state & BROKEN != 0 {
                return Err(Unmet::Broken(self.breach()));
            }
            if patience.spin.again() {
                continue;
            }
            let Some(mut nap) = patience.naps.until() else {
                if self.break_it(current, Breach::Timeout(me)) {
                    return Err(Unmet::TimedOut);
                }
                continue;
            };
            if state & SLEEPERS == 0
                && self
                    .state
                    .compare_exchange(state, state | SLEEPERS, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            if patience.first {
                patience.first = false;
                nap = nap.min(Instant::now() + FIRST_SLEEP);
                futex_wait(self.bell, bell, Some(nap));
            } else {
                self.sleep_with_the_living(lives, me, current, bell, nap, &mut patience.naps);
            }
        }
    }

    /// Sleeps until the bell rings or a member dies, which breaks the barrier.
    fn sleep_with_the_living(
        &self,
        lives: &impl Lives,
        me: Tag,
        current: u64,
        bell: u32,
        nap: Instant,
        naps: &mut Naps,
    ) {
        let mut watched = [(self.bell, bell); FUTEX_WAIT_MANY_MAX];
        let mut count = 1;
        for word in self.seats {
            let seen = word.load(Ordering::Acquire);
            let Some(member) = seat_tag(seen).filter(|member| *member != me) else {
                continue;
            };
            let life = lives.life(member);
            if life.is_none_or(|life| life.dead) {
                // Still in its seat? It may have been replaced while we looked.
                if word.load(Ordering::Acquire) == seen {
                    self.break_it(current, Breach::Death(member));
                }
                return;
            }
            if let Some(life) = life
                && count < FUTEX_WAIT_MANY_MAX
            {
                watched[count] = (life.word, life.seen);
                count += 1;
            }
        }
        let waited = futex_wait_many(&watched[..count], Some(nap));
        for (word, seen) in &watched[1..count] {
            // PAIRS: life-ended
            if word.load(Ordering::Acquire) != *seen {
                futex_wake(word, u32::MAX);
            }
        }
        if waited == Waited::TimedOut && naps.ran_out() {
            for word in self.seats {
                if let Some(member) = seat_tag(word.load(Ordering::Relaxed)).filter(|member| *member != me) {
                    lives.inquire(member);
                }
            }
        }
    }

    /// Breaks round `current`; false if it has ended or was broken before.
    fn break_it(&self, current: u64, breach: Breach) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while round(state) == current && state & BROKEN == 0 {
            self.breach.store(breach.to_word(), Ordering::Relaxed);
            // PAIRS: barrier-round
            let broken = (state | BROKEN) & !SLEEPERS;
            match self
                .state
                .compare_exchange(state, broken, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => {
                    self.ring(state);
                    return true;
                }
                Err(found) => state = found,
            }
        }
        false
    }

    /// Breaks the barrier.
    pub fn abort(&self, me: Tag) {
        let state = self.state.load(Ordering::Relaxed);
        if state & BROKEN == 0 && !self.break_it(round(state), Breach::Abort(me)) {
            // The round ended meanwhile: break the next.
            self.break_it(round(self.state.load(Ordering::Relaxed)), Breach::Abort(me));
        }
    }

    /// Makes the barrier usable again. Those who wait in it are told that it was broken.
    pub fn reset(&self, lives: &impl Lives) {
        // The seats first: whoever arrives after the reset must not find a dead member.
        for word in self.seats {
            let seen = word.load(Ordering::Acquire);
            if seen != 0
                && seat_tag(seen)
                    .and_then(|member| lives.life(member))
                    .is_none_or(|life| life.dead)
            {
                let _ = word.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            // PAIRS: barrier-round
            match self
                .state
                .compare_exchange(state, next_round(state, true), Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return self.ring(state),
                Err(found) => state = found,
            }
        }
    }

    /// Takes a seat without arriving: from now on the others notice if `me` dies. False if all seats are taken.
    pub fn join(&self, me: Tag) -> bool {
        let current = round(self.state.load(Ordering::Acquire));
        // A round that `me` has not arrived in: the one before.
        let before = current.wrapping_sub(1) & ROUND_MASK;
        self.seats.iter().any(|word| {
            let seen = word.load(Ordering::Relaxed);
            seat_tag(seen) == Some(me)
                || seen == 0
                    && word
                        .compare_exchange(0, seat(me, before), Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok()
        })
    }

    /// Gives the caller's seat up: it may end without breaking the barrier.
    pub fn leave(&self, me: Tag) {
        for word in self.seats {
            let seen = word.load(Ordering::Relaxed);
            if seat_tag(seen) == Some(me) {
                let _ = word.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Whether the barrier is broken.
    pub fn is_broken(&self) -> bool {
        self.state.load(Ordering::Acquire) & BROKEN != 0
    }

    /// Why the barrier is broken.
    pub fn breach(&self) -> Breach {
        Breach::from_word(self.breach.load(Ordering::Relaxed))
    }

    /// How many have arrived in this round.
    pub fn arrived(&self) -> usize {
        let state = self.state.load(Ordering::Acquire);
        if state & BROKEN != 0 {
            return 0;
        }
        let here = |word: &&AtomicU64| {
            let seen = word.load(Ordering::Relaxed);
            seen != 0 && seat_round(seen) == round(state)
        };
        self.seats.iter().filter(here).count()
    }
}

struct Patience {
    spin: Spin,
    naps: Naps,
    first: bool,
}
