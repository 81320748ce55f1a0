// UNSAFETY: reads and writes the block of a value that is being made, and frees it.
#![expect(unsafe_code, reason = "a new value is written into its block")]

use std::any::TypeId;
use std::hash::{Hash, Hasher};
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use super::record::Record;
use super::{outside, registry};
use crate::{Arena, Block, Handle, Owner, ShmSafe, family, fork_guard};

/// A handle to a value in this process, counted in its registry.
pub(super) struct Hold {
    arena: &'static Arena,
    number: usize,
    address: NonNull<u8>,
    len: usize,
}

/// A block that is being filled; freed when it is dropped before it was published.
pub(super) struct Draft {
    arena: &'static Arena,
    me: Owner,
    block: Block,
    address: NonNull<u8>,
    len: usize,
}

impl Draft {
    /// Room for `len` values of `T`.
    pub(super) fn new<T: ShmSafe>(len: usize) -> io::Result<Self> {
        const {
            assert!(
                !std::mem::needs_drop::<T>(),
                "a shared value is freed without running its destructor"
            );
        };
        let align = align_of::<T>();
        if align > fork_guard::page_size() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a type that is aligned to {align} bytes cannot be shared: a page is smaller"),
            ));
        }
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{len} elements are more than any memory has"),
            )
        })?;
        let (arena, me) = (family::arena()?, family::me()?);
        // A block is aligned to its size up to a page.
        let block = arena.allocate(me, bytes.max(align))?;
        match arena.pointer(block.offset, block.capacity) {
            Ok(address) => Ok(Self {
                arena,
                me,
                block,
                address,
                len,
            }),
            Err(error) => {
                // SAFETY: the block was just allocated and nobody knows of it.
                unsafe { arena.free(block) };
                Err(error)
            }
        }
    }

    /// The first element; aligned, with room for all of them, and this process's alone.
    pub(super) fn elements<T>(&self) -> NonNull<T> {
        self.address.cast()
    }

    /// Shares what was filled in.
    pub(super) fn publish(self, layout: u64) -> io::Result<Hold> {
        let record = registry::publish(|| Record::publish(self.arena, self.me, self.block, self.len, layout))?;
        // The block is the record's now.
        let draft = ManuallyDrop::new(self);
        Ok(Hold {
            arena: draft.arena,
            number: record.number(),
            address: draft.address,
            len: draft.len,
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // SAFETY: the block is this process's and nobody else knows of it.
        unsafe { self.arena.free(self.block) };
    }
}

impl Hold {
    pub(super) fn attach<T: ShmSafe>(handle: &Handle, layout: u64) -> io::Result<Self> {
        outside::check()?;
        let (arena, me) = (family::arena()?, family::me()?);
        let record = registry::attach(arena, me, handle)?;
        // From here on the drop of `hold` takes the count back.
        let mut hold = Self {
            arena,
            number: record.number(),
            address: NonNull::dangling(),
            len: 0,
        };
        let (offset, len, known) = record.contents();
        let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        if known != layout {
            return refuse("the handle belongs to a shared value of another type");
        }
        if len != handle.len {
            return refuse("the handle's length is not that of the shared value");
        }
        let bytes = usize::try_from(len)
            .ok()
            .and_then(|len| len.checked_mul(size_of::<T>()));
        let Some(bytes) = bytes else {
            return refuse("the shared value's length is garbage");
        };
        hold.address = arena.pointer(offset, bytes)?;
        if !hold.address.cast::<T>().is_aligned() {
            return refuse("the shared value's address is garbage");
        }
        hold.len = len as usize;
        Ok(hold)
    }

    pub(super) fn elements<T>(&self) -> NonNull<T> {
        self.address.cast()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn take_in(&self, block: Block, from: Owner) -> bool {
        self.record()
            .and_then(Record::tag)
            .is_some_and(|tag| self.arena.hand_over(block.offset, from.into(), tag))
    }

    pub(super) fn hand_out(&self, offset: u64, to: Owner) -> Option<Block> {
        // Its own block stays where it is.
        let record = self.record().filter(|record| record.contents().0 != offset)?;
        self.arena.hand_out(offset, record.tag()?, to.into())
    }

    pub(super) fn set_ledger(&self, first: u32, stride: u32, count: usize) {
        if let Some(record) = self.record() {
            record.set_ledger(first, stride, count as u64);
        }
    }

    pub(super) fn mark_astray(&self) {
        if let Some(record) = self.record() {
            record.mark_astray();
        }
    }

    fn record(&self) -> Option<Record<'static>> {
        Record::at(self.arena, self.number)
    }

    pub(super) fn to_handle(&self) -> Handle {
        outside::meet();
        match Record::at(self.arena, self.number) {
            Some(record) => record.handle(),
            None => Handle {
                offset: 0,
                id: 0,
                len: 0,
            },
        }
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        registry::duplicate(self.number);
        Self { ..*self }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        registry::detach(self.arena, self.number);
    }
}

// SAFETY: an address in shared memory is the same in all threads; what they may do there, `ShmSafe` types decide.
unsafe impl Send for Hold {}
// SAFETY: as above.
unsafe impl Sync for Hold {}

/// A hash of a type and of the kind of value made of it; all processes of a family run the same program.
pub(super) fn layout_of<T: ShmSafe>(kind: u8) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    (TypeId::of::<T>(), size_of::<T>(), align_of::<T>(), kind).hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a: gives the same in every process, unlike the standard hasher, which is seeded.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
