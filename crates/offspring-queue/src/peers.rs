//! Who holds the sides of a queue.
//!
//! ```text
//! cell   0                                    free
//!        owner:32 | PRESENT:1 | passes:31     a process; it has handles, or handles that it sent are on their way
//! ```
//!
//! A cell changes by CAS alone. There is no count of holders: a count would not say whose it was after a death. A process
//! that has ended is gone, whatever its cell says, and anybody may clear it. What a process sent and nobody has received yet
//! counts as held by the sender, so that a handle can be moved to another process without the queue ending in between.

use std::sync::PoisonError;
use std::time::Duration;
use std::{fs, io};

use offspring_shm::{Arena, Owner, family};
use offspring_sync::primitive::{AtomicU64, Ordering};

use crate::core::Core;
use crate::shape::CELLS;
use crate::spsc::seat;
use crate::transit;

/// One side of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Senders = 0,
    Receivers = 1,
}

const PRESENT: u64 = 1 << 31;
const PASSES: u64 = PRESENT - 1;

impl Side {
    /// The bit that says that nobody holds this side.
    pub(crate) const fn gone(self) -> u32 {
        match self {
            Self::Senders => 2,
            Self::Receivers => 4,
        }
    }

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Senders => Self::Receivers,
            Self::Receivers => Self::Senders,
        }
    }
}

fn cell_of(owner: Owner, low: u64) -> u64 {
    u64::from(owner.raw()) << 32 | low
}

pub(crate) fn owner_of(cell: u64) -> Option<Owner> {
    Owner::from_raw((cell >> 32) as u32)
}

impl Core {
    /// Counts a new handle of this process.
    ///
    /// # Errors
    /// When too many processes hold this side.
    pub(crate) fn join(&self, side: Side) -> io::Result<()> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if handles[side as usize] == 0 {
            self.appear(side, family::me()?)?;
        }
        handles[side as usize] += 1;
        Ok(())
    }

    /// Counts one more handle, of a side that this process holds.
    pub(crate) fn join_again(&self, side: Side) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)[side as usize] += 1;
    }

    /// Counts a handle less.
    pub(crate) fn leave(&self, side: Side) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles[side as usize] -= 1;
        if handles[side as usize] > 0 {
            return;
        }
        // In a process that was forked behind our back nothing is held.
        let Ok(me) = family::me() else { return };
        self.change(side, me, |low| low & !PRESENT);
        drop(handles);
        self.look_for(side, false);
        transit::let_go();
    }

    /// Notes that `owner` holds this side.
    pub(crate) fn appear(&self, side: Side, owner: Owner) -> io::Result<()> {
        self.mark(side, owner, |low| low | PRESENT)
    }

    /// Notes that a handle of this side is on its way from this process.
    pub(crate) fn pass(&self, side: Side) -> io::Result<Owner> {
        let me = family::me()?;
        self.mark(side, me, |low| if low & PASSES == PASSES { low } else { low + 1 })?;
        Ok(me)
    }

    /// Notes that a handle which `from` had sent has arrived, or never left.
    pub(crate) fn arrive(&self, side: Side, from: Owner) {
        self.change(side, from, |low| if low & PASSES == 0 { low } else { low - 1 });
        self.look_for(side, false);
    }

    /// Whether handles that this process sent have not arrived yet.
    pub(crate) fn has_handles_on_their_way(&self) -> bool {
        let Ok(me) = family::me() else { return false };
        [Side::Senders, Side::Receivers].into_iter().any(|side| {
            let mine = |cell: u64| owner_of(cell) == Some(me) && cell & PASSES != 0;
            self.cells(side).iter().any(|cell| mine(cell.load(Ordering::SeqCst)))
        })
    }

    fn mark(&self, side: Side, owner: Owner, change: impl Fn(u64) -> u64) -> io::Result<()> {
        if !self.change(side, owner, &change) {
            let fresh = cell_of(owner, change(0));
            let free = |cell: &AtomicU64| {
                let seen = cell.load(Ordering::Relaxed);
                let usable = seen == 0 || owner_of(seen).is_none_or(|owner| !self.arena().is_reserved(owner));
                usable
                    && cell
                        .compare_exchange(seen, fresh, Ordering::SeqCst, Ordering::Relaxed)
                        .is_ok()
            };
            if !self.cells(side).iter().any(free) {
                return Err(io::Error::new(
                    io::ErrorKind::QuotaExceeded,
                    format!("{CELLS} processes hold this side of the queue, which is the most that can"),
                ));
            }
        }
        // After the cell, so that whoever finds the side deserted looks again after it said so.
        if self.over_bits() & side.gone() != 0 {
            self.header().over.fetch_and(!side.gone(), Ordering::SeqCst);
        }
        Ok(())
    }

    /// Changes the cell of `owner`; false if it has none.
    fn change(&self, side: Side, owner: Owner, change: impl Fn(u64) -> u64) -> bool {
        for cell in self.cells(side) {
            let mut seen = cell.load(Ordering::SeqCst);
            while owner_of(seen) == Some(owner) {
                let low = change(seen & (PRESENT | PASSES));
                let next = if low == 0 { 0 } else { cell_of(owner, low) };
                match cell.compare_exchange(seen, next, Ordering::SeqCst, Ordering::SeqCst) {
                    Ok(_) => return true,
                    Err(other) => seen = other,
                }
            }
        }
        false
    }

    /// Whether anybody holds this side; tells everybody if not. Asking the system who lives takes some microseconds: only
    /// when `thoroughly`.
    pub(crate) fn look_for(&self, side: Side, thoroughly: bool) -> bool {
        if self.is_held(side, thoroughly) {
            return true;
        }
        if self.over_bits() & side.gone() == 0 {
            self.header().over.fetch_or(side.gone(), Ordering::SeqCst);
            // Somebody may have come in between, before there was anything to take back.
            if self.is_held(side, false) {
                self.header().over.fetch_and(!side.gone(), Ordering::SeqCst);
                return true;
            }
            self.wake_all();
        }
        false
    }

    fn is_held(&self, side: Side, thoroughly: bool) -> bool {
        if !self.shape().exclusive {
            return self.is_held_by(side, None, thoroughly);
        }
        loop {
            let seat = self.seat(side).load(Ordering::SeqCst);
            let held = self.is_held_by(side, seat::user_of(seat), thoroughly);
            // The next user appears before it takes the seat, and the last one goes after that.
            if held || self.seat(side).load(Ordering::SeqCst) == seat {
                return held;
            }
        }
    }

    /// Whether anybody holds this side, or whether `only` does.
    fn is_held_by(&self, side: Side, only: Option<Owner>, thoroughly: bool) -> bool {
        let mut held = false;
        for cell in self.cells(side) {
            let seen = cell.load(Ordering::SeqCst);
            if seen == 0 {
                continue;
            }
            let lives =
                |owner: &Owner| self.arena().is_reserved(*owner) && !(thoroughly && has_ended(self.arena(), *owner));
            if let Some(owner) = owner_of(seen).filter(lives) {
                held |= only.is_none_or(|only| only == owner);
            } else {
                let _ = cell.compare_exchange(seen, 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
        held
    }

    pub(crate) fn cells(&self, side: Side) -> &[AtomicU64; CELLS] {
        &self.header().cells[side as usize]
    }
}

/// Whether the process of `owner` has ended, although nobody has released its tag yet.
fn has_ended(arena: &Arena, owner: Owner) -> bool {
    let Some((pid, since)) = arena.process_of(owner) else {
        // It has not begun yet, or was released.
        return !arena.is_reserved(owner);
    };
    if pid == std::process::id() {
        return false;
    }
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return !fs::exists(format!("/proc/{pid}")).unwrap_or(true);
    };
    const TICKS_PER_SECOND: u64 = 100;
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let state = fields.next();
    let started = fields.nth(18).and_then(|ticks| ticks.parse::<u64>().ok());
    if started.is_some_and(|ticks| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND) > since) {
        // The number is another process's by now.
        return true;
    }
    // A process whose first thread has ended is a zombie too, but has others.
    matches!(state, Some("Z" | "X")) && fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|tasks| tasks.count() <= 1)
}
