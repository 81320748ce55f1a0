//! A bounded queue of one producer and one consumer, either of which may be killed at any instruction.
//!
//! A slot's one word says whose the slot is, so that nobody claims anything and there is no index that the two share:
//!
//! ```text
//! word of a slot    0:31 | lap:32 | full:1
//!
//!              publish (producer)              release (consumer)
//! EMPTY(l) ---------- store ---------> FULL(l) ---------- store ---------> EMPTY(l+1)
//! payload: the producer's              payload: the consumer's             payload: the producer's
//! ```
//!
//! **Each word has one writer at a time** (I1): an EMPTY one is changed by the producer alone, a FULL one by the consumer alone.
//! So the changes are stores, and the payload is copied as private memory is. **Positions are in the slots** (I2): those before
//! the tail were published once more often than those from the tail on, and those before the head were released once more
//! often. Each side keeps its own position to itself; who takes an end over finds it by bisection, and no word is left behind
//! that could be wrong.
//!
//! | killed | what the other finds | what becomes of the message |
//! |---|---|---|
//! | the producer, before it publishes | EMPTY(l): it is empty, and the producer gone | there is none; a block that it had put in goes with the ring |
//! | the producer, after that | FULL(l) | it is received |
//! | the consumer, before it releases | FULL(l): it is full, and the consumer gone | lost with the consumer; a block goes with its process, or with the ring |
//! | the consumer, after that | EMPTY(l+1) | it was received |
//!
//! Nobody repairs anything: each word is right after any of the steps.
//!
//! **Waking.** Either side changes a slot by a plain store and then looks whether the other sleeps, without a fence of its own: the
//! sleeper has all processors pass one first (see [`Mode::Asymmetric`]). One thread at most takes on each side, and others may watch
//! it; who leaves without taking passes on the wake that it may have got. Who waits sleeps on the side's bell and on the life of the
//! thread that uses the other side, which the kernel ends.

use std::time::Instant;

use offspring_sync::Tag;
use offspring_sync::primitive::{AtomicU64, Mode, Ordering, Waited, futex_wake};
use offspring_sync::raw::{EventCount, Lives, Naps, Spin};

use super::{Blocked, Ended, Place, Position};

const FULL: u64 = 1;

const fn empty(lap: u32) -> u64 {
    (lap as u64) << 1
}

const fn full(lap: u32) -> u64 {
    empty(lap) | FULL
}

const fn lap_of(word: u64) -> u32 {
    (word >> 1) as u32
}

/// The operations on such a queue; see the head of this file. Of a [`Place`] it uses the slots' states and the two bells.
#[derive(Debug)]
pub struct SpscRing<'a, P> {
    place: &'a P,
}

impl<'a, P: Place> SpscRing<'a, P> {
    /// The ring at `place`.
    #[inline]
    pub const fn new(place: &'a P) -> Self {
        Self { place }
    }

    /// The slot at the tail, if it is free: its payload is the producer's until it publishes.
    ///
    /// # Errors
    /// When the ring is full, or the slot is damaged.
    #[inline]
    pub fn vacancy(&self, tail: Position) -> Result<u32, Blocked> {
        // Acquire: what the consumer read comes before what the producer writes.
        // PAIRS: spsc-released
        let found = self.word(tail).load(Ordering::Acquire);
        if found == empty(tail.lap()) {
            Ok(tail.index())
        } else if found == full(tail.lap().wrapping_sub(1)) {
            Err(Blocked::Waiting)
        } else {
            Err(corrupted(tail.index(), found))
        }
    }

    /// Makes the slot at the tail a message and wakes the consumer; gives the next tail. Only after [`vacancy`](Self::vacancy).
    #[inline]
    pub fn publish(&self, tail: Position) -> Position {
        // PAIRS: spsc-published
        change(self.place, self.word(tail), full(tail.lap()), self.place.arrivals());
        tail.next(self.place.slots())
    }

    /// The slot at the head, if it is a message: its payload is the consumer's until it releases the slot.
    ///
    /// # Errors
    /// When the ring is empty, or the slot is damaged.
    #[inline]
    pub fn front(&self, head: Position) -> Result<u32, Blocked> {
        // PAIRS: spsc-published
        let found = self.word(head).load(Ordering::Acquire);
        if found == full(head.lap()) {
            Ok(head.index())
        } else if found == empty(head.lap()) {
            Err(Blocked::Waiting)
        } else {
            Err(corrupted(head.index(), found))
        }
    }

    /// Gives the slot at the head back to the producer and wakes it; gives the next head. Only after [`front`](Self::front).
    #[inline]
    pub fn release(&self, head: Position) -> Position {
        // PAIRS: spsc-released
        change(
            self.place,
            self.word(head),
            empty(head.lap().wrapping_add(1)),
            self.place.departures(),
        );
        head.next(self.place.slots())
    }

    /// Where the producer is.
    pub fn tail(&self) -> Position {
        self.boundary(|word| lap_of(word).wrapping_add((word & FULL) as u32))
    }

    /// Where the consumer is.
    pub fn head(&self) -> Position {
        self.boundary(lap_of)
    }

    /// How many messages there are between two positions. Exact while neither moves.
    pub fn len(&self, head: Position, tail: Position) -> usize {
        let slots = i64::from(self.place.slots());
        let laps = i64::from(tail.lap().wrapping_sub(head.lap()) as i32);
        let len = laps * slots + i64::from(tail.index()) - i64::from(head.index());
        len.clamp(0, slots) as usize
    }

    /// The first slot that has been through fewer rounds than slot 0; the one side changes what its own rounds are, the other
    /// side does not.
    fn boundary(&self, rounds: impl Fn(u64) -> u32) -> Position {
        let of = |index| rounds(self.place.state(index).load(Ordering::Acquire));
        let slots = self.place.slots();
        let first = of(0);
        let (mut low, mut high) = (1, slots);
        while low < high {
            let middle = low + (high - low) / 2;
            if of(middle) == first {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low >= slots {
            Position::new(first, 0)
        } else {
            Position::new(first.wrapping_sub(1), low)
        }
    }

    #[inline]
    fn word(&self, at: Position) -> &AtomicU64 {
        self.place.state(at.index())
    }
}

/// Changes a slot's word, by a plain store, and wakes who waits for that: who pays for the fence between the two is the place's
/// affair.
#[inline]
fn change<P: Place>(place: &P, word: &AtomicU64, value: u64, bell: &EventCount) {
    word.store(value, Ordering::Release); // PAIRS: spsc-published, spsc-released
    bell.notify_after_store(place.fences());
}

#[cold]
const fn corrupted(index: u32, word: u64) -> Blocked {
    Blocked::Corrupted { index, word }
}

/// One side's wait for the other.
#[derive(Debug)]
pub struct SpscWait<'a, L> {
    /// Who lives.
    pub lives: &'a L,
    /// Where to sleep.
    pub bell: &'a EventCount,
    /// How the other side orders its changes before its look at who sleeps.
    pub mode: Mode,
    /// When to give up.
    pub deadline: Option<Instant>,
    /// Whether to spin before the first sleep.
    pub spin: Spin,
}

impl<L: Lives> SpscWait<'_, L> {
    /// Repeats `attempt`, which only looks, until it succeeds, asleep in between.
    ///
    /// `peer` is the thread that uses the other side, if that is known. `over` is asked before the last attempt that precedes a
    /// sleep, with whether it is time for slow questions: that thread has ended, or a nap has. If that attempt fails too and it
    /// is over, the wait ends.
    ///
    /// # Errors
    /// When the wait ended otherwise.
    pub fn run<R>(
        mut self,
        mut attempt: impl FnMut() -> Result<R, Blocked>,
        peer: impl Fn() -> Option<Tag>,
        mut over: impl FnMut(bool) -> bool,
    ) -> Result<R, Ended<()>> {
        let mut naps = Naps::new(self.deadline);
        let mut slept = false;
        let mut overslept = false;
        let ended = loop {
            match attempt() {
                Ok(got) => {
                    self.spin.succeeded();
                    return Ok(got);
                }
                Err(Blocked::Corrupted { index, word }) => break Ended::Corrupted(index, word),
                Err(_) if self.spin.again() => continue,
                Err(_) => {}
            }
            let until = naps.until();
            let ticket = self.bell.prepare(self.mode);
            let peer = peer();
            let life = peer.and_then(|peer| self.lives.life(peer));
            let end = over(overslept || life.as_ref().is_some_and(|life| life.dead));
            match attempt() {
                Ok(got) => return Ok(got),
                Err(Blocked::Corrupted { index, word }) => break Ended::Corrupted(index, word),
                Err(_) if end => break Ended::Stopped(()),
                Err(_) => {}
            }
            let Some(until) = until else {
                break Ended::TimedOut;
            };
            slept = true;
            let waited = match (peer, life) {
                (Some(peer), Some(life)) if !life.dead => {
                    self.lives.asleep_for(peer);
                    let waited = self.bell.wait(ticket, &[(life.word, life.seen)], Some(until));
                    // PAIRS: life-ended
                    if life.word.load(Ordering::Acquire) != life.seen {
                        // The kernel woke one sleeper of the dead.
                        futex_wake(life.word, u32::MAX);
                    }
                    waited
                }
                _ => self.bell.wait(ticket, &[], Some(until)),
            };
            overslept = waited == Waited::TimedOut;
            if overslept
                && naps.ran_out()
                && let Some(peer) = peer
            {
                self.lives.inquire(peer);
            }
        };
        if slept {
            self.bell.pass_on(|| attempt().is_ok());
        }
        Err(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Slots<const N: usize> {
        words: [AtomicU64; N],
        bells: [EventCount; 2],
        none: AtomicU64,
    }

    impl<const N: usize> Slots<N> {
        /// A ring that has been gone round until just before the laps wrap.
        fn at(lap: u32) -> Self {
            Self {
                words: [const { AtomicU64::new(0) }; N].map(|_| AtomicU64::new(empty(lap))),
                bells: [EventCount::new(), EventCount::new()],
                none: AtomicU64::new(0),
            }
        }
    }

    impl<const N: usize> Place for Slots<N> {
        type Block = ();

        fn slots(&self) -> u32 {
            N as u32
        }
        fn state(&self, index: u32) -> &AtomicU64 {
            &self.words[index as usize]
        }
        fn kind(&self, _index: u32) -> &AtomicU64 {
            &self.none
        }
        fn returns(&self, _index: u32) -> &AtomicU64 {
            &self.none
        }
        fn tail_hint(&self) -> &AtomicU64 {
            &self.none
        }
        fn head_hint(&self) -> &AtomicU64 {
            &self.none
        }
        fn arrivals(&self) -> &EventCount {
            &self.bells[0]
        }
        fn fences(&self) -> Mode {
            Mode::Full
        }
        fn departures(&self) -> &EventCount {
            &self.bells[1]
        }
        fn rest(&self) -> Option<&EventCount> {
            None
        }
        fn has_blocks(&self) -> bool {
            false
        }
        fn withdraw(&self, _index: u32) -> Option<()> {
            None
        }
        fn free(&self, _block: ()) {}
        fn mark_astray(&self) {}
    }

    fn positions_are_found<const N: usize>(lap: u32) {
        let slots = Slots::<N>::at(lap);
        let ring = SpscRing::new(&slots);
        let (mut head, mut tail) = (ring.head(), ring.tail());
        assert_eq!((head, tail), (Position::new(lap, 0), Position::new(lap, 0)));
        // Every distance at every place, over some laps.
        for step in 0..N * (N + 2) * 4 {
            if step % (N + 2) < N && ring.vacancy(tail).is_ok() {
                tail = ring.publish(tail);
            } else if ring.front(head).is_ok() {
                head = ring.release(head);
            }
            assert_eq!((ring.head(), ring.tail()), (head, tail), "{slots:?}");
            let filled = slots
                .words
                .iter()
                .filter(|word| word.load(Ordering::Relaxed) & FULL != 0);
            let filled = filled.count();
            assert_eq!(ring.len(head, tail), filled);
            assert_eq!(ring.vacancy(tail).is_err(), filled == N);
            assert_eq!(ring.front(head).is_err(), filled == 0);
        }
    }

    #[test]
    fn positions_are_found_wherever_they_are() {
        for lap in [0, 5, u32::MAX - 1, u32::MAX] {
            positions_are_found::<1>(lap);
            positions_are_found::<2>(lap);
            positions_are_found::<3>(lap);
            positions_are_found::<8>(lap);
            positions_are_found::<13>(lap);
        }
    }

    #[test]
    fn a_word_that_cannot_be_is_found_by_both() {
        for word in [u64::MAX, 1 << 33, full(3), empty(2)] {
            let slots = Slots::<1>::at(7);
            slots.words[0].store(word, Ordering::Relaxed);
            let (ring, at) = (SpscRing::new(&slots), Position::new(7, 0));
            assert_eq!(ring.vacancy(at), Err(Blocked::Corrupted { index: 0, word }));
            assert_eq!(ring.front(at), Err(Blocked::Corrupted { index: 0, word }));
        }
    }
}
