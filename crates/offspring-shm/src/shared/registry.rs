//! What this process holds: one bit in shared memory stands for all handles to a value here.

use std::collections::BTreeMap;
use std::io;

use parking_lot::Mutex;

use super::record::Record;
use crate::{Arena, Handle, Owner, fork_guard};

/// Handles to one value.
#[derive(Clone, Copy)]
struct Local {
    id: u64,
    handles: usize,
}

/// The values that this process holds, by the number of their record. Its lock is held during every operation on a record.
///
/// A forked child has a copy, which describes its copies of the handles just as well.
static HELD: Mutex<BTreeMap<usize, Local>> = Mutex::new(BTreeMap::new());

/// Publishes a value and counts the first handle to it.
pub(super) fn publish<'a>(make: impl FnOnce() -> io::Result<Record<'a>>) -> io::Result<Record<'a>> {
    let mut held = HELD.lock();
    let record = make()?;
    held.insert(
        record.number(),
        Local {
            id: record.id(),
            handles: 1,
        },
    );
    Ok(record)
}

/// Counts one more handle to a value, which some process still holds.
pub(super) fn attach<'a>(arena: &'a Arena, me: Owner, handle: &Handle) -> io::Result<Record<'a>> {
    let record = Record::of_handle(arena, handle).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "this is no handle of a shared value of this family",
        )
    })?;
    let mut held = HELD.lock();
    match held.get_mut(&record.number()) {
        Some(local) if local.id == handle.id => local.handles += 1,
        None if record.attach(me, handle.id) => {
            held.insert(
                record.number(),
                Local {
                    id: handle.id,
                    handles: 1,
                },
            );
        }
        _ => return Err(gone()),
    }
    Ok(record)
}

/// Counts one more handle to a value that this process holds.
pub(super) fn duplicate(number: usize) {
    if let Some(local) = HELD.lock().get_mut(&number) {
        local.handles += 1;
    }
}

/// Counts one handle less; the last one ends this process's holding.
pub(super) fn detach(arena: &Arena, number: usize) {
    let mut held = HELD.lock();
    let Some(local) = held.get_mut(&number) else { return };
    local.handles -= 1;
    if local.handles > 0 {
        return;
    }
    held.remove(&number);
    // A copy in a process that was forked behind our back holds nothing.
    if let (Some(record), Some(me), true) = (Record::at(arena, number), arena.home(), fork_guard::is_original()) {
        record.detach(me);
    }
}

/// Holds for a child that is about to be forked what this process holds, since the child will have copies of the handles
/// and this process may drop its own at once.
pub(crate) fn keep_for(arena: &Arena, child: Owner) {
    for &number in HELD.lock().keys() {
        if let Some(record) = Record::at(arena, number) {
            record.set_bit(child);
        }
    }
}

/// In a forked child: holds what it has copies of. For what [`keep_for`] did there is nothing left to do.
pub(crate) fn keep_inherited(arena: &Arena, me: Owner) -> io::Result<()> {
    for (&number, local) in HELD.lock().iter() {
        let held = Record::at(arena, number)
            .is_some_and(|record| record.has_bit(me) && record.id() == local.id || record.attach(me, local.id));
        if !held {
            return Err(gone());
        }
    }
    Ok(())
}

/// Ends what a dead process held.
pub(crate) fn release(arena: &Arena, dead: Owner, me: Owner) {
    let _held = HELD.lock();
    for record in Record::all(arena) {
        record.release(dead, me);
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "the shared value is gone: keep a handle alive until every receiver has taken its own",
    )
}
