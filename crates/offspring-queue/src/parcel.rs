// UNSAFETY: reads archived values through pointers into shared memory whose bytes no longer change.
#![expect(unsafe_code, reason = "archived values are read in place in shared memory")]

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::{fmt, mem};

use offspring_shm::{Arena, Block, OutOfMemory, Owner, family};
use rkyv::rancor::Source;
use rkyv::rancor::{self, Strategy};
use rkyv::ser::Serializer;
use rkyv::ser::allocator::Arena as Scratch;
use rkyv::ser::sharing::Share;
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::{Archive, Place, SerializeUnsized};

use crate::{DecodeError, EncodeError, Encoder, Message, Sink, Supply, decode, is_copied};

/// One encoded value and the block of the arena that holds it; the block is freed when the parcel is dropped.
///
/// A parcel is made by the process that encodes ([`Parcel::encode`]) or by one that takes over what another wrote
/// ([`Parcel::from_raw`]).
pub struct Parcel<T: ?Sized> {
    arena: &'static Arena,
    block: Block,
    root: u64,
    marker: PhantomData<fn() -> Box<T>>,
}

impl<T: Message> Parcel<T> {
    /// Writes `value` into a block of its own that belongs to `owner`.
    ///
    /// # Errors
    /// When the arena is full or the value's own serialisation fails; nothing is left behind.
    pub fn encode(arena: &'static Arena, owner: Owner, value: &T) -> Result<Self, EncodeError> {
        Self::encode_with(arena, owner, |encoder| {
            rkyv::api::serialize_using(value, encoder).map_err(EncodeError::Serialize)
        })
    }

    /// The value, read in place.
    ///
    /// # Errors
    /// When the parcel's offset lies outside the arena: somebody overwrote it.
    pub fn view(&self) -> Result<&T::Archived, DecodeError> {
        let at = self
            .arena
            .pointer(self.root, size_of::<T::Archived>())
            .map_err(DecodeError::OutOfBounds)?;
        let archived = aligned::<T>(at)?;
        // SAFETY: `root` is where this program's own image archived a `T`; the block is not written any more and
        // stays allocated as long as the parcel does.
        Ok(unsafe { archived.as_ref() })
    }

    /// Rebuilds the value.
    ///
    /// # Errors
    /// When the parcel lies outside the arena or the rebuilding fails.
    pub fn decode(&self) -> Result<T, DecodeError> {
        decode(self.view()?)
    }

    /// Validates every byte that the value reaches, as one does with bytes of unknown origin.
    ///
    /// # Errors
    /// When the bytes are no archived `T`.
    pub fn check(&self) -> Result<(), DecodeError> {
        let block = self
            .arena
            .pointer(self.block.offset, self.block.capacity)
            .map_err(DecodeError::OutOfBounds)?;
        // SAFETY: the block is committed, readable for `capacity` bytes and no longer written by anybody.
        let bytes = unsafe { NonNull::slice_from_raw_parts(block, self.block.capacity).as_ref() };
        let root = self
            .root
            .checked_sub(self.block.offset)
            .and_then(|at| usize::try_from(at).ok());
        rkyv::api::high::access_pos::<T::Archived, rancor::BoxedError>(bytes, root.unwrap_or(usize::MAX))
            .map(drop)
            .map_err(DecodeError::Deserialize)
    }
}

impl<T: Message> Parcel<[T]> {
    /// Writes `values` as one archived slice into a block of its own that belongs to `owner`.
    ///
    /// # Errors
    /// When the arena is full or a value's own serialisation fails; nothing is left behind.
    pub fn encode_slice(arena: &'static Arena, owner: Owner, values: &[T]) -> Result<Self, EncodeError> {
        Self::encode_with(arena, owner, |encoder| {
            values.serialize_unsized(encoder).map_err(EncodeError::Serialize)
        })
    }
}

impl<T: Message> Parcel<Vec<T>> {
    /// Makes a vector of `len` elements where its receiver will read it: `make` gives each of them, from the first to the last,
    /// and nothing is copied.
    ///
    /// For elements that travel as they are: numbers, and arrays of them. Others are refused by the compiler.
    ///
    /// ```
    /// use offspring_queue::{Parcel, Queue};
    ///
    /// let (sender, receiver) = Queue::<Vec<u32>>::new(4)?.split();
    /// sender.send_parcel(Parcel::from_fn(1_000_000, |n| n as u32)?)?;
    /// assert_eq!(receiver.recv_view()?[999_999], 999_999);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the arena is full, or the elements take more than 2 GiB; nothing is left behind.
    pub fn from_fn(len: usize, mut make: impl FnMut(usize) -> T) -> Result<Self, EncodeError> {
        const {
            assert!(
                is_copied::<T>(),
                "only elements that travel as they are can be made in place"
            );
        };
        let arena = family::arena().map_err(EncodeError::NoOwner)?;
        let owner = family::me().map_err(EncodeError::NoOwner)?;
        type Root<T> = ArchivedVec<<T as Archive>::Archived>;
        Self::encode_with(arena, owner, |encoder| {
            let at_root = len
                .checked_mul(size_of::<T>())
                .and_then(|bytes| bytes.checked_next_multiple_of(align_of::<Root<T>>()))
                .filter(|&bytes| i32::try_from(bytes).is_ok())
                .ok_or_else(|| EncodeError::Serialize(rancor::BoxedError::new(TooLong(len))))?;
            let align = align_of::<T>().max(align_of::<Root<T>>());
            let sink = &mut encoder.writer;
            // All at once: what grows later may move.
            let first = sink
                .reserve(at_root + size_of::<Root<T>>(), align)
                .map_err(EncodeError::Serialize)?;
            let elements = sink.address(first).cast::<T>();
            for index in 0..len {
                let element = make(index);
                // SAFETY: aligned, within the room for `len` elements, and this process's alone until the parcel is made.
                unsafe { elements.add(index).write(element) };
            }
            let root = first + at_root;
            let place = sink.address(root).cast::<Root<T>>();
            // SAFETY: room of this size and alignment, whose bytes are initialised as all of shared memory is; `root` is its
            // position in the region.
            let place = unsafe { Place::new_unchecked(root, place.as_ptr()) };
            ArchivedVec::resolve_from_len(len, VecResolver::from_pos(first), place);
            Ok(root)
        })
    }
}

impl<T: ?Sized> Parcel<T> {
    /// Takes over a parcel that was given away with [`into_raw`](Self::into_raw), here or in another process.
    ///
    /// # Safety
    /// `block` belongs to this process, holds an archived `T` at offset `root` of the arena that this program's
    /// image wrote, and nobody writes it any more.
    pub unsafe fn from_raw(arena: &'static Arena, block: Block, root: u64) -> Self {
        Self {
            arena,
            block,
            root,
            marker: PhantomData,
        }
    }

    /// Gives the block away: whoever has it now frees it.
    pub fn into_raw(self) -> (Block, u64) {
        let raw = (self.block, self.root);
        mem::forget(self);
        raw
    }

    /// The block, and the offset in the arena of the value in it.
    pub fn raw(&self) -> (Block, u64) {
        (self.block, self.root)
    }

    /// Forgets the type: what is left holds the block, and frees it when dropped.
    pub fn erase(self) -> Parcel<()> {
        let arena = self.arena;
        let (block, root) = self.into_raw();
        Parcel {
            arena,
            block,
            root,
            marker: PhantomData,
        }
    }

    /// Lets `write` encode a `T` and give its position, into a block that belongs to `owner`.
    ///
    /// # Errors
    /// Those of `write`, and when the arena is full; nothing is left behind.
    pub fn encode_with<E: From<EncodeError>>(
        arena: &'static Arena,
        owner: Owner,
        write: impl FnOnce(&mut Encoder<'_>) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let mut supply = OneBlock {
            arena,
            owner,
            block: None,
        };
        let mut scratch = Scratch::new();
        let mut serializer = Serializer::new(Sink::new(&mut supply), scratch.acquire(), Share::new());
        let written = write(Strategy::wrap(&mut serializer)).and_then(|root| {
            if serializer.writer.block().is_none() {
                // A value of no bytes still has a place.
                let reserved = serializer.writer.reserve(1, 1);
                reserved.map_err(EncodeError::Serialize)?;
            }
            Ok(root)
        });
        let mut sink = serializer.into_writer();
        let root = match written {
            Ok(root) => sink.offset(root),
            Err(error) => {
                let exhausted = sink.take_exhausted();
                return Err(exhausted.map_or(error, |exhausted| EncodeError::OutOfMemory(exhausted).into()));
            }
        };
        let block = supply.block.take().expect("a block was reserved");
        Ok(Self {
            arena,
            block,
            root,
            marker: PhantomData,
        })
    }
}

impl Parcel<()> {
    /// The value of a parcel whose type was forgotten, read in place.
    ///
    /// # Errors
    /// When the parcel lies outside the arena.
    ///
    /// # Safety
    /// The parcel holds an archived `T`.
    pub unsafe fn view_as<T: Archive>(&self) -> Result<&T::Archived, DecodeError> {
        let at = self
            .arena
            .pointer(self.root, size_of::<T::Archived>())
            .map_err(DecodeError::OutOfBounds)?;
        let archived = aligned::<T>(at)?;
        // SAFETY: the caller vouches for the type; the rest as in `view`.
        Ok(unsafe { archived.as_ref() })
    }
}

/// The place of an archived `T`, if one can lie there.
fn aligned<T: Archive>(at: NonNull<u8>) -> Result<NonNull<T::Archived>, DecodeError> {
    let at = at.cast::<T::Archived>();
    if at.is_aligned() {
        Ok(at)
    } else {
        Err(DecodeError::damaged("its root is not aligned"))
    }
}

impl<T: ?Sized> Drop for Parcel<T> {
    fn drop(&mut self) {
        // SAFETY: the block is this parcel's own, and views of it borrow the parcel.
        unsafe { self.arena.free(self.block) };
    }
}

impl<T: ?Sized> fmt::Debug for Parcel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel")
            .field("block", &self.block)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// Supplies one block that moves or grows until the value fits, and frees it if nobody takes it: the value's own code may
/// panic while it is written.
struct OneBlock {
    arena: &'static Arena,
    owner: Owner,
    block: Option<Block>,
}

impl Supply for OneBlock {
    fn supply(&mut self, len: usize, full: Option<(Block, usize)>) -> Result<(Block, NonNull<u8>), OutOfMemory> {
        let grown = full.and_then(|(block, len)| self.arena.grow_in_place(block, len));
        let block = match (grown, full) {
            (Some(block), _) => block,
            // Doubling keeps the copies linear; where there is no room for twice as much, what is needed must do.
            (None, Some((old, _))) => match self.arena.allocate(self.owner, len.max(old.capacity * 2)) {
                Ok(block) => block,
                Err(_) => self.arena.allocate(self.owner, len)?,
            },
            (None, None) => self.arena.allocate(self.owner, len)?,
        };
        self.block = Some(block);
        let address = self
            .arena
            .pointer(block.offset, block.capacity)
            .expect("a fresh block lies in the arena");
        Ok((block, address))
    }

    fn retire(&mut self, block: Block) {
        // SAFETY: the sink has moved what it held, and does not use it any more.
        unsafe { self.arena.free(block) };
    }
}

impl Drop for OneBlock {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            // SAFETY: the block was got for this value alone, and the sink that wrote it is gone.
            unsafe { self.arena.free(block) };
        }
    }
}

#[derive(Debug)]
struct TooLong(usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements are more than a message of 2 GiB holds", self.0)
    }
}

impl std::error::Error for TooLong {}
