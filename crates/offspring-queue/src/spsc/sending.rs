//! What a producer does, apart from its names.

// UNSAFETY: moves plain values into slots, where they are read as bits.
#![expect(unsafe_code, reason = "plain values are written into slots")]

use std::io;
use std::ptr;

use offspring_shm::family;
use offspring_sync::primitive::Ordering;

use super::end::{End, Failed};
use super::kind::PLAIN;
use crate::letter::Letter;
use crate::port::Limit;
use crate::raw::Place;
use crate::send_error::Unsent;
use crate::shape::is_plain;
use crate::{Message, Parcel};

/// How many plain messages are sent without a look whether anybody lives who could receive them.
const LOOK_EVERY: u32 = 16;

impl From<Failed> for Unsent {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::TimedOut => Self::Full,
            Failed::Disconnected => Self::Disconnected,
            Failed::Unusable(error) => Self::Unusable(error),
        }
    }
}

impl End {
    /// Sends a plain value if that takes no wait and no question.
    #[inline]
    pub(super) fn send_plain<T: Message>(&self, value: &T) -> bool {
        if const { is_plain::<T>() }
            && self.is_ready()
            && !self.is_over()
            && let Ok(slot) = self.ring().vacancy(self.at.get())
            && (!slot.is_multiple_of(LOOK_EVERY) || self.has_living_peer())
        {
            self.post_plain(slot, value);
            return true;
        }
        false
    }

    /// Sends a value of any kind.
    #[inline(never)]
    pub(super) fn send<T: Message>(&self, value: T, limit: Limit) -> Result<(), (T, Unsent)> {
        let sent = if const { is_plain::<T>() } {
            self.room(limit).map(|slot| self.post_plain(slot, &value))
        } else {
            // What finds no room, or nobody, need not be written at all.
            let room = match limit {
                Limit::Now => self.room(limit).map(drop),
                Limit::At(_) if self.is_over() => Err(Unsent::Disconnected),
                Limit::At(_) => Ok(()),
            };
            // The value's own code runs here, and not while a slot is being filled.
            room.and_then(|()| Letter::encode(self.core.arena(), &value).map_err(Unsent::Encode))
                .and_then(|mut letter| self.post_letter(&mut letter, limit))
        };
        sent.map_err(|why| (value, why))
    }

    pub(super) fn send_parcel<T: Message>(&self, parcel: Parcel<T>, limit: Limit) -> Result<(), (Parcel<T>, Unsent)> {
        if const { is_plain::<T>() } {
            // Such messages lie in their slots: there is nothing to hand over.
            return match parcel.decode() {
                Ok(value) => self.send(value, limit).map_err(|(_, why)| (parcel, why)),
                Err(error) => Err((parcel, Unsent::Unusable(error.into()))),
            };
        }
        let owner = match family::me() {
            Ok(owner) => owner,
            Err(error) => return Err((parcel, Unsent::Unusable(error))),
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
        self.post_letter(&mut letter, limit).map_err(|why| {
            let parcel = letter.into_parcel(arena);
            (parcel.expect("a letter that was not sent has its block"), why)
        })
    }

    /// Waits for a free slot, which is the caller's to fill and to [publish](Self::publish).
    pub(super) fn room(&self, limit: Limit) -> Result<u32, Unsent> {
        self.ready().map_err(Unsent::Unusable)?;
        // However much room there is, nobody will read it.
        if self.asks_whether_over(false) {
            return Err(Unsent::Disconnected);
        }
        Ok(self.wait(self.core.departures(), limit, || self.ring().vacancy(self.at.get()))?)
    }

    #[inline]
    pub(super) fn publish(&self) {
        self.at.set(self.ring().publish(self.at.get()));
    }

    #[inline]
    fn post_plain<T: Message>(&self, slot: u32, value: &T) {
        self.core.kind(slot).store(PLAIN, Ordering::Relaxed);
        // SAFETY: a plain `T` fits into the payload, at its alignment; the payload is the producer's alone until it is published.
        unsafe {
            self.core
                .payload(slot)
                .cast::<T>()
                .copy_from_nonoverlapping(ptr::NonNull::from(value), 1);
        };
        self.publish();
    }

    fn post_letter(&self, letter: &mut Letter, limit: Limit) -> Result<(), Unsent> {
        let slot = self.room(limit)?;
        letter.post(&self.core, slot);
        self.publish();
        Ok(())
    }

    /// Sends one after the other; gives how many were sent, and what stopped it.
    pub(super) fn send_many<T: Message>(&self, values: impl Iterator<Item = T>) -> (usize, Option<(T, Unsent)>) {
        let mut count = 0;
        for value in values {
            if let Err(failed) = self.send(value, Limit::FOREVER) {
                return (count, Some(failed));
            }
            count += 1;
        }
        (count, None)
    }
}
