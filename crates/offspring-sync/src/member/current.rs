//! Which tag the calling thread has, and how it comes and goes.
//!
//! The answer must cost next to nothing, as every lock asks for it, and it must be wrong in no forked child: a child has its
//! parent's memory but not its parent's tokens. So beside the thread-local answer stands a pointer to a page that the kernel
//! wipes in every child, however it was forked (`MADV_WIPEONFORK`): the answer counts only while that page says so.

// UNSAFETY: maps a page that is wiped on fork, and reads it through a thread-local pointer.
#![expect(unsafe_code, reason = "one MADV_WIPEONFORK page per thread")]

use std::cell::{Cell, RefCell};
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use super::membership;
use super::table::Table;
use super::token;
use crate::primitive::monotonic_nanoseconds;
use crate::raw::Lives;
use crate::tag::Tag;

/// One thread's answer. Const and without a destructor, so that reading it takes no call.
struct Current {
    /// Which table `tag` and `table` belong to; 0 for none.
    id: Cell<u64>,
    /// The tag's bits, or 0. Not behind the page's pointer: a lock's compare-and-swap waits for it.
    tag: Cell<u32>,
    /// What the page holds, unless it was wiped; never 0.
    epoch: Cell<u32>,
    table: Cell<*const Table>,
    page: Cell<*const Cell<u32>>,
}

#[repr(transparent)]
struct Wiped(Cell<u32>);

// SAFETY: never written: threads write only to a page of their own.
unsafe impl Sync for Wiped {}

/// The page of a thread that has none.
static WIPED: Wiped = Wiped(Cell::new(0));

std::thread_local! {
    static CURRENT: Current = const {
        Current {
            id: Cell::new(0),
            tag: Cell::new(0),
            epoch: Cell::new(1),
            table: Cell::new(std::ptr::null()),
            page: Cell::new(&raw const WIPED.0),
        }
    };

    static REGISTRATIONS: RefCell<Registrations> =
        const { RefCell::new(Registrations { page: None, entries: Vec::new(), former: Vec::new() }) };
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
        // SAFETY: set together with a tag from a table that `REGISTRATIONS` keeps until it resets the page pointer; a `Me` does not
        // outlive the operation that asked for it, and none of those ends the thread.
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
    /// Whether the calling thread is the one that made it, and not a copy of that in a forked child, nor one that is ending.
    /// (Guards are not `Send`: it cannot be another thread.)
    #[inline]
    pub(crate) fn is_mine(self) -> bool {
        // SAFETY: either `WIPED` or this thread's own page, which lives until the thread's destructors have reset the pointer.
        CURRENT.with(|current| unsafe { &*current.page.get() }.get() == self.epoch)
    }
}

/// The calling thread's tag in the table `id`, if it was used last.
#[inline]
pub(crate) fn cached<'a>(id: u64) -> Option<Me<'a>> {
    CURRENT.with(|current| {
        // SAFETY: either `WIPED` or this thread's own page, which lives until the thread's destructors have reset the pointer.
        let original = unsafe { &*current.page.get() }.get() == current.epoch.get();
        if current.id.get() != id || !original {
            return None;
        }
        let tag = Tag::from_bits(current.tag.get())?;
        Some(Me {
            tag,
            epoch: current.epoch.get(),
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
            if page.word().get() == 0 {
                // The time: no two processes that have the same memory, one after another, register at the same nanosecond.
                page.word().set(monotonic_nanoseconds() as u32 | 1);
            }
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
        let (Some(page), Some((table, tag))) = (&self.page, self.entries.iter().find(|(table, _)| table.id() == id))
        else {
            return false;
        };
        CURRENT.with(|current| {
            current.table.set(Arc::as_ptr(table));
            current.tag.set(tag.bits());
            current.epoch.set(page.word().get());
            current.id.set(id);
            current.page.set(page.word());
        });
        true
    }

    /// In a forked child: drops what was the parent's without touching its tokens.
    fn forget_parents_entries(&mut self) -> io::Result<()> {
        if self.entries.is_empty() || self.page.as_ref().is_some_and(|page| page.word().get() != 0) {
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
        CURRENT.with(|current| current.page.set(&raw const WIPED.0));
        let Some(page) = &self.page else { return };
        if page.word().get() != 0 {
            for (table, tag) in &self.entries {
                table.deregister(*tag);
            }
        }
    }
}

/// An anonymous page that reads as zeros in every child.
struct Page(NonNull<Cell<u32>>);

impl Page {
    fn map() -> io::Result<Page> {
        let len = size_of::<Cell<u32>>();
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
        let Some(page) = NonNull::new(page.cast::<Cell<u32>>()) else {
            return Err(io::Error::other("mmap returned address 0"));
        };
        let page = Page(page);
        // SAFETY: the page mapped above; a length is rounded up to it.
        if unsafe { libc::madvise(page.0.as_ptr().cast(), len, libc::MADV_WIPEONFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(page)
    }

    fn word(&self) -> &Cell<u32> {
        // SAFETY: mapped until drop, zeroed by the kernel, and only this thread uses it.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made; `Registrations` reset the pointer to it before.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Cell<u32>>()) };
    }
}
