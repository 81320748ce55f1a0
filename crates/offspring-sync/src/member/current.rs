//! Which tag the calling thread has, and how it comes and goes.
//!
//! The answer must cost next to nothing, as every lock asks for it, and it must be wrong in no forked child: a child has its
//! parent's memory but not its parent's tokens. So the thread-local answer bears an epoch, and counts only while one word of the
//! process says the same. That word lies in a page that the kernel wipes in every child, however it was forked
//! (`MADV_WIPEONFORK`).

// UNSAFETY: has a page wiped on fork, hangs a thread's registrations on a pthread key, and reads them through a raw pointer.
#![expect(unsafe_code, reason = "MADV_WIPEONFORK, and a pthread key with a destructor")]

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use super::membership;
use super::table::Table;
use super::token;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, monotonic_nanoseconds};
use crate::raw::Lives;
use crate::tag::Tag;

/// A page of the program's own, with nothing else in it.
#[repr(C, align(4096))]
struct Page {
    /// A number that no process had before in this memory: 0 until a thread registers, and again in a child. Odd otherwise.
    epoch: AtomicU32,
}

static PAGE: Page = Page {
    epoch: AtomicU32::new(0),
};

/// No process has this epoch.
const NO_EPOCH: u32 = 2;

/// One thread's answer. Const and without a destructor, so that reading it takes no call.
struct Current {
    /// Which table `tag` and `table` belong to; 0 for none.
    id: Cell<u64>,
    /// The tag's bits, or 0.
    tag: Cell<u32>,
    /// The process's epoch when this was written.
    epoch: Cell<u32>,
    table: Cell<*const Table>,
    /// Null before the first registration, [`ENDED`] after the last.
    registrations: Cell<*mut Registrations>,
}

/// Stands for the registrations of a thread that has left them all.
const ENDED: *mut Registrations = ptr::without_provenance_mut(align_of::<Registrations>());

std::thread_local! {
    static CURRENT: Current = const {
        Current {
            id: Cell::new(0),
            tag: Cell::new(0),
            epoch: Cell::new(NO_EPOCH),
            table: Cell::new(ptr::null()),
            registrations: Cell::new(ptr::null_mut()),
        }
    };
}

/// The calling thread as a member of one table. Good until the call that asked for it returns.
#[derive(Clone, Copy)]
pub(crate) struct Me<'a> {
    pub(crate) tag: Tag,
    epoch: u32,
    /// Not a reference: `Option<Me>` would test it for null.
    table: *const Table,
    of: PhantomData<&'a Table>,
}

impl<'a> Me<'a> {
    #[inline]
    pub(crate) fn table(self) -> &'a Table {
        // SAFETY: set together with a tag from a table that `Registrations` keeps until the thread ends; a `Me` does not outlive the
        // operation that asked for it, and none of those ends the thread.
        unsafe { &*self.table }
    }

    /// What a guard keeps of it.
    #[inline]
    pub(crate) fn claim(self) -> Claim {
        Claim {
            tag: self.tag,
            epoch: self.epoch,
        }
    }
}

/// A tag, and the epoch in which a guard was made under it.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) tag: Tag,
    epoch: u32,
}

impl Claim {
    /// Whether the calling thread is the one that made it, and not a copy of that in a forked child. (Guards are not `Send`: it
    /// cannot be another thread.)
    #[inline]
    pub(crate) fn is_mine(self) -> bool {
        PAGE.epoch.load(Ordering::Relaxed) == self.epoch
    }
}

/// The calling thread's tag in the table `id`, if it was used last.
#[inline]
pub(crate) fn cached<'a>(id: u64) -> Option<Me<'a>> {
    CURRENT.with(|current| {
        let epoch = current.epoch.get();
        if current.id.get() != id || PAGE.epoch.load(Ordering::Relaxed) != epoch {
            return None;
        }
        let tag = Tag::from_own_bits(current.tag.get())?;
        Some(Me {
            tag,
            epoch,
            table: current.table.get(),
            of: PhantomData,
        })
    })
}

/// The calling thread's tag in `table`; registers the thread if it is not a member yet.
///
/// # Errors
///
/// The table is full, the thread is ending, or the process is a copy whose robust list is its parent's.
#[cold]
pub(crate) fn join(table: &Arc<Table>) -> io::Result<Tag> {
    with_registrations(|registrations| registrations.join(table))?
}

/// The calling thread's tag in the table `id`, found among those that the process has attached.
///
/// # Errors
///
/// As [`join`]; or no such table is attached here.
#[cold]
pub(crate) fn find<'a>(id: u64) -> io::Result<Option<Me<'a>>> {
    let known = with_registrations(|registrations| {
        registrations.forget_parents_entries()?;
        io::Result::Ok(registrations.select(id))
    })??;
    if !known {
        let Some(table) = membership::attached(id)? else {
            return Ok(None);
        };
        join(&table)?;
    }
    Ok(cached(id))
}

fn ending() -> io::Error {
    io::Error::other("this thread is ending and has left its memberships: locks cannot be used any more")
}

/// What a thread is registered as. Hangs on a pthread key: its destructor runs after all of Rust's thread-local ones, so that a guard
/// that lies in one of those is never dropped, nor used, under a tag that was given up.
struct Registrations {
    /// The process's epoch when the entries were made.
    epoch: u32,
    entries: Vec<(Arc<Table>, Tag)>,
    /// Tables that are used no more. Kept until the thread ends: a [`Me`] further up the stack may point to one.
    former: Vec<Arc<Table>>,
}

/// Calls `body` with the calling thread's registrations. `body` calls nothing that comes back here.
fn with_registrations<R>(body: impl FnOnce(&mut Registrations) -> R) -> io::Result<R> {
    let mut registrations = CURRENT.with(|current| current.registrations.get());
    if registrations == ENDED {
        return Err(ending());
    }
    if registrations.is_null() {
        let key = key()?;
        registrations = Box::into_raw(Box::new(Registrations {
            epoch: NO_EPOCH,
            entries: Vec::new(),
            former: Vec::new(),
        }));
        // SAFETY: a key that was created and is never deleted.
        let status = unsafe { libc::pthread_setspecific(key, registrations.cast()) };
        if status != 0 {
            // SAFETY: made by `into_raw` just now, and nobody has seen it.
            drop(unsafe { Box::from_raw(registrations) });
            return Err(io::Error::from_raw_os_error(status));
        }
        CURRENT.with(|current| current.registrations.set(registrations));
    }
    // SAFETY: this thread's own, alive until `leave_all` puts `ENDED` in its place; and exclusive, as no call is nested in another.
    Ok(body(unsafe { &mut *registrations }))
}

/// The key that calls [`leave_all`] when a thread ends.
fn key() -> io::Result<libc::pthread_key_t> {
    /// One more than the key, 0 for none yet.
    static KEY: AtomicU64 = AtomicU64::new(0);
    let known = KEY.load(Ordering::Acquire);
    if known != 0 {
        return Ok((known - 1) as libc::pthread_key_t);
    }
    let mut key = 0;
    // SAFETY: a place for a key, and a destructor for the values that `with_registrations` sets.
    let status = unsafe { libc::pthread_key_create(&raw mut key, Some(leave_all)) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    match KEY.compare_exchange(0, u64::from(key) + 1, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(key),
        Err(theirs) => {
            // SAFETY: created just now, and used by nobody.
            unsafe { libc::pthread_key_delete(key) };
            Ok((theirs - 1) as libc::pthread_key_t)
        }
    }
}

/// The end of a thread: gives its tokens back. (The main thread's are marked by the kernel, as are those of a thread that is killed.)
extern "C" fn leave_all(registrations: *mut libc::c_void) {
    CURRENT.with(|current| {
        current.id.set(0);
        current.tag.set(0);
        current.registrations.set(ENDED);
    });
    // SAFETY: the value that `with_registrations` set for this thread, which nobody can reach any more.
    let registrations = unsafe { Box::from_raw(registrations.cast::<Registrations>()) };
    if registrations.epoch == PAGE.epoch.load(Ordering::Relaxed) {
        for (table, tag) in &registrations.entries {
            table.deregister(*tag);
        }
    }
}

impl Registrations {
    fn join(&mut self, table: &Arc<Table>) -> io::Result<Tag> {
        self.forget_parents_entries()?;
        if !self.select(table.id()) {
            self.epoch = epoch()?;
            let tag = table.register()?;
            self.entries.push((Arc::clone(table), tag));
            self.select(table.id());
        }
        let tag = self
            .entries
            .iter()
            .find(|(entry, _)| entry.id() == table.id())
            .map(|(_, tag)| *tag);
        tag.ok_or_else(ending)
    }

    /// Makes the registration for `id` the current one, if there is one.
    fn select(&mut self, id: u64) -> bool {
        // A tag that reads as dead must not be used any more, whoever judged so and why.
        let dead =
            |(table, tag): &mut (Arc<Table>, Tag)| table.id() == id && table.life(*tag).is_none_or(|life| life.dead);
        self.former
            .extend(self.entries.extract_if(.., dead).map(|(table, _)| table));
        let Some((table, tag)) = self.entries.iter().find(|(table, _)| table.id() == id) else {
            return false;
        };
        CURRENT.with(|current| {
            current.table.set(Arc::as_ptr(table));
            current.tag.set(tag.bits());
            current.epoch.set(self.epoch);
            current.id.set(id);
        });
        true
    }

    /// In a forked child: drops what was the parent's without touching its tokens.
    fn forget_parents_entries(&mut self) -> io::Result<()> {
        if self.entries.is_empty() || self.epoch == PAGE.epoch.load(Ordering::Relaxed) {
            return Ok(());
        }
        // libc's fork empties the list of robust mutexes. A raw clone does not, and then the list leads through the parent's
        // tokens: libc would write into them at the next robust lock.
        if token::robust_list_is_tainted() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this process is a raw clone of a thread that held locks: start it with fork, or clone before the first lock",
            ));
        }
        self.former.extend(self.entries.drain(..).map(|(table, _)| table));
        Ok(())
    }
}

/// This process's epoch; begins it if there is none yet.
fn epoch() -> io::Result<u32> {
    wipe_on_fork()?;
    // The time: no two processes that have the same memory, one after another, begin at the same nanosecond.
    let fresh = monotonic_nanoseconds() as u32 | 1;
    Ok(
        match PAGE
            .epoch
            .compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => fresh,
            Err(begun) => begun,
        },
    )
}

/// Has the page wiped in children. Idempotent; a child's page is wiped in its own children, too.
fn wipe_on_fork() -> io::Result<()> {
    // SAFETY: exactly the page, which holds nothing else. It is zero-initialised, so it lies in anonymous private memory.
    let status = unsafe {
        libc::madvise(
            (&raw const PAGE).cast_mut().cast(),
            size_of::<Page>(),
            libc::MADV_WIPEONFORK,
        )
    };
    if status == 0 {
        return Ok(());
    }
    // Larger pages than the program was linked for, or a kernel before 4.14: then libc's fork wipes it, and a raw clone does not.
    static HANDLER: AtomicU32 = AtomicU32::new(0);
    if HANDLER.swap(1, Ordering::Relaxed) == 0 {
        extern "C" fn wipe() {
            PAGE.epoch.store(0, Ordering::Relaxed);
        }
        // SAFETY: the handler stores one word.
        let status = unsafe { libc::pthread_atfork(None, None, Some(wipe)) };
        if status != 0 {
            return Err(io::Error::from_raw_os_error(status));
        }
    }
    Ok(())
}
