//! The cells that both kinds of owned permits are made of.

use std::io;

use crate::acquire_error::AcquireError;
use crate::core_lock::Wait;
use crate::head::{Head, Kind};
use crate::member::current::{Claim, Me};
use crate::member::table::Table;
use crate::primitive::{AtomicU32, Ordering};
use crate::raw::{EventCount, NotOwner, RawPermits};
use crate::unusable::Unusable;

/// Up to `CAPACITY` permits, each of which names its holder.
#[repr(C)]
pub(crate) struct PermitCells<const CAPACITY: usize> {
    head: Head,
    /// How many of the cells are in use. Never changes.
    permits: AtomicU32,
    bell: EventCount,
    cells: [AtomicU32; CAPACITY],
}

impl<const CAPACITY: usize> PermitCells<CAPACITY> {
    pub(crate) fn new(head: Head, permits: usize) -> io::Result<Self> {
        if permits > CAPACITY {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a semaphore of {permits} permits has room for {CAPACITY}: name a larger CAPACITY in its type"),
            ));
        }
        Ok(PermitCells {
            head,
            permits: AtomicU32::new(permits as u32),
            bell: EventCount::new(),
            cells: [const { AtomicU32::new(0) }; CAPACITY],
        })
    }

    fn raw(&self) -> RawPermits<'_> {
        // A number beyond the capacity is garbage; the cells that exist are the limit.
        let permits = (self.permits.load(Ordering::Relaxed) as usize).min(CAPACITY);
        RawPermits {
            cells: &self.cells[..permits],
            bell: &self.bell,
        }
    }

    pub(crate) fn acquire(&self, kind: Kind, wait: Wait) -> Result<(Claim, usize), AcquireError> {
        let me = self.head.me(kind)?;
        let index = match wait {
            Wait::Never => self
                .raw()
                .try_acquire(me.table(), me.tag)?
                .ok_or(AcquireError::WouldBlock)?,
            _ => self.raw().acquire(me.table(), me.tag, wait.deadline())?,
        };
        Ok((me.claim(), index))
    }

    /// Gives back permit `index`, if the claim is the caller's.
    pub(crate) fn release(&self, claim: Claim, index: usize) -> Result<(), NotOwner> {
        if !claim.is_mine() {
            return Err(NotOwner);
        }
        self.raw().release(claim.tag, index)
    }

    /// Gives back any permit of the caller.
    pub(crate) fn release_any(&self, kind: Kind) -> Result<Result<(), NotOwner>, Unusable> {
        let me = self.head.me(kind)?;
        let raw = self.raw();
        Ok(raw
            .held_by(me.tag)
            .ok_or(NotOwner)
            .and_then(|index| raw.release(me.tag, index)))
    }

    pub(crate) fn available(&self, kind: Kind) -> Result<usize, Unusable> {
        let me: Me<'_> = self.head.me(kind)?;
        let table: &Table = me.table();
        Ok(self.raw().available(table))
    }

    pub(crate) fn permits(&self) -> usize {
        self.raw().cells.len()
    }

    pub(crate) fn check(&self, kind: Kind) -> Result<(), Unusable> {
        self.head.check(kind)
    }

    /// How many permits are held, by the living or the dead.
    pub(crate) fn taken(&self) -> usize {
        self.raw()
            .cells
            .iter()
            .filter(|cell| cell.load(Ordering::Relaxed) != 0)
            .count()
    }
}
