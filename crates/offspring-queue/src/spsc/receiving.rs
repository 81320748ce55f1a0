//! What a consumer does, apart from its names.

// UNSAFETY: reads plain values out of slots.
#![expect(unsafe_code, reason = "plain values are read from slots")]

use std::io;

use offspring_sync::primitive::Ordering;

use super::end::{End, Failed};
use super::kind::{self, PLAIN};
use crate::letter::{self, Copied};
use crate::port::Limit;
use crate::raw::Place;
use crate::recv_error::Unreceived;
use crate::shape::is_plain;
use crate::{DecodeError, Message};

impl From<Failed> for Unreceived {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::TimedOut => Self::Empty,
            Failed::Disconnected => Self::Disconnected,
            Failed::Unusable(error) => Self::Unusable(error),
        }
    }
}

impl End {
    /// Receives a plain value if it is there and takes no question.
    #[inline]
    pub(super) fn recv_plain<T: Message>(&self) -> Option<T> {
        if const { is_plain::<T>() }
            && self.is_ready()
            && let Ok(slot) = self.ring().front(self.at.get())
            && self.core.kind(slot).load(Ordering::Relaxed) == PLAIN
        {
            return Some(self.take_plain(slot));
        }
        None
    }

    /// Receives a value of any kind.
    #[inline(never)]
    pub(super) fn recv<T: Message>(&self, limit: Limit) -> Result<T, Unreceived> {
        let slot = self.front(limit)?;
        let kind = self.core.kind(slot).load(Ordering::Relaxed);
        if kind::is_bytes(kind) {
            return Err(Unreceived::Unusable(io::Error::new(
                io::ErrorKind::InvalidData,
                "the next message is raw bytes: receive it as bytes",
            )));
        }
        if const { is_plain::<T>() } {
            if kind == PLAIN {
                return Ok(self.take_plain(slot));
            }
            self.discard(slot, kind);
            return Err(Unreceived::Decode(DecodeError::damaged(
                "its slot says that it is of another kind",
            )));
        }
        let mut copied = Copied::new();
        copied.copy(&self.core, slot);
        let block = if kind::is_block(kind) {
            Some(self.core.withdraw(slot))
        } else {
            None
        };
        // The value's own code runs after the slot was given back.
        self.release();
        match block {
            None => copied.decode(),
            Some(block) => letter::open::<T>(&self.core, block, copied.block_root()).and_then(|parcel| parcel.decode()),
        }
        .map_err(Unreceived::Decode)
    }

    /// Waits for a message, which stays in its slot until it is [released](Self::release).
    pub(super) fn front(&self, limit: Limit) -> Result<u32, Unreceived> {
        self.ready().map_err(Unreceived::Unusable)?;
        Ok(self.wait(self.core.arrivals(), limit, || self.ring().front(self.at.get()))?)
    }

    #[inline]
    pub(super) fn release(&self) {
        self.at.set(self.ring().release(self.at.get()));
    }

    /// Takes the plain value at the front.
    #[inline]
    fn take_plain<T: Message>(&self, slot: u32) -> T {
        // SAFETY: the payload of a plain message, which the producer wrote as a `T` of this program's image, and which is the
        // consumer's alone until the slot is released. A plain `T` owns nothing.
        let value = unsafe { self.core.payload(slot).cast::<T>().read() };
        self.release();
        value
    }

    /// Whether there is something to receive, or will never be anything.
    pub(super) fn poll(&self, limit: Limit) -> io::Result<bool> {
        match self.front(limit) {
            Ok(_) | Err(Unreceived::Disconnected) => Ok(true),
            Err(Unreceived::Empty) => Ok(false),
            Err(Unreceived::Decode(error)) => Err(error.into()),
            Err(Unreceived::Unusable(error)) => Err(error),
        }
    }
}
