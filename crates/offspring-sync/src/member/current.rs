//! Which tag the calling thread has, and how it comes and goes.
//!
//! The answer must cost next to nothing, as every lock asks for it, and it must be wrong in no forked child: a child has its
//! parent's memory but not its parent's tokens. So a thread's answer lies in a page that the kernel wipes in every child
//! (`MADV_WIPEONFORK`), behind a thread-local pointer: two loads, and a child reads "nobody" however it was forked.

// UNSAFETY: maps a page that is wiped on fork, and reads it through a thread-local pointer.
#![expect(unsafe_code, reason = "one MADV_WIPEONFORK page per thread")]

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use super::membership;
use super::table::Table;
use super::token;
use crate::raw::Lives;
use crate::tag::Tag;

/// One thread's answer.
struct Slot {
    /// Which table `tag` and `table` belong to; 0 for none, as in a wiped page.
    id: Cell<u64>,
    table: Cell<*const Table>,
    tag: Cell<u32>,
    /// 1 in the process that registered, 0 in a copy of it.
    original: Cell<u32>,
}

#[repr(transparent)]
struct Nobody(Slot);

// SAFETY: never written: `slot` writes only to a page of its own.
unsafe impl Sync for Nobody {}

static NOBODY: Nobody = Nobody(Slot {
    id: Cell::new(0),
    table: Cell::new(std::ptr::null()),
    tag: Cell::new(0),
    original: Cell::new(0),
});

std::thread_local! {
    /// Const and without a destructor, so that reading it is one load.
    static SLOT: Cell<*const Slot> = const { Cell::new(&raw const NOBODY.0) };

    static REGISTRATIONS: RefCell<Registrations> = const { RefCell::new(Registrations { page: None, entries: Vec::new(), former: Vec::new() }) };
}

/// The calling thread as a member of one table. Good until the call that asked for it returns.
#[derive(Clone, Copy)]
pub(crate) struct Me<'a> {
    pub(crate) tag: Tag,
    pub(crate) table: &'a Table,
}

/// The calling thread's tag in the table `id`, if it was used last.
#[inline]
pub(crate) fn cached<'a>(id: u64) -> Option<Me<'a>> {
    // SAFETY: either `NOBODY` or this thread's own page, which lives until the thread's destructors have reset the pointer.
    let slot = unsafe { &*SLOT.get() };
    if slot.id.get() != id {
        return None;
    }
    let tag = Tag::from_bits(slot.tag.get())?;
    // SAFETY: set together with `id`, which was not 0, from a table that `REGISTRATIONS` keeps until it resets the slot; a `Me`
    // does not outlive the operation that asked for it, and none of those ends the thread.
    let table = unsafe { &*slot.table.get() };
    Some(Me { tag, table })
}

/// Whether `tag` is the calling thread's in the table it used last.
#[inline]
pub(crate) fn is_me(id: u64, tag: Tag) -> bool {
    cached(id).is_some_and(|me| me.tag == tag)
}

/// The calling thread's tag in `table`; registers the thread if it is not a member yet.
///
/// # Errors
///
/// The table is full, the thread is ending, or the process is a copy whose robust list is its parent's.
#[cold]
pub(crate) fn join(table: &Arc<Table>) -> io::Result<Tag> {
    REGISTRATIONS
        .try_with(|registrations| registrations.borrow_mut().join(table))
        .unwrap_or_else(|_| Err(ending()))
}

/// The calling thread's tag in the table `id`, found among those that the process has attached.
///
/// # Errors
///
/// As [`join`]; or no such table is attached here.
#[cold]
pub(crate) fn find<'a>(id: u64) -> io::Result<Option<Me<'a>>> {
    let known = REGISTRATIONS
        .try_with(|registrations| {
            let mut registrations = registrations.borrow_mut();
            registrations.forget_parents_entries()?;
            Ok(registrations.select(id))
        })
        .unwrap_or_else(|_| Err(ending()))?;
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

struct Registrations {
    page: Option<Page>,
    entries: Vec<(Arc<Table>, Tag)>,
    /// Tables that are used no more. Kept until the thread ends: a [`Me`] further up the stack may point to one.
    former: Vec<Arc<Table>>,
}

impl Registrations {
    fn join(&mut self, table: &Arc<Table>) -> io::Result<Tag> {
        self.forget_parents_entries()?;
        if !self.select(table.id()) {
            let page = match self.page.take() {
                Some(page) => page,
                None => Page::map()?,
            };
            let page = self.page.insert(page);
            let tag = table.register()?;
            page.slot().original.set(1);
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

    /// Puts the registration for `id` into the slot, if there is one.
    fn select(&mut self, id: u64) -> bool {
        // A tag that reads as dead must not be used any more, whoever judged so and why.
        let dead =
            |(table, tag): &mut (Arc<Table>, Tag)| table.id() == id && table.life(*tag).is_none_or(|life| life.dead);
        self.former
            .extend(self.entries.extract_if(.., dead).map(|(table, _)| table));
        let (Some(page), Some((table, tag))) = (&self.page, self.entries.iter().find(|(table, _)| table.id() == id))
        else {
            return false;
        };
        let slot = page.slot();
        slot.table.set(Arc::as_ptr(table));
        slot.tag.set(tag.bits());
        slot.id.set(id);
        SLOT.set(slot);
        true
    }

    /// In a forked child: drops what was the parent's without touching its tokens.
    fn forget_parents_entries(&mut self) -> io::Result<()> {
        if self.entries.is_empty() || self.page.as_ref().is_some_and(|page| page.slot().original.get() == 1) {
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

impl Drop for Registrations {
    fn drop(&mut self) {
        SLOT.set(&raw const NOBODY.0);
        let Some(page) = &self.page else { return };
        if page.slot().original.get() == 1 {
            for (table, tag) in &self.entries {
                table.deregister(*tag);
            }
        }
    }
}

/// An anonymous page that reads as zeros in every child.
struct Page(NonNull<Slot>);

impl Page {
    fn map() -> io::Result<Page> {
        let len = size_of::<Slot>();
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(page) = NonNull::new(page.cast::<Slot>()) else {
            return Err(io::Error::other("mmap returned address 0"));
        };
        let page = Page(page);
        // SAFETY: the page mapped above; a length is rounded up to it.
        if unsafe { libc::madvise(page.0.as_ptr().cast(), len, libc::MADV_WIPEONFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(page)
    }

    fn slot(&self) -> &Slot {
        // SAFETY: mapped until drop, zeroed by the kernel, which is a valid Slot, and only this thread uses it.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made; `Registrations` reset the slot pointer before.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Slot>()) };
    }
}
