//! How long to spin, and how long to sleep before looking again.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::primitive::{self, REAL};

/// A wake on another core costs 50 to 90 microseconds here, one on the same core 3 to 14: spinning for longer than the cheap one
/// costs turns the dear one into half a microsecond whenever the wait is short.
const SPIN_BUDGET: Duration = Duration::from_micros(14);

/// For meetings of threads that run in step. There, one who slept makes the others wait for as long as a wake takes, so that
/// they sleep in their turn, and so on for ever: unless one of them spins for longer than a wake takes.
const STEADY_BUDGET: Duration = Duration::from_micros(120);

/// Each look at a contended lock takes its line away from the owner, who then waits for it: up to 64 pauses between two.
const LOOK_SELDOM: u32 = 6;

/// Nobody is slowed down by a look at a barrier: up to 16 pauses between two.
const LOOK_OFTEN: u32 = 4;

/// After this many spins in a row that ended in a sleep, spinning stops ...
const FAILURES_BEFORE_REST: u32 = 3;

/// ... for this many waits; then one more try, and if it fails a rest that is twice as long ...
const WAITS_AT_REST: u32 = 16;

/// ... up to this many times doubled.
const LONGEST_REST: u32 = 4;

std::thread_local! {
    /// Low half: spins that failed in a row. High half: waits left without a spin.
    static HISTORY: Cell<u32> = const { Cell::new(0) };
}

/// One wait's right to spin.
///
/// Spinning is by time, not by count: a pause costs from 5 to 140 cycles. It is a bet that the wait is short and that the one
/// waited for is running; a thread that lost the bet three times in a row stops betting for a while, for longer each time, and
/// with one processor nobody bets.
#[derive(Debug)]
pub struct Spin {
    budget: Duration,
    /// The pauses between two looks double up to 2 to the power of this.
    coarseness: u32,
    round: u32,
    until: Option<Instant>,
    allowed: bool,
}

impl Spin {
    /// A fresh right to spin, unless this thread's last spins all failed.
    pub fn new() -> Self {
        Spin::within(SPIN_BUDGET, LOOK_SELDOM)
    }

    /// As [`new`](Self::new), for a wait in which the others may have to be woken first.
    pub fn steady() -> Self {
        Spin::within(STEADY_BUDGET, LOOK_OFTEN)
    }

    fn within(budget: Duration, coarseness: u32) -> Self {
        Spin {
            budget,
            coarseness,
            allowed: REAL && processors() > 1 && !at_rest(),
            ..Spin::none()
        }
    }

    /// No right to spin.
    pub const fn none() -> Self {
        Spin {
            budget: SPIN_BUDGET,
            coarseness: LOOK_SELDOM,
            round: 0,
            until: None,
            allowed: false,
        }
    }

    /// Pauses for a moment and returns true, or returns false when the budget is spent.
    #[inline]
    pub fn again(&mut self) -> bool {
        if !self.allowed {
            return false;
        }
        for _ in 0..(1 << self.round.min(self.coarseness)) {
            primitive::spin_loop();
        }
        self.round += 1;
        if self.round < 6 {
            return true;
        }
        // The clock is asked once per look, and not at all in the shortest waits.
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.budget);
        if now < until {
            return true;
        }
        self.allowed = false;
        failed();
        false
    }

    /// Tells the history that a wait ended while spinning.
    #[inline]
    pub fn succeeded(&self) {
        if self.round > 0 && self.allowed {
            HISTORY.set(0);
        }
    }
}

impl Default for Spin {
    fn default() -> Self {
        Spin::new()
    }
}

fn at_rest() -> bool {
    let history = HISTORY.get();
    if history >> 16 == 0 {
        return false;
    }
    HISTORY.set(history - (1 << 16));
    true
}

#[cold]
fn failed() {
    let failures = (HISTORY.get() & 0xffff) + 1;
    let rest = match failures.checked_sub(FAILURES_BEFORE_REST) {
        Some(more) => WAITS_AT_REST << more.min(LONGEST_REST),
        None => 0,
    };
    HISTORY.set(rest << 16 | failures.min(FAILURES_BEFORE_REST + LONGEST_REST));
}

/// How many processors the machine runs. Not how many the calling thread may use: a thread that is bound to one processor may well
/// wait for one that is bound to another.
pub(crate) fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(primitive::online_processors)
}

/// The first nap.
const FIRST_NAP: Duration = Duration::from_millis(50);

/// The longest: at most one wake-up a second from a thread that waits in vain.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// The naps of one wait: each sleep ends after a while, so that the sleeper looks at the truth again.
///
/// No protocol needs them while everybody lives, and a death wakes those who wait for the dead. They bound what is left: a wake
/// that was lost because its sender died between its store and its `FUTEX_WAKE`, or because the one who was woken died before it
/// could pass the wake on. Both take a kill within a few instructions, and cost the others one nap.
#[derive(Debug)]
pub struct Naps {
    length: Duration,
    deadline: Option<Instant>,
    taken: u32,
}

impl Naps {
    /// Naps that end at `deadline` at the latest.
    pub const fn new(deadline: Option<Instant>) -> Self {
        Naps {
            length: FIRST_NAP,
            deadline,
            taken: 0,
        }
    }

    /// When the next nap ends, or `None` if the deadline has passed.
    pub fn until(&mut self) -> Option<Instant> {
        let now = Instant::now();
        match self.deadline {
            Some(deadline) if deadline <= now => None,
            Some(deadline) => Some(deadline.min(now + self.length)),
            None => Some(now + self.length),
        }
    }

    /// A nap ended by itself: the next is longer. Says whether it is time to ask who is dead by slower means.
    pub fn ran_out(&mut self) -> bool {
        self.length = (self.length * 2).min(LONGEST_NAP);
        self.taken += 1;
        // After 50 + 100 + 200 milliseconds, some times more while the naps grow, and then every few seconds.
        self.taken >= 3 && (self.taken < 7 || self.taken.is_multiple_of(4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_grow_to_a_second_and_respect_the_deadline() {
        let mut naps = Naps::new(None);
        let mut lengths = Vec::new();
        for _ in 0..8 {
            let now = Instant::now();
            lengths.push(naps.until().unwrap().duration_since(now).as_millis() / 10 * 10);
            naps.ran_out();
        }
        assert_eq!(lengths, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
        let soon = Instant::now() + Duration::from_millis(5);
        assert_eq!(Naps::new(Some(soon)).until(), Some(soon));
        assert_eq!(Naps::new(Some(Instant::now())).until(), None);
    }

    #[test]
    fn three_failed_spins_bring_rest() {
        HISTORY.set(0);
        for _ in 0..3 {
            let mut spin = Spin {
                allowed: true,
                ..Spin::none()
            };
            while spin.again() {}
        }
        assert!(at_rest());
        assert!(!Spin::new().again(), "a thread at rest does not spin");
        let mut rests = Vec::new();
        for _ in 0..6 {
            while at_rest() {}
            failed();
            rests.push(HISTORY.get() >> 16);
        }
        assert_eq!(rests, [32, 64, 128, 256, 256, 256]);
        HISTORY.set(0);
    }

    #[test]
    fn a_spin_ends_in_time() {
        let started = Instant::now();
        let mut spin = Spin {
            allowed: true,
            ..Spin::none()
        };
        while spin.again() {}
        assert!(started.elapsed() >= SPIN_BUDGET);
        HISTORY.set(0);
    }
}
