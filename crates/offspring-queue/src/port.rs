//! What senders and receivers do, apart from their names.

// UNSAFETY: moves plain values into slots and out of them as bytes.
#![expect(unsafe_code, reason = "plain values are copied as bytes")]

mod look;

pub(crate) use look::Goal;

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offspring_shm::family;
use offspring_sync::primitive::{AtomicU32, AtomicU64, Mode, Ordering, monotonic_nanoseconds};
use offspring_sync::raw::{LONGEST_PAUSE, Spin};
use offspring_sync::{Membership, Tag};

use crate::core::{CLOSED, Core};
use crate::letter::{self, Copied, Letter};
use crate::peers::Side;
use crate::raw::{Blocked, Ended, Place, Position, Ring, Taken};
use crate::recv_error::Unreceived;
use crate::send_error::Unsent;
use crate::shape::is_plain;
use crate::{Message, Parcel, View};

type Kinds<'a> = Ring<'a, Core, Membership>;

/// How long an operation may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Now,
    At(Option<Instant>),
}

impl Limit {
    pub(crate) const FOREVER: Self = Self::At(None);

    /// In so long from now; for ever, if that is later than time goes.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self::At(Instant::now().checked_add(timeout))
    }
}

/// How often one that only ever tries asks the system who lives.
const THOROUGH_EVERY: u64 = 50_000_000;

/// A handle's own view of a queue: where it was last.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) core: Arc<Core>,
    tail: AtomicU64,
    head: AtomicU64,
    /// When this handle last asked the system who lives.
    asked: AtomicU64,
    /// How long to wait before the first look again, as a power of two.
    pause: AtomicU32,
}

impl Port {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let port = Self {
            core,
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            asked: AtomicU64::new(monotonic_nanoseconds()),
            pause: AtomicU32::new(0),
        };
        port.refresh();
        port
    }

    /// A second view of the same queue, at the same place.
    pub(crate) fn duplicate(&self) -> Self {
        let copy = |word: &AtomicU64| AtomicU64::new(word.load(Ordering::Relaxed));
        Self {
            core: Arc::clone(&self.core),
            tail: copy(&self.tail),
            head: copy(&self.head),
            asked: copy(&self.asked),
            pause: AtomicU32::new(0),
        }
    }

    fn refresh(&self) {
        self.core.ring().refresh(&self.tail, &self.head);
    }

    // --------------------------------------------------------------------------------------------------------- sending

    #[inline]
    pub(crate) fn send<T: Message>(&self, value: T, limit: Limit) -> Result<(), (T, Unsent)> {
        if const { is_plain::<T>() }
            && self.core.over_bits() & (CLOSED | Side::Receivers.gone()) == 0
            && let Some(me) = self.core.known_me()
            && self
                .core
                .ring()
                .send_next(&self.tail, me, |slot| self.write(slot, &value))
        {
            return Ok(());
        }
        self.send_slow(value, limit)
    }

    #[inline(never)]
    fn send_slow<T: Message>(&self, value: T, limit: Limit) -> Result<(), (T, Unsent)> {
        let me = match self.ready_to_send() {
            Ok(me) => me,
            Err(why) => return Err((value, why)),
        };
        let ring = self.core.ring();
        let sent = if const { is_plain::<T>() } {
            self.wait_for_room(limit, || ring.send(&self.tail, me, |slot| self.write(slot, &value)))
        } else {
            // What finds no room need not be written at all.
            let room = match limit {
                Limit::Now if !ring.has_room(&self.tail) => self.wait_for_room(limit, || Err(Blocked::Waiting)),
                _ => Ok(()),
            };
            room.and_then(|()| Letter::encode(self.core.arena(), &value).map_err(Unsent::Encode))
                .and_then(|mut letter| self.post(&mut letter, me, limit))
        };
        sent.map_err(|why| (value, why))
    }

    pub(crate) fn send_parcel<T: Message>(&self, parcel: Parcel<T>, limit: Limit) -> Result<(), (Parcel<T>, Unsent)> {
        if const { is_plain::<T>() } {
            // Such messages lie in their slots: there is nothing to hand over.
            return match parcel.decode() {
                Ok(value) => self.send(value, limit).map_err(|(_, why)| (parcel, why)),
                Err(error) => Err((parcel, Unsent::Unusable(error.into()))),
            };
        }
        let (me, owner) = match self
            .ready_to_send()
            .and_then(|me| Ok((me, family::me().map_err(Unsent::Unusable)?)))
        {
            Ok(both) => both,
            Err(why) => return Err((parcel, why)),
        };
        let arena = self.core.arena();
        if arena.owner_of(parcel.raw().0.offset) != Some(owner) {
            let error = io::Error::new(
                io::ErrorKind::InvalidInput,
                "the parcel's block is not this process's to give",
            );
            return Err((parcel, Unsent::Unusable(error)));
        }
        let mut letter = Letter::from_parcel(parcel, owner);
        self.post(&mut letter, me, limit).map_err(|why| {
            (
                letter
                    .into_parcel(arena)
                    .expect("a letter that was not sent has its block"),
                why,
            )
        })
    }

    fn post(&self, letter: &mut Letter, me: Tag, limit: Limit) -> Result<(), Unsent> {
        let ring = self.core.ring();
        self.wait_for_room(limit, || {
            ring.send(&self.tail, me, |slot| letter.post(&self.core, slot))
        })
    }

    /// Sends one after the other; gives how many were sent, and what stopped it.
    pub(crate) fn send_many<T: Message>(&self, values: impl Iterator<Item = T>) -> (usize, Option<(T, Unsent)>) {
        let mut count = 0;
        for value in values {
            if let Err(failed) = self.send(value, Limit::FOREVER) {
                return (count, Some(failed));
            }
            count += 1;
        }
        (count, None)
    }

    #[inline]
    fn write<T: Message>(&self, slot: u32, value: &T) {
        // SAFETY: a plain `T` is bytes without padding.
        unsafe { self.core.store(slot, ptr::from_ref(value).cast(), size_of::<T>()) };
    }

    fn ready_to_send(&self) -> Result<Tag, Unsent> {
        if self.core.over_bits() & (CLOSED | Side::Receivers.gone()) != 0 {
            return Err(Unsent::Disconnected);
        }
        self.core.me().map_err(Unsent::Unusable)
    }

    fn wait_for_room(&self, limit: Limit, mut attempt: impl FnMut() -> Result<(), Blocked>) -> Result<(), Unsent> {
        let over = |thoroughly| {
            if thoroughly {
                self.refresh();
                self.core.look_for(Side::Receivers, true);
            }
            (self.core.over_bits() & (CLOSED | Side::Receivers.gone()) != 0).then_some(())
        };
        match limit {
            Limit::Now => match attempt() {
                Ok(()) => Ok(()),
                Err(Blocked::Corrupted { index, word }) => Err(Unsent::Unusable(corrupted(index, word))),
                Err(_) => Err(if over(self.time_to_ask()).is_some() {
                    Unsent::Disconnected
                } else {
                    Unsent::Full
                }),
            },
            Limit::At(deadline) => {
                let waiting = self
                    .core
                    .waiting(self.core.departures(), Mode::Full, deadline, false, self.spin());
                let more = || self.core.ring().has_room(&self.tail);
                let sent = waiting.run(attempt, more, over);
                self.pace(sent.is_ok() && more());
                sent.map_err(|end| match end {
                    Ended::TimedOut => Unsent::Full,
                    Ended::Stopped(()) => Unsent::Disconnected,
                    Ended::Corrupted(index, word) => Unsent::Unusable(corrupted(index, word)),
                })
            }
        }
    }

    // ------------------------------------------------------------------------------------------------------- receiving

    #[inline]
    pub(crate) fn recv<T: Message, E: From<Unreceived>>(&self, limit: Limit) -> Result<T, E> {
        if const { is_plain::<T>() } {
            let mut value = MaybeUninit::<T>::uninit();
            if self
                .core
                .ring()
                .take_next(&self.head, |slot| self.read(slot, &mut value))
            {
                // SAFETY: the bytes of a plain `T` that another process of this image wrote, copied while nobody changed them.
                return Ok(unsafe { value.assume_init() });
            }
        }
        self.recv_slow(limit)
    }

    #[inline]
    fn read<T: Message>(&self, slot: u32, value: &mut MaybeUninit<T>) {
        // SAFETY: room for a `T`.
        unsafe { self.core.load(slot, value.as_mut_ptr().cast(), size_of::<T>()) };
    }

    #[inline(never)]
    fn recv_slow<T: Message, E: From<Unreceived>>(&self, limit: Limit) -> Result<T, E> {
        let me = self.core.me().map_err(Unreceived::Unusable)?;
        let ring = self.core.ring();
        if const { is_plain::<T>() } {
            let mut value = MaybeUninit::<T>::uninit();
            let take = || {
                ring.take(&self.head, me, |slot| {
                    self.read(slot, &mut value);
                    Kinds::inline_kind(0)
                })
            };
            self.wait_for_message(limit, take)?;
            // SAFETY: as in `recv`.
            return Ok(unsafe { value.assume_init() });
        }
        let mut copied = Copied::new();
        let take = || {
            ring.take(&self.head, me, |slot| {
                let kind = copied.copy(&self.core, slot);
                // As with a block, the slot is kept for a while.
                if copied.holds_handles() {
                    Kinds::block_kind(0)
                } else {
                    kind
                }
            })
        };
        let value = match self.wait_for_message(limit, take)? {
            Taken::Copied => copied.decode(),
            Taken::Leased(at) if copied.holds_handles() => View::<T>::of(self, at, me)?.decode(),
            Taken::Leased(at) => letter::open::<T>(&self.core, ring.finish(at, me), copied.block_root())
                .and_then(|parcel| parcel.decode()),
        };
        Ok(value.map_err(Unreceived::Decode)?)
    }

    /// Receives into a block of this process, where it is read in place.
    pub(crate) fn lease(&self, limit: Limit) -> Result<(Position, Tag), Unreceived> {
        let me = self.core.me().map_err(Unreceived::Unusable)?;
        let at = self.wait_for_message(limit, || self.core.ring().lease(&self.head, me))?;
        Ok((at, me))
    }

    fn wait_for_message<R>(
        &self,
        limit: Limit,
        mut attempt: impl FnMut() -> Result<R, Blocked>,
    ) -> Result<R, Unreceived> {
        let over = |thoroughly| {
            if thoroughly {
                self.refresh();
                self.core.look_for(Side::Senders, true);
            }
            (self.core.over_bits() & (CLOSED | Side::Senders.gone()) != 0).then_some(())
        };
        match limit {
            Limit::Now => {
                let mut ended = None;
                loop {
                    match attempt() {
                        Ok(got) => return Ok(got),
                        Err(Blocked::Corrupted { index, word }) => {
                            return Err(Unreceived::Unusable(corrupted(index, word)));
                        }
                        Err(Blocked::Behind(_)) => return Err(Unreceived::Empty),
                        // Looked at again after the end was seen: what was sent before it is received.
                        Err(Blocked::Waiting) if ended.is_some() => return Err(Unreceived::Disconnected),
                        Err(Blocked::Waiting) => {
                            ended = over(self.time_to_ask());
                            if ended.is_none() {
                                return Err(Unreceived::Empty);
                            }
                        }
                    }
                }
            }
            Limit::At(deadline) => {
                let waiting = self.core.waiting(
                    self.core.arrivals(),
                    self.core.sleep_mode(),
                    deadline,
                    true,
                    self.spin(),
                );
                let more = || self.core.ring().has_message(&self.head);
                let received = waiting.run(attempt, more, over);
                self.pace(received.is_ok() && more());
                received.map_err(|end| match end {
                    Ended::TimedOut => Unreceived::Empty,
                    Ended::Stopped(()) => Unreceived::Disconnected,
                    Ended::Corrupted(index, word) => Unreceived::Unusable(corrupted(index, word)),
                })
            }
        }
    }

    /// Waits until nothing is in the queue, neither to be received nor in somebody's hands.
    pub(crate) fn wait_for_rest(&self, limit: Limit) -> Result<(), Unreceived> {
        let me = self.core.me().map_err(Unreceived::Unusable)?;
        let ring = self.core.ring();
        let Some(bell) = self.core.rest() else {
            return Err(Unreceived::Unusable(io::Error::from(io::ErrorKind::Unsupported)));
        };
        let deadline = match limit {
            Limit::Now => Some(Instant::now()),
            Limit::At(deadline) => deadline,
        };
        let deserted = |thoroughly| {
            if thoroughly {
                self.refresh();
                self.core.look_for(Side::Receivers, true);
            }
            (self.core.over_bits() & Side::Receivers.gone() != 0).then_some(())
        };
        let waiting = self.core.waiting(bell, Mode::Full, deadline, true, Spin::new());
        let rest = waiting.run(|| ring.is_at_rest(&self.head, me), || true, deserted);
        if rest.is_ok() {
            // Rest is not taken: all who wait for it wait for the same, and each wakes the next.
            bell.pass_on(|| true);
        }
        rest.map_err(|end| match end {
            Ended::TimedOut => Unreceived::Empty,
            Ended::Stopped(()) => Unreceived::Disconnected,
            Ended::Corrupted(index, word) => Unreceived::Unusable(corrupted(index, word)),
        })
    }

    fn spin(&self) -> Spin {
        Spin::after(self.pause.load(Ordering::Relaxed))
    }

    /// Sets the pace of the next wait. Where a wait has led to more than one message (or room for more), the other side is busy:
    /// the longer one leaves it alone, the more there will be, and the fewer lines of memory go to and fro for each.
    fn pace(&self, crowd: bool) {
        let pause = self.pause.load(Ordering::Relaxed);
        let next = if crowd {
            (pause + 1).min(LONGEST_PAUSE)
        } else {
            pause.saturating_sub(1)
        };
        self.pause.store(next, Ordering::Relaxed);
    }

    fn time_to_ask(&self) -> bool {
        let now = monotonic_nanoseconds();
        let due = now.saturating_sub(self.asked.load(Ordering::Relaxed)) >= THOROUGH_EVERY;
        if due {
            self.asked.store(now, Ordering::Relaxed);
        }
        due
    }

    pub(crate) fn len(&self) -> usize {
        self.core.ring().len(&self.head)
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.core.ring().has_message(&self.head)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.core.shape().capacity as usize
    }

    pub(crate) fn is_full(&self) -> bool {
        !self.core.ring().has_room(&self.tail)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.core.over_bits() & CLOSED != 0
    }
}

#[cold]
fn corrupted(index: u32, word: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("slot {index} of the queue holds {word:#x}, which is no state of a slot: its memory was overwritten"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Queue;

    #[test]
    fn a_damaged_slot_is_an_error_in_words_and_nothing_hangs() {
        // Laps that cannot be, owners that never were, states that name owners and must not.
        for word in [u64::MAX, 3, 1, 1 << 40 | 2, 1 << 31 | 2, 0xdead_beef_0000_0000, 5 << 32] {
            let queue = Queue::<u64>::new(2).unwrap();
            queue.send(7).unwrap();
            queue.sender.port.core.state(0).store(word, Ordering::SeqCst);
            let timeout = Duration::from_millis(1);
            let received = queue.recv_timeout(timeout).map_err(|error| error.to_string());
            let sent = queue
                .send_many([1, 2].into_iter().take(1))
                .map_err(|error| error.to_string());
            let room = queue.send_timeout(3, timeout).map_err(|error| error.to_string());
            assert!(
                received.is_err()
                    && [received.err(), sent.err(), room.err()]
                        .iter()
                        .flatten()
                        .any(|words| { words.contains("overwritten") || words.contains("until the time ran out") }),
                "{word:#x}"
            );
        }
    }

    #[test]
    fn a_message_whose_words_lie_is_an_error() {
        let queue = Queue::<String>::new(2).unwrap();
        for (kind, root) in [(u64::MAX, 0), (2, 1 << 50), (1 << 2 | 1, 0), (0, 0)] {
            queue.send("x".repeat(200)).unwrap();
            let core = &queue.sender.port.core;
            let slot = (0..2)
                .find(|&slot| core.state(slot).load(Ordering::SeqCst) & 3 == 2)
                .unwrap();
            core.kind(slot).store(kind, Ordering::SeqCst);
            core.payload_word(slot, 1).store(root, Ordering::SeqCst);
            let error = queue.recv().unwrap_err().to_string();
            assert!(error.contains("damaged"), "{error}");
        }
    }

    #[test]
    fn laps_that_go_round_in_circles_come_to_an_end() {
        let queue = Queue::<u64>::new(3).unwrap();
        let core = &queue.sender.port.core;
        // Each slot seems to be ahead of the one before.
        for slot in 0..3 {
            let lap = 1 + u64::from(slot) * 0x5555_5555;
            core.state(slot).store(lap << 32, Ordering::SeqCst);
        }
        let error = queue.try_recv().unwrap_err().to_string();
        assert!(error.contains("overwritten"), "{error}");
        let error = queue.try_send(7).unwrap_err().to_string();
        assert!(error.contains("overwritten"), "{error}");
        assert!(queue.len() <= 3 && !queue.is_full() && !queue.is_empty());
    }
}
