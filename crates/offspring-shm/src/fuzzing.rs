//! Ways to the control words of an arena, for fuzz targets.

use std::sync::atomic::Ordering::Relaxed;

use crate::shared::Record;
use crate::{Arena, Handle, Owner};

/// Where each array of an arena's control words begins, and where the last one ends.
#[must_use]
pub fn arrays(arena: &Arena) -> [usize; 8] {
    arena.geometry().arrays()
}

/// What a record of a shared value was at some time.
#[derive(Debug)]
pub struct Snapshot(Vec<u64>);

/// Takes down the words of a record.
///
/// # Panics
/// When the handle names none.
#[must_use]
pub fn snapshot(arena: &Arena, handle: &Handle) -> Snapshot {
    let record = Record::of_handle(arena, handle).expect("a handle of a value");
    Snapshot(record.words().map(|word| word.load(Relaxed)).collect())
}

/// Makes a record what it was, and ends the holding of `me`: whatever became of it is freed as if nothing had been damaged.
///
/// # Panics
/// When the handle names none.
pub fn restore_and_detach(arena: &Arena, handle: &Handle, snapshot: &Snapshot, me: Owner) {
    let record = Record::of_handle(arena, handle).expect("a handle of a value");
    for (word, value) in record.words().zip(&snapshot.0) {
        word.store(*value, Relaxed);
    }
    record.detach(me);
}
