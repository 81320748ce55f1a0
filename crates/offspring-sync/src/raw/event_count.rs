//! Sleeping until something that others change is as one wants it.

use std::fmt;
use std::time::{Duration, Instant};

use crate::primitive::{
    AtomicU32, FUTEX_WAIT_MANY_MAX, Mode, Ordering, Waited, full_fence_after_rmw, futex_wait, futex_wait_many,
    futex_wake, heavy_fence, light_fence,
};

/// Somebody may be asleep.
const SLEEPERS: u32 = 1;
const STEP: u32 = 2;

/// How long one sleeps whose fence failed, and who may therefore have missed a change.
const UNSURE_NAP: Duration = Duration::from_millis(5);

/// A futex for conditions over words that lie elsewhere: `epoch:31 | SLEEPERS:1`.
///
/// No counts: a killed sleeper leaves at most one needless wake behind. The sleeper's side:
///
/// ```text
/// try; on failure: ticket = prepare(mode); try again; on failure: wait(ticket, ..); try again ...
/// having slept, and leaving without what others may sleep for: pass_on(is it there?)
/// ```
///
/// and the other side: change the words with a `SeqCst` read-modify-write, then [`notify`](EventCount::notify); or with a plain
/// store, then [`notify_after_store`](EventCount::notify_after_store). All parties of one event count agree on the mode, and
/// without plain stores it is [`Mode::Full`].
///
/// [`prepare`](EventCount::prepare) sets the flag before the second try, `notify` reads the flag after the change, and between each
/// pair stands a full fence: either the second try sees the change or `notify` sees the flag.
///
/// The flag stays set when a sleeper is woken, as there may be others: each change wakes one of them. It is cleared by the first
/// who finds that nobody sleeps, and who then wakes once more: somebody may have gone to sleep in between.
#[repr(transparent)]
pub struct EventCount {
    word: AtomicU32,
}

/// What the word held when a sleeper announced itself.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    word: u32,
    /// The fence was one: the second try sees what `notify` did not announce.
    sure: bool,
}

impl EventCount {
    /// With nobody asleep.
    pub const fn new() -> Self {
        EventCount {
            word: AtomicU32::new(0),
        }
    }

    /// Announces a sleeper; try again before you [`wait`](Self::wait).
    pub fn prepare(&self, mode: Mode) -> Ticket {
        // PAIRS: sleeper-announced
        let word = self.word.fetch_or(SLEEPERS, Ordering::SeqCst) | SLEEPERS;
        let sure = heavy_fence(mode).is_ok();
        Ticket { word, sure }
    }

    /// Sleeps until somebody notifies, one of `others` changes, or `until`.
    pub fn wait(&self, ticket: Ticket, others: &[(&AtomicU32, u32)], until: Option<Instant>) -> Waited {
        if ticket.sure {
            return self.sleep(ticket.word, others, until);
        }
        let nap = Instant::now() + UNSURE_NAP;
        if until.is_some_and(|until| until <= nap) {
            return self.sleep(ticket.word, others, until);
        }
        self.sleep(ticket.word, others, Some(nap));
        Waited::Woken
    }

    fn sleep(&self, word: u32, others: &[(&AtomicU32, u32)], until: Option<Instant>) -> Waited {
        if others.is_empty() {
            return futex_wait(&self.word, word, until);
        }
        let mut words = [(&self.word, word); FUTEX_WAIT_MANY_MAX];
        let count = others.len().min(FUTEX_WAIT_MANY_MAX - 1);
        words[1..=count].copy_from_slice(&others[..count]);
        futex_wait_many(&words[..=count], until)
    }

    /// The futex word and the value to sleep on, for one who sleeps on several event counts at once. Until the word has another
    /// value nobody has notified, and the announcement stands.
    pub fn word(&self, ticket: Ticket) -> (&AtomicU32, u32) {
        (&self.word, ticket.word)
    }

    /// Wakes one sleeper if there is any. Call after the change, which must be a `SeqCst` read-modify-write.
    #[inline]
    pub fn notify(&self) {
        full_fence_after_rmw();
        // PAIRS: sleeper-announced
        if self.word.load(Ordering::SeqCst) & SLEEPERS != 0 {
            self.notify_slow(1);
        }
    }

    /// As [`notify`](Self::notify), after a change that was a plain store, with at least `Release`.
    #[inline]
    pub fn notify_after_store(&self, mode: Mode) {
        light_fence(mode);
        // PAIRS: sleeper-announced
        if self.word.load(Ordering::SeqCst) & SLEEPERS != 0 {
            self.notify_slow(1);
        }
    }

    /// Wakes all sleepers.
    #[inline]
    pub fn notify_all(&self) {
        full_fence_after_rmw();
        // PAIRS: sleeper-announced
        if self.word.load(Ordering::SeqCst) & SLEEPERS != 0 {
            self.notify_slow(u32::MAX);
        }
    }

    #[cold]
    fn notify_slow(&self, count: u32) {
        // A new epoch: who has prepared but does not sleep yet will not.
        let word = self.word.fetch_add(STEP, Ordering::AcqRel).wrapping_add(STEP);
        if futex_wake(&self.word, count) > 0 {
            return;
        }
        // If it fails there is a newer epoch, whose maker does the same.
        let cleared = self
            .word
            .compare_exchange(word, word & !SLEEPERS, Ordering::AcqRel, Ordering::Relaxed);
        if cleared.is_ok() {
            futex_wake(&self.word, u32::MAX);
        }
    }

    /// After a sleep that did not end in taking what others may be asleep for: the wake may have been meant for one of them.
    /// `there` says whether there is anything for them.
    pub fn pass_on(&self, there: impl FnOnce() -> bool) {
        if there() {
            self.notify();
        }
    }
}

impl Default for EventCount {
    fn default() -> Self {
        EventCount::new()
    }
}

impl fmt::Debug for EventCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word.load(Ordering::Relaxed);
        f.debug_struct("EventCount")
            .field("epoch", &(word >> 1))
            .field("sleepers", &(word & SLEEPERS != 0))
            .finish()
    }
}
