//! A message on its way into a slot or out of one.

// UNSAFETY: encodes into a buffer through a raw pointer, and reads archived values that this program's image wrote.
#![expect(unsafe_code, reason = "archived values are written and read through raw memory")]

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use offspring_shm::{Arena, Block, OutOfMemory, Owner, family};
use offspring_sync::primitive::Ordering;
use rkyv::rancor::{BoxedError, Strategy};
use rkyv::ser::sharing::Share;
use rkyv::ser::{Positional, Serializer};
use rkyv::util::with_arena;

use crate::core::Core;
use crate::raw::{Place, Ring};
use crate::{DecodeError, EncodeError, Message, Parcel, Sink, Supply, decode, transit};

/// The bytes of a flexible message in its slot.
const ROOM: usize = 112;

/// In the kind of a slot: the message holds ends of queues.
const HANDLES: u64 = 1 << 63;

/// Aligned as the payload of a slot is.
#[repr(C, align(16))]
pub(crate) struct Buffer([MaybeUninit<u8>; ROOM]);

impl Buffer {
    pub(crate) const fn new() -> Self {
        Self([MaybeUninit::uninit(); ROOM])
    }
}

/// An encoded message, before it is sent.
pub(crate) struct Letter {
    buffer: Buffer,
    contents: Contents,
    passes: transit::Journal,
}

enum Contents {
    Inline { len: usize, root: usize },
    Block { block: Block, root: u64, me: Owner },
    Sent,
}

impl Letter {
    /// Encodes a value: into the letter itself if it is small, else into a block.
    pub(crate) fn encode<T: Message>(arena: &'static Arena, value: &T) -> Result<Self, EncodeError> {
        let mut letter = Self {
            buffer: Buffer::new(),
            contents: Contents::Sent,
            passes: transit::Journal::open(),
        };
        let mut supply = Growing {
            arena,
            buffer: NonNull::from(&mut letter.buffer.0).cast(),
            me: family::me().map_err(EncodeError::NoOwner)?,
        };
        let me = supply.me;
        let (root, end, block, exhausted) = with_arena(|scratch| {
            let mut serializer = Serializer::new(Sink::new(&mut supply), scratch.acquire(), Share::new());
            let written = rkyv::api::serialize_using(value, Strategy::<_, BoxedError>::wrap(&mut serializer));
            let mut sink = serializer.into_writer();
            let block = sink.block();
            let root = written.map(|root| (root, block.map(|_| sink.offset(root))));
            (root, sink.pos(), block, sink.take_exhausted())
        });
        letter.passes.close();
        match (root, block) {
            (Ok((root, _)), None) => letter.contents = Contents::Inline { len: 0, root },
            (Ok((root, _)), Some(block)) if block.offset == 0 => letter.contents = Contents::Inline { len: end, root },
            (Ok((_, offset)), Some(block)) => {
                letter.contents = Contents::Block {
                    block,
                    root: offset.unwrap_or(block.offset),
                    me,
                };
            }
            (Err(error), block) => {
                if let Some(block) = block.filter(|block| block.offset != 0) {
                    // SAFETY: the sink got the block for this value alone, and the sink is gone.
                    unsafe { arena.free(block) };
                }
                return Err(exhausted.map_or(EncodeError::Serialize(error), EncodeError::OutOfMemory));
            }
        }
        Ok(letter)
    }

    /// A letter whose contents are in a block already.
    pub(crate) fn from_parcel<T: Message>(parcel: Parcel<T>, me: Owner) -> Self {
        let (block, root) = parcel.into_raw();
        Self {
            buffer: Buffer::new(),
            contents: Contents::Block { block, root, me },
            passes: transit::Journal::empty(),
        }
    }

    /// Gives the parcel back that it was made of.
    pub(crate) fn into_parcel<T: Message>(mut self, arena: &'static Arena) -> Option<Parcel<T>> {
        match std::mem::replace(&mut self.contents, Contents::Sent) {
            // SAFETY: the block holds a `T` and is this letter's; it was not sent.
            Contents::Block { block, root, .. } => Some(unsafe { Parcel::from_raw(arena, block, root) }),
            _ => None,
        }
    }

    /// Writes the message into a slot that the caller has claimed. From here on it is the queue's.
    pub(crate) fn post(&mut self, core: &Core, index: u32) {
        type Kinds<'a> = Ring<'a, Core, offspring_sync::Membership>;
        let handles = if self.passes.is_empty() { 0 } else { HANDLES };
        self.passes.commit();
        match std::mem::replace(&mut self.contents, Contents::Sent) {
            Contents::Inline { len, root } => {
                // SAFETY: the first `len` bytes of the buffer were written, padding included: rkyv writes it as zeros.
                unsafe { core.store(index, self.buffer.0.as_ptr().cast(), len) };
                let kind = Kinds::inline_kind((len as u64) << 32 | root as u64);
                core.kind(index).store(kind | handles, Ordering::Relaxed);
            }
            Contents::Block { block, root, me } => {
                core.payload_word(index, 0).store(block.offset, Ordering::Relaxed);
                core.payload_word(index, 1).store(root, Ordering::Relaxed);
                // The offset first: who finds this kind after a death finds the offset too.
                core.kind(index)
                    .store(Kinds::block_kind(0) | handles, Ordering::Release);
                // SAFETY: the letter was the block's only user, and is done with it.
                unsafe { core.put_in_transit(block, me) };
            }
            Contents::Sent => {}
        }
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        if let Contents::Block { block, .. } = self.contents
            && let Ok(arena) = family::arena()
        {
            // SAFETY: the letter was not sent: the block is its own.
            unsafe { arena.free(block) };
        }
    }
}

/// What a receiver has copied out of a slot.
pub(crate) struct Copied {
    buffer: Buffer,
    kind: u64,
}

impl Copied {
    pub(crate) const fn new() -> Self {
        Self {
            buffer: Buffer::new(),
            kind: 0,
        }
    }

    /// Copies a slot, which may be changing: then what was copied is thrown away.
    pub(crate) fn copy(&mut self, core: &Core, index: u32) -> u64 {
        self.kind = core.kind(index).load(Ordering::Relaxed);
        let len = if Ring::<Core, offspring_sync::Membership>::is_block(self.kind) {
            16
        } else {
            inline_len(self.kind).min(ROOM)
        };
        // SAFETY: `len` bytes fit into the buffer.
        unsafe { core.load(index, self.buffer.0.as_mut_ptr().cast(), len) };
        self.kind
    }

    /// Whether the message holds ends of queues. Until it is decoded they are its sender's, so that it may not be lost with a
    /// receiver that dies before: it is decoded first, and taken out of the queue then.
    pub(crate) fn holds_handles(&self) -> bool {
        self.kind & HANDLES != 0
    }

    /// Where in the arena the root of a message in a block lies.
    pub(crate) fn block_root(&self) -> u64 {
        // SAFETY: bytes 8 to 15 of the buffer, which were copied: all 16 bytes of a message in a block are.
        u64::from_ne_bytes(unsafe { self.buffer.0.as_ptr().add(8).cast::<[u8; 8]>().read() })
    }

    /// Rebuilds the value of an inline message.
    pub(crate) fn decode<T: Message>(&self) -> Result<T, DecodeError> {
        let root = inline_root::<T>(self.kind)?;
        // SAFETY: the root lies in the part of the buffer that the message fills, aligned as the slot's payload and the
        // buffer both are; the message was complete when it was copied, and this program's image wrote it.
        let archived = unsafe { &*self.buffer.0.as_ptr().add(root).cast::<T::Archived>() };
        decode::<T>(archived)
    }
}

/// How many bytes of a slot's payload an inline message fills.
fn inline_len(kind: u64) -> usize {
    ((kind & !HANDLES) >> 34) as usize
}

/// Where in a slot's payload the root of an inline message lies.
pub(crate) fn inline_root<T: Message>(kind: u64) -> Result<usize, DecodeError> {
    let len = inline_len(kind);
    let root = (kind >> 2 & u64::from(u32::MAX)) as usize;
    let end = root.saturating_add(size_of::<T::Archived>());
    if len <= ROOM && end <= len.max(root) && root <= ROOM && root.is_multiple_of(align_of::<T::Archived>()) {
        Ok(root)
    } else {
        Err(DecodeError::damaged(
            "its length and place in the slot do not fit its type",
        ))
    }
}

/// The parcel of a block that was received.
pub(crate) fn open<T: Message>(core: &Core, block: Option<Block>, root: u64) -> Result<Parcel<T>, DecodeError> {
    let block = block.ok_or_else(|| DecodeError::damaged("the block that it names is not in the queue"))?;
    // SAFETY: the block came out of the queue into this process's hands, and this program's image wrote a `T` at its root.
    let parcel = unsafe { Parcel::<T>::from_raw(core.arena(), block, root) };
    check_root::<T>(block, root)?;
    Ok(parcel)
}

/// Whether a `T` fits at `root` of a block.
fn check_root<T: Message>(block: Block, root: u64) -> Result<(), DecodeError> {
    let within = root.checked_sub(block.offset).and_then(|at| usize::try_from(at).ok());
    let fits = within.is_some_and(|at| {
        at.saturating_add(size_of::<T::Archived>()) <= block.capacity && at.is_multiple_of(align_of::<T::Archived>())
    });
    if fits {
        Ok(())
    } else {
        Err(DecodeError::damaged("its root does not lie in its block"))
    }
}

/// Supplies the letter's own buffer, then a block.
struct Growing {
    arena: &'static Arena,
    buffer: NonNull<u8>,
    me: Owner,
}

impl Supply for Growing {
    fn supply(&mut self, len: usize, full: Option<(Block, usize)>) -> Result<(Block, NonNull<u8>), OutOfMemory> {
        if full.is_none() && len <= ROOM {
            let block = Block {
                offset: 0,
                capacity: ROOM,
            };
            return Ok((block, self.buffer));
        }
        let me = self.me;
        let old = full.filter(|(block, _)| block.offset != 0);
        let grown = old.and_then(|(block, len)| self.arena.grow_in_place(block, len));
        let block = match (grown, old) {
            (Some(block), _) => block,
            // Doubling keeps the copies linear; where there is no room for twice as much, what is needed must do.
            (None, Some((old, _))) => match self.arena.allocate(me, len.max(old.capacity * 2)) {
                Ok(block) => block,
                Err(_) => self.arena.allocate(me, len)?,
            },
            (None, None) => self.arena.allocate(me, len)?,
        };
        let address = self
            .arena
            .pointer(block.offset, block.capacity)
            .expect("a fresh block lies in the arena");
        Ok((block, address))
    }

    fn retire(&mut self, block: Block) {
        if block.offset != 0 {
            // SAFETY: the sink has moved what it held, and does not use it any more.
            unsafe { self.arena.free(block) };
        }
    }
}
