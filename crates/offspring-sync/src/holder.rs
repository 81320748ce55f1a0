//! Who holds a lock.

use std::fmt;
use std::time::Duration;

use crate::member::Member;
use crate::member::table::Table;
use crate::primitive::{AtomicU64, Ordering};
use crate::raw::{Life, Lives};
use crate::tag::Tag;

/// The thread that holds a lock, as far as can be said without stopping it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its thread.
    pub tid: u32,
    /// The thread's name.
    pub name: String,
    /// For how long it has held the lock at least: since the first time that somebody had to sleep for it. `None` if nobody has.
    pub held_for: Option<Duration>,
    /// Whether it is dead: then the next who asks for the lock gets it.
    pub dead: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} \"{}\" of process {}", self.tid, self.name, self.pid)?;
        if let Some(held_for) = self.held_for {
            write!(f, ", for at least {held_for:?}")?;
        }
        if self.dead {
            write!(f, ", which is dead")?;
        }
        Ok(())
    }
}

/// When a waiter first saw who made it wait: `time:34 | tag:30`, time in units of 2^24 ns, about 17 ms.
///
/// Written by waiters before they sleep, cleared by an owner that unlocks with sleepers. A hint for people.
#[repr(transparent)]
pub(crate) struct Watch(AtomicU64);

const UNIT_SHIFT: u32 = 24;

impl Watch {
    pub(crate) const fn new() -> Watch {
        Watch(AtomicU64::new(0))
    }

    fn see(&self, owner: Tag) {
        let noted = self.0.load(Ordering::Relaxed);
        if noted as u32 & Tag::MASK != owner.bits() {
            self.0
                .store((now() >> UNIT_SHIFT) << 30 | u64::from(owner.bits()), Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// Who `owner` is, and since when somebody waits for it.
    pub(crate) fn holder(&self, table: &Table, owner: Tag) -> Option<Holder> {
        let Member { pid, tid, name } = table.member(owner)?;
        let noted = self.0.load(Ordering::Relaxed);
        let held_for = (noted as u32 & Tag::MASK == owner.bits())
            .then(|| Duration::from_nanos(now().saturating_sub((noted >> 30) << UNIT_SHIFT)));
        let dead = table.life(owner).is_none_or(|life| life.dead);
        Some(Holder {
            pid,
            tid,
            name,
            held_for,
            dead,
        })
    }
}

/// A table, for the waiters of one lock.
pub(crate) struct Watched<'a> {
    pub(crate) table: &'a Table,
    pub(crate) watch: &'a Watch,
}

impl Lives for Watched<'_> {
    fn life(&self, tag: Tag) -> Option<Life<'_>> {
        self.table.life(tag)
    }

    fn inquire(&self, tag: Tag) -> bool {
        self.table.inquire(tag)
    }

    fn asleep_for(&self, owner: Tag) {
        self.watch.see(owner);
    }
}

/// Nanoseconds since an arbitrary moment that all processes of this machine agree on.
fn now() -> u64 {
    crate::primitive::monotonic_nanoseconds()
}
