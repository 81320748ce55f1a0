//! Raw bytes through a pair: copied once on the way in and once on the way out.

// UNSAFETY: copies bytes into slots and blocks, and out of them into the caller's memory.
#![expect(unsafe_code, reason = "bytes are copied to and from shared memory")]

use std::io;
use std::mem::MaybeUninit;

use offspring_shm::{Block, family};
use offspring_sync::primitive::Ordering;

use super::RecvBytesError;
use super::end::End;
use super::kind::{self, BYTES_IN_BLOCK};
use crate::port::Limit;
use crate::raw::Place;
use crate::recv_error::Unreceived;
use crate::send_error::Unsent;
use crate::{DecodeError, EncodeError, Parcel};

impl End {
    pub(super) fn send_bytes(&self, bytes: &[u8], limit: Limit) -> Result<(), Unsent> {
        if bytes.len() <= self.core.shape().inline {
            let slot = self.room(limit)?;
            // SAFETY: the payload has room for `inline` bytes, and is the producer's alone until it is published.
            unsafe {
                self.core
                    .payload(slot)
                    .as_ptr()
                    .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            };
            self.core
                .kind(slot)
                .store(kind::inline_bytes(bytes.len()), Ordering::Relaxed);
            self.publish();
            return Ok(());
        }
        match limit {
            // What finds no room, or nobody, need not be written at all.
            Limit::Now => self.room(limit).map(drop)?,
            Limit::At(_) if self.is_over() => return Err(Unsent::Disconnected),
            Limit::At(_) => {}
        }
        let arena = self.core.arena();
        let me = family::me().map_err(Unsent::Unusable)?;
        let block = arena
            .allocate(me, bytes.len())
            .map_err(|full| Unsent::Encode(EncodeError::OutOfMemory(full)))?;
        // SAFETY: the block was just allocated; the parcel frees it unless it is sent, and is not read as a value.
        let parcel = unsafe { Parcel::<()>::from_raw(arena, block, block.offset) };
        let to = arena.pointer(block.offset, bytes.len()).map_err(Unsent::Unusable)?;
        // SAFETY: the block is this process's own and has room.
        unsafe { to.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        let slot = self.room(limit)?;
        let (block, _) = parcel.into_raw();
        self.core.payload_word(slot, 0).store(block.offset, Ordering::Relaxed);
        self.core
            .payload_word(slot, 1)
            .store(bytes.len() as u64, Ordering::Relaxed);
        // The offset first: it is by the offset that the pair's memory frees the block if nobody comes for it.
        self.core.kind(slot).store(BYTES_IN_BLOCK, Ordering::Release);
        // SAFETY: nobody uses the block until it is received.
        unsafe { self.core.put_in_transit(block, me) };
        self.publish();
        Ok(())
    }

    pub(super) fn recv_bytes(&self, limit: Limit) -> Result<Vec<u8>, Unreceived> {
        let (slot, kind, len) = self.front_bytes(limit)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| {
            let why = format!("no memory for the {len} bytes of the next message");
            Unreceived::Unusable(io::Error::new(io::ErrorKind::OutOfMemory, why))
        })?;
        self.take_bytes(slot, kind, &mut bytes.spare_capacity_mut()[..len])
            .map_err(Unreceived::Decode)?;
        // SAFETY: `take_bytes` wrote the first `len` bytes.
        unsafe { bytes.set_len(len) };
        Ok(bytes)
    }

    pub(super) fn recv_bytes_into(&self, into: &mut [u8], limit: Limit) -> Result<usize, RecvBytesError> {
        let (slot, kind, len) = self.front_bytes(limit)?;
        let Some(into) = into.get_mut(..len) else {
            return Err(RecvBytesError::TooShort { needed: len });
        };
        // SAFETY: as many bytes, of which `take_bytes` makes none uninitialised.
        let into = unsafe { std::slice::from_raw_parts_mut(into.as_mut_ptr().cast::<MaybeUninit<u8>>(), len) };
        self.take_bytes(slot, kind, into).map_err(RecvBytesError::Damaged)?;
        Ok(len)
    }

    /// Waits for a message, which must be bytes, and gives its slot, kind and length; it stays there.
    fn front_bytes(&self, limit: Limit) -> Result<(u32, u64, usize), Unreceived> {
        let slot = self.front(limit)?;
        let kind = self.core.kind(slot).load(Ordering::Relaxed);
        if !kind::is_bytes(kind) {
            return Err(Unreceived::Unusable(io::Error::new(
                io::ErrorKind::InvalidData,
                "the next message is a value, not raw bytes: receive it as a value",
            )));
        }
        let (len, most) = if kind::is_block(kind) {
            let len = self.core.payload_word(slot, 1).load(Ordering::Relaxed);
            (usize::try_from(len).unwrap_or(usize::MAX), self.core.arena().capacity())
        } else {
            (kind::inline_len(kind), self.core.shape().inline)
        };
        if len > most {
            self.discard(slot, kind);
            return Err(Unreceived::Decode(DecodeError::damaged("its length is not possible")));
        }
        Ok((slot, kind, len))
    }

    /// Takes the message that [`front_bytes`](Self::front_bytes) found, whose length is that of `into`.
    fn take_bytes(&self, slot: u32, kind: u64, into: &mut [MaybeUninit<u8>]) -> Result<(), DecodeError> {
        if !kind::is_block(kind) {
            assert!(into.len() <= self.core.shape().inline);
            // SAFETY: the payload has that many bytes, which the producer wrote and which do not change until the slot is
            // released; private memory does not overlap it.
            unsafe {
                into.as_mut_ptr()
                    .cast::<u8>()
                    .copy_from_nonoverlapping(self.core.payload(slot).as_ptr(), into.len());
            };
            self.release();
            return Ok(());
        }
        let block: Option<Block> = self.core.withdraw(slot);
        self.release();
        let block = block.ok_or_else(|| DecodeError::damaged("the block that it names is not in the pair"))?;
        // SAFETY: the block came out of the pair into this process's hands; the parcel frees it, and is not read as a value.
        let _free = unsafe { Parcel::<()>::from_raw(self.core.arena(), block, block.offset) };
        if into.len() > block.capacity {
            return Err(DecodeError::damaged("it is longer than its block"));
        }
        let from = self
            .core
            .arena()
            .pointer(block.offset, into.len())
            .map_err(DecodeError::OutOfBounds)?;
        // SAFETY: the block is this process's own and has that many bytes, which its sender wrote.
        unsafe {
            into.as_mut_ptr()
                .cast::<u8>()
                .copy_from_nonoverlapping(from.as_ptr(), into.len());
        };
        Ok(())
    }

    /// Throws the message at the front away.
    pub(super) fn discard(&self, slot: u32, kind: u64) {
        let block = kind::is_block(kind).then(|| self.core.withdraw(slot)).flatten();
        self.release();
        if let Some(block) = block {
            self.core.free(block);
        }
    }
}
