//! What the two ends of a pair have in common: whose they are, where they stand, how they wait.

use std::cell::Cell;
use std::sync::Arc;
use std::{fmt, io};

use offspring_shm::family;
use offspring_sync::Tag;
use offspring_sync::primitive::{Ordering, monotonic_nanoseconds};
use offspring_sync::raw::EventCount;

use super::seat::{self, FRESH};
use super::travel::EndHandle;
use crate::core::{CLOSED, Core};
use crate::peers::Side;
use crate::port::Limit;
use crate::raw::{Blocked, Ended, Position, SpscRing};
use crate::shape::Shape;

/// How often one that only ever tries asks the system who lives.
const THOROUGH_EVERY: u64 = 50_000_000;

/// One end. Its cells make it a thing of one thread at a time.
pub(super) struct End {
    pub(super) core: Arc<Core>,
    pub(super) side: Side,
    /// The next message's place.
    pub(super) at: Cell<Position>,
    /// The word of the seat under which this copy was last good.
    seat: Cell<u64>,
    /// The thread that used it then.
    thread: Cell<Option<Tag>>,
    /// When this end last asked the system who lives.
    asked: Cell<u64>,
    /// A thread of the other side that has ended although its process lives.
    outlived: Cell<Option<Tag>>,
}

/// How a wait at an end came to nothing.
pub(super) enum Failed {
    /// There was nothing, or no room, in time.
    TimedOut,
    /// The other side is gone, or the pair closed.
    Disconnected,
    /// The slot holds a word that cannot be.
    Unusable(io::Error),
}

impl End {
    pub(super) fn new(core: Arc<Core>, side: Side) -> io::Result<Self> {
        core.join(side)?;
        Ok(Self {
            core,
            side,
            at: Cell::new(Position::from_word(0)),
            seat: Cell::new(FRESH),
            thread: Cell::new(None),
            asked: Cell::new(monotonic_nanoseconds()),
            outlived: Cell::new(None),
        })
    }

    /// The end that came in a message.
    pub(super) fn receive(
        handle: EndHandle,
        side: Side,
        shape: impl FnOnce(usize) -> io::Result<Shape>,
    ) -> io::Result<Self> {
        let core = Core::attach(handle.memory, shape)?;
        let end = Self::new(core, side)?;
        end.seat.set(end.core.receive(side, handle.seat)?);
        end.at.set(match side {
            Side::Senders => end.ring().tail(),
            Side::Receivers => end.ring().head(),
        });
        end.settle()?;
        Ok(end)
    }

    /// Notes that this end is being put into a message.
    pub(super) fn give(&self) -> io::Result<()> {
        self.settle()?;
        let from = self.core.give(self.side, self.seat.get())?;
        crate::transit::note(&self.core, self.side, from);
        Ok(())
    }

    /// Takes it out again.
    pub(super) fn take_back(&self) {
        if let Ok(me) = family::me() {
            self.core.take_back(self.side, me);
        }
    }

    /// The end as it stands in a message into which it was [given](Self::give).
    pub(super) fn handle(&self) -> EndHandle {
        EndHandle {
            memory: self.core.handle(),
            seat: seat::travelling(self.seat.get()),
        }
    }

    #[inline]
    pub(super) fn ring(&self) -> SpscRing<'_, Core> {
        SpscRing::new(&self.core)
    }

    /// Whether this thread may use the end, which it may if it could the last time and nothing has changed since.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        // A forked child's threads have other tags. Only this process takes its end out of USED.
        self.core.seat(self.side).load(Ordering::Relaxed) == self.seat.get()
            && self.core.known_me().is_some_and(|me| self.thread.get() == Some(me))
    }

    /// Makes sure that this thread may use the end.
    ///
    /// # Errors
    /// When another process has it.
    #[inline]
    pub(super) fn ready(&self) -> io::Result<()> {
        if self.is_ready() { Ok(()) } else { self.settle() }
    }

    #[cold]
    fn settle(&self) -> io::Result<()> {
        let me = self.core.me()?;
        self.seat.set(self.core.sit(self.side, self.seat.get())?);
        self.thread.set(Some(me));
        self.core.user(self.side).store(u64::from(me.bits()), Ordering::Relaxed);
        Ok(())
    }

    /// Whether the other side is gone, or the pair closed.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.core.over_bits() & (CLOSED | self.side.other().gone()) != 0
    }

    /// Ends the pair, if this process has the end.
    pub(super) fn close(&self) {
        if self.ready().is_ok() {
            self.core.close();
        }
    }

    /// How many messages there are to receive.
    pub(super) fn len(&self) -> usize {
        let ring = self.ring();
        // Where a copy stands that another process uses is of no interest.
        match (self.side, self.is_ready()) {
            (Side::Senders, true) => ring.len(ring.head(), self.at.get()),
            (Side::Receivers, true) => ring.len(self.at.get(), ring.tail()),
            (_, false) => ring.len(ring.head(), ring.tail()),
        }
    }

    /// Repeats `attempt` until it succeeds.
    pub(super) fn wait<R>(
        &self,
        bell: &EventCount,
        limit: Limit,
        mut attempt: impl FnMut() -> Result<R, Blocked>,
    ) -> Result<R, Failed> {
        let ended = match limit {
            Limit::Now => match attempt() {
                Ok(got) => return Ok(got),
                Err(Blocked::Corrupted { index, word }) => Ended::Corrupted(index, word),
                Err(_) if !self.asks_whether_over(self.is_time_to_ask()) => Ended::TimedOut,
                // Looked at again after the end was seen: what was sent before it is received.
                Err(_) => match attempt() {
                    Ok(got) => return Ok(got),
                    Err(_) => Ended::Stopped(()),
                },
            },
            Limit::At(deadline) => {
                let wait = self.core.lonely_wait(bell, deadline);
                let over = |thoroughly| {
                    self.asks_whether_over(thoroughly)
                        || thoroughly && deadline.is_none() && self.core.is_out_of_reach(self.side.other())
                };
                match wait.run(attempt, || self.peer(), over) {
                    Ok(got) => return Ok(got),
                    Err(ended) => ended,
                }
            }
        };
        Err(match ended {
            Ended::TimedOut => Failed::TimedOut,
            Ended::Stopped(()) => Failed::Disconnected,
            Ended::Corrupted(index, word) => Failed::Unusable(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "slot {index} of the pair holds {word:#x}, which is no state of a slot: its memory was overwritten"
                ),
            )),
        })
    }

    /// The thread that was last known to use the other side, unless it is known that its process does without it.
    #[inline]
    fn peer(&self) -> Option<Tag> {
        let user = self.core.user(self.side.other()).load(Ordering::Relaxed);
        Tag::from_bits(user as u32).filter(|&thread| self.outlived.get() != Some(thread))
    }

    /// Whether nothing is known of the death of the thread that uses the other side.
    #[inline]
    pub(super) fn has_living_peer(&self) -> bool {
        self.peer().is_none_or(|thread| !self.core.has_ended(thread))
    }

    /// As [`is_over`](Self::is_over), having asked the system who lives if that is worth the time.
    pub(super) fn asks_whether_over(&self, thoroughly: bool) -> bool {
        let dead = self.peer().filter(|&thread| self.core.has_ended(thread));
        if thoroughly || dead.is_some() {
            let held = self.core.look_for(self.side.other(), true);
            if held && dead.is_some() {
                self.outlived.set(dead);
            }
        }
        self.is_over()
    }

    fn is_time_to_ask(&self) -> bool {
        let now = monotonic_nanoseconds();
        let due = now.saturating_sub(self.asked.get()) >= THOROUGH_EVERY;
        if due {
            self.asked.set(now);
        }
        due
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.core.leave(self.side);
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::raw::Place;
    use crate::spsc;

    #[test]
    fn a_damaged_slot_is_an_error_in_words_and_nothing_hangs() {
        for word in [u64::MAX, 1 << 33, 2, 5, 0xdead_beef_0000_0000] {
            let (producer, consumer) = spsc::channel::<u64>(1).unwrap();
            producer.end.core.state(0).store(word, Ordering::SeqCst);
            let errors = [
                consumer.recv().unwrap_err().to_string(),
                consumer.poll(Duration::ZERO).unwrap_err().to_string(),
                producer.send(1).unwrap_err().to_string(),
                producer.try_send_bytes(&[1; 500]).unwrap_err().to_string(),
            ];
            assert!(errors.iter().all(|error| error.contains("overwritten")), "{errors:?}");
            assert!(producer.len() <= 1);
        }
    }

    #[test]
    fn a_message_whose_words_lie_is_an_error() {
        let (producer, consumer) = spsc::channel::<String>(1).unwrap();
        let core = &producer.end.core;
        for (kind, root) in [(u64::MAX, 0), (2, 1 << 50), (1 << 2 | 1, 0), (0, 0)] {
            producer.send("x".repeat(200)).unwrap();
            core.kind(0).store(kind, Ordering::SeqCst);
            core.payload_word(0, 1).store(root, Ordering::SeqCst);
            let error = match consumer.recv() {
                // What says that it is bytes stays, and is damaged as bytes.
                Err(crate::RecvError::Unusable(_)) => consumer.recv_bytes().unwrap_err(),
                received => received.unwrap_err(),
            };
            assert!(error.to_string().contains("damaged"), "{error}");
        }
        for (kind, len) in [
            (u64::MAX, 0),
            (u64::from(u32::MAX) << 2 | 2, u64::MAX),
            (u64::from(u32::MAX) << 2 | 2, 1 << 30),
        ] {
            producer.send_bytes(&[1; 300]).unwrap();
            core.kind(0).store(kind, Ordering::SeqCst);
            core.payload_word(0, 1).store(len, Ordering::SeqCst);
            let error = consumer.recv_bytes().unwrap_err();
            assert!(error.to_string().contains("damaged"), "{error}");
        }
        let (numbers, received) = spsc::channel::<u64>(1).unwrap();
        numbers.send(1).unwrap();
        numbers.end.core.kind(0).store(2, Ordering::SeqCst);
        assert!(received.recv().unwrap_err().to_string().contains("damaged"));
        numbers.send(2).unwrap();
        assert_eq!(received.recv().unwrap(), 2);
    }

    #[test]
    fn a_damaged_seat_is_an_error_in_words() {
        for seat in [u64::MAX, 1, 4, 7 << 32, 1 << 63 | 4] {
            let (producer, consumer) = spsc::channel::<u64>(1).unwrap();
            producer.send(1).unwrap();
            producer.end.core.seat(Side::Senders).store(seat, Ordering::SeqCst);
            assert!(
                producer.send(2).unwrap_err().to_string().contains("this end"),
                "{seat:#x}"
            );
            assert_eq!(consumer.recv().unwrap(), 1);
        }
    }
}
