//! The handle of a membership table.

// UNSAFETY: the user vouches for the memory that a table is made in.
#![expect(unsafe_code, reason = "the user vouches for the memory of a table")]

use std::any::Any;
use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock, TryLockError, Weak};
use std::time::{Duration, Instant};

use offspring_shm::{Arena, family};

use super::current;
use super::table::{self, Member, Table};
use crate::primitive::Ordering;
use crate::raw::Lives;
use crate::tag::Tag;

/// The threads that may use a set of locks, so that each can tell which of the others are dead.
///
/// A table in shared memory with one record for every thread that has touched a lock of this set. Threads enter it by
/// themselves at their first lock and leave it when they end; if they are killed instead, the kernel marks their record.
/// Locks remember which membership they belong to, not where it lies.
///
/// Most programs never see one: the family's membership lies in the family's arena and is used by default. A program that shares
/// memory with strangers makes its own beside the locks, in any mapping.
///
/// ```
/// use std::ptr::NonNull;
/// use std::sync::Arc;
/// use offspring_sync::{Membership, Mutex};
///
/// # #[repr(align(128))] struct Memory(std::cell::UnsafeCell<[u8; 65536]>);
/// # unsafe impl Sync for Memory {}
/// // Stands for a mapping that several processes share.
/// let memory = Arc::new(Memory(std::cell::UnsafeCell::new([0; 65536])));
/// let base = NonNull::new(memory.0.get().cast::<u8>()).unwrap();
///
/// // SAFETY: nobody else uses the memory, and the Arc keeps it alive.
/// let membership = unsafe { Membership::init_at(base, 65536, 100, memory) }?;
/// let mutex = Mutex::new_in(&membership, 7);
/// assert_eq!(*mutex.lock()?, 7);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Membership(Arc<Table>);

/// The memberships of this process, by id. Weak: a table whose handles and registered threads are gone is unmapped.
static ATTACHED: Mutex<Vec<Weak<Table>>> = Mutex::new(Vec::new());

static FAMILY: OnceLock<Membership> = OnceLock::new();

/// Where the arena's roots name the family's table.
const FAMILY_ROOT: usize = 0;

/// One less than there could be: with header and record 0 the table fills a block of 512 KiB to the last byte.
const FAMILY_MEMBERS: usize = Tag::MAX_INDEX - 1;
const FAMILY_BYTES: usize = table::bytes_for(FAMILY_MEMBERS);

impl Membership {
    /// The alignment that a table's memory must have.
    pub const ALIGN: usize = table::ALIGN;

    /// The most members a table can have.
    pub const MAX_MEMBERS: usize = Tag::MAX_INDEX;

    /// How many bytes a table of `members` takes.
    pub const fn bytes_for(members: usize) -> usize {
        table::bytes_for(members)
    }

    /// The membership of the family, in the family's arena; made by whoever needs it first.
    ///
    /// # Errors
    ///
    /// There is no arena and none can be made, or it has no room.
    pub fn family() -> io::Result<Membership> {
        if let Some(family) = FAMILY.get() {
            return Ok(family.clone());
        }
        let arena = family::arena()?;
        let root = &arena.roots()[FAMILY_ROOT];
        // PAIRS: family-membership
        let offset = match root.load(Ordering::Acquire) {
            0 => make_family(arena)?,
            offset => offset,
        };
        let memory = arena.pointer(offset, FAMILY_BYTES)?;
        // SAFETY: the arena stays mapped for the rest of the process, and the block at this offset was made into a table by
        // `make_family` and is never freed.
        let family = unsafe { Membership::attach_at(memory, FAMILY_BYTES, Arc::new(()))? };
        Ok(FAMILY.get_or_init(|| family).clone())
    }

    /// Makes a table for up to `members` threads in the `len` bytes at `memory`, whatever they held before.
    ///
    /// `keep` is dropped when the last handle and the last registered thread of this process are gone: put the mapping there.
    ///
    /// # Errors
    ///
    /// Too few bytes, a bad alignment, too many members, or a libc without robust mutexes.
    ///
    /// # Safety
    ///
    /// The memory is good for reading and writing until `keep` is dropped, and nobody uses it before this returns.
    pub unsafe fn init_at(
        memory: NonNull<u8>,
        len: usize,
        members: usize,
        keep: Arc<dyn Any + Send + Sync>,
    ) -> io::Result<Membership> {
        // SAFETY: as the caller promises.
        let table = Arc::new(unsafe { Table::init(memory, len, members, keep)? });
        attached_list()?.push(Arc::downgrade(&table));
        Ok(Membership(table))
    }

    /// Uses the table that another process made in the `len` bytes at `memory`.
    ///
    /// A process that attaches the same table twice gets the first one again, and keeps that mapping.
    ///
    /// # Errors
    ///
    /// There is no table, or one that cannot be trusted: the message says what is wrong.
    ///
    /// # Safety
    ///
    /// The memory is good for reading and writing until `keep` is dropped, and everybody who writes there goes through this
    /// crate.
    pub unsafe fn attach_at(
        memory: NonNull<u8>,
        len: usize,
        keep: Arc<dyn Any + Send + Sync>,
    ) -> io::Result<Membership> {
        // SAFETY: as the caller promises.
        let table = unsafe { Table::attach(memory, len, keep)? };
        let mut attached = attached_list()?;
        if let Some(known) = find(&mut attached, table.id()) {
            return Ok(Membership(known));
        }
        let table = Arc::new(table);
        attached.push(Arc::downgrade(&table));
        Ok(Membership(table))
    }

    /// This table's number, which the locks carry.
    pub fn id(&self) -> u64 {
        self.0.id()
    }

    /// How many threads can be members at once.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// The calling thread's tag; registers it at the first call.
    ///
    /// # Errors
    ///
    /// All places are taken; the thread is ending; the process is a raw clone of a registered thread.
    #[inline]
    pub fn me(&self) -> io::Result<Tag> {
        match self.current() {
            Some(me) => Ok(me),
            None => current::join(&self.0),
        }
    }

    /// The calling thread's tag if it is a member already.
    #[inline]
    pub fn current(&self) -> Option<Tag> {
        current::cached(self.0.id()).map(|me| me.tag)
    }

    /// Whether the thread behind `tag` has ended, however it did; `None` if no such tag was ever given out.
    ///
    /// A `true` is final, and everything the dead thread wrote is visible to the caller.
    pub fn is_dead(&self, tag: Tag) -> Option<bool> {
        self.0.life(tag).map(|life| life.dead)
    }

    /// Who is behind `tag`, also for a while after it died; `None` when its record has been given to somebody else.
    pub fn member(&self, tag: Tag) -> Option<Member> {
        self.0.member(tag)
    }

    /// The members that are alive at this moment.
    pub fn members(&self) -> Vec<Tag> {
        self.0.living().collect()
    }

    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.0
    }
}

impl Lives for Membership {
    fn life(&self, tag: Tag) -> Option<crate::raw::Life<'_>> {
        self.0.life(tag)
    }

    fn inquire(&self, tag: Tag) -> bool {
        self.0.inquire(tag)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes the family's table and publishes it, unless somebody else is faster; returns where it is.
fn make_family(arena: &Arena) -> io::Result<u64> {
    // The table must outlive the process that happens to make it, so it belongs to nobody's child: to a tag of the arena that is
    // never given to a process, and so never swept.
    let keeper = arena.reserve_child(None)?;
    let block = arena.allocate(keeper, FAMILY_BYTES)?;
    let memory = arena.pointer(block.offset, FAMILY_BYTES)?;
    // SAFETY: the block was allocated just now for nobody else, and the arena stays mapped.
    unsafe { Table::init(memory, FAMILY_BYTES, FAMILY_MEMBERS, Arc::new(()))? };
    // PAIRS: family-membership
    let root = &arena.roots()[FAMILY_ROOT];
    match root.compare_exchange(0, block.offset, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(block.offset),
        Err(theirs) => {
            // SAFETY: no process ever had this tag, and nobody has seen the block.
            unsafe { family::release(keeper)? };
            Ok(theirs)
        }
    }
}

/// The attached table with this id.
pub(crate) fn attached(id: u64) -> io::Result<Option<Arc<Table>>> {
    if let Some(family) = FAMILY.get()
        && family.id() == id
    {
        return Ok(Some(Arc::clone(&family.0)));
    }
    let mut attached = attached_list()?;
    Ok(find(&mut attached, id))
}

fn find(attached: &mut Vec<Weak<Table>>, id: u64) -> Option<Arc<Table>> {
    attached.retain(|table| table.strong_count() > 0);
    attached.iter().filter_map(Weak::upgrade).find(|table| table.id() == id)
}

/// The list, locked. Not for ever: in a child that was forked while another thread of its parent held it, it stays locked.
fn attached_list() -> io::Result<std::sync::MutexGuard<'static, Vec<Weak<Table>>>> {
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        match ATTACHED.try_lock() {
            Ok(list) => return Ok(list),
            Err(TryLockError::Poisoned(list)) => return Ok(list.into_inner()),
            Err(TryLockError::WouldBlock) if Instant::now() < limit => std::thread::yield_now(),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the list of memberships is locked: was this process forked while another thread used it?",
                ));
            }
        }
    }
}
