use std::time::Instant;

use offspring_sync::primitive::{Mode, Ordering, Waited, futex_wake};
use offspring_sync::raw::{EventCount, Lives, Naps, Spin};

use super::Blocked;

/// How a wait ended that led to nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<E> {
    /// The deadline passed.
    TimedOut,
    /// What was asked before each sleep said that there is nothing to wait for.
    Stopped(E),
    /// A slot is damaged: which, and the word in it.
    Corrupted(u32, u64),
}

/// One wait for a message, for room, or for rest.
#[derive(Debug)]
pub struct Waiting<'a, L> {
    /// Who lives.
    pub lives: &'a L,
    /// Where to sleep.
    pub bell: &'a EventCount,
    /// How the changes that one waits for are ordered before the look at who sleeps.
    pub mode: Mode,
    /// When to give up.
    pub deadline: Option<Instant>,
    /// Whether to spin before the first sleep.
    pub spin: Spin,
    /// Whether a slot that a member holds is worth waiting for although there is nothing else: it may come back.
    pub patient: bool,
}

impl<L: Lives> Waiting<'_, L> {
    /// Repeats `attempt` until it succeeds, asleep in between.
    ///
    /// A slot whose owner lives is waited for together with the owner's life. `stop` is asked before the last attempt that
    /// precedes a sleep, with whether a nap has just ended by itself, which is the time for slow questions; if that attempt
    /// fails its answer ends the wait. Who has slept and leaves with nothing wakes another if there is `more`.
    ///
    /// # Errors
    /// When the wait ended otherwise.
    pub fn run<R, E>(
        mut self,
        mut attempt: impl FnMut() -> Result<R, Blocked>,
        more: impl Fn() -> bool,
        mut stop: impl FnMut(bool) -> Option<E>,
    ) -> Result<R, Ended<E>> {
        let mut naps = Naps::new(self.deadline);
        let mut slept = false;
        let mut overslept = false;
        let outcome = loop {
            match attempt() {
                Ok(got) => break Ok(got),
                Err(Blocked::Corrupted { index, word }) => break Err(Ended::Corrupted(index, word)),
                Err(_) if self.spin.again() => continue,
                Err(_) => {}
            }
            let Some(until) = naps.until() else {
                break Err(Ended::TimedOut);
            };
            let ticket = self.bell.prepare(self.mode);
            let end = stop(overslept);
            let blocked = match attempt() {
                Ok(got) => break Ok(got),
                Err(Blocked::Corrupted { index, word }) => break Err(Ended::Corrupted(index, word)),
                Err(blocked) => blocked,
            };
            if let Some(end) = end
                && !(self.patient && matches!(blocked, Blocked::Behind(_)))
            {
                break Err(Ended::Stopped(end));
            }
            let owner = match blocked {
                Blocked::Behind(owner) => self.lives.life(owner).map(|life| (owner, life)),
                _ => None,
            };
            slept = true;
            let waited = match &owner {
                Some((_, life)) if life.dead => continue,
                Some((owner, life)) => {
                    self.lives.asleep_for(*owner);
                    let waited = self.bell.wait(ticket, &[(life.word, life.seen)], Some(until));
                    // PAIRS: life-ended
                    if life.word.load(Ordering::Acquire) != life.seen {
                        // The kernel woke one sleeper of the dead.
                        futex_wake(life.word, u32::MAX);
                    }
                    waited
                }
                None => self.bell.wait(ticket, &[], Some(until)),
            };
            overslept = waited == Waited::TimedOut;
            if overslept
                && naps.ran_out()
                && let Some((owner, _)) = owner
            {
                self.lives.inquire(owner);
            }
        };
        if outcome.is_ok() {
            self.spin.succeeded();
        } else if slept {
            self.bell.pass_on(more);
        }
        outcome
    }
}
