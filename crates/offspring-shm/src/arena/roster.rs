//! The processes of an arena: who may own blocks, and who started whom.
//!
//! ```text
//! place   state     parent's tag << 32 | generation << 1 | held        parent 0: the root, or nobody
//!         process   process id, as the process itself sees it; 0 before it has started
//!         since     nanoseconds since boot when it wrote the process id
//! ```
//!
//! A place changes from free to held by one CAS of the parent, with a generation that is one higher, and back by one CAS
//! of whoever has swept all that the tag owned. So a tag that is met anywhere in shared memory names one process.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use super::Arena;
use super::geometry::{PLACE, header};
use crate::Owner;
use crate::owner::{GENERATION_BITS, PLACES};

const HELD: u64 = 1;

fn generation(state: u64) -> u32 {
    (state >> 1) as u32 & ((1 << GENERATION_BITS) - 1)
}

fn parent(state: u64) -> Option<Owner> {
    Owner::from_raw((state >> 32) as u32)
}

fn state(parent: Option<Owner>, generation: u32, held: u64) -> u64 {
    u64::from(parent.map_or(0, Owner::raw)) << 32 | u64::from(generation) << 1 | held
}

impl Arena {
    /// Gives out a tag for a process that `parent` is about to start; `None` is the root's parent.
    ///
    /// # Errors
    /// When the roster is full (4095 processes), or the system has no memory for more of it.
    pub fn reserve_child(&self, parent: Option<Owner>) -> io::Result<Owner> {
        // From place to place, so that a generation comes round as late as possible.
        let first = self.header(header::PLACE_ROTOR).load(Relaxed) as usize;
        loop {
            let ready = self.ready_places();
            let places = (1..ready).map(|step| (first % ready + step - 1) % (ready - 1) + 1);
            if let Some(owner) = places.into_iter().find_map(|place| self.take_place(place, parent)) {
                self.header(header::PLACE_ROTOR).store(owner.index() as u64, Relaxed);
                return Ok(owner);
            }
            if ready >= PLACES {
                return Err(io::Error::new(
                    io::ErrorKind::QuotaExceeded,
                    format!(
                        "the family has {} processes, which is the most that can share an arena",
                        PLACES - 1
                    ),
                ));
            }
            self.make_places_ready(ready + 1)?;
        }
    }

    fn take_place(&self, place: usize, parent: Option<Owner>) -> Option<Owner> {
        let word = self.place(place, 0);
        let old = word.load(Relaxed);
        if old & HELD != 0 {
            return None;
        }
        let owner = Owner::new(place, generation(old).wrapping_add(1))?;
        // PAIRS: place-free
        word.compare_exchange(old, state(parent, owner.generation(), HELD), AcqRel, Relaxed)
            .ok()?;
        Some(owner)
    }

    /// Takes the tag out of the roster; true for the one who did it. All that it owned was swept.
    pub(crate) fn strike(&self, owner: Owner) -> bool {
        if owner.index() >= self.ready_places() {
            return false;
        }
        let word = self.place(owner.index(), 0);
        let old = word.load(Acquire);
        if !names(old, owner) {
            return false;
        }
        self.place(owner.index(), 1).store(0, Relaxed);
        self.place(owner.index(), 2).store(0, Relaxed);
        // PAIRS: place-free
        word.compare_exchange(old, state(None, owner.generation(), 0), AcqRel, Relaxed)
            .is_ok()
    }

    /// Whether the tag is given out: its process lives, or was not released yet.
    #[must_use]
    pub fn is_reserved(&self, owner: Owner) -> bool {
        // PAIRS: place-free
        owner.index() < self.ready_places() && names(self.place(owner.index(), 0).load(Acquire), owner)
    }

    /// The tags that were given out for children of `owner` and not released.
    #[must_use]
    pub fn children_of(&self, owner: Owner) -> Vec<Owner> {
        let held = |place| {
            let state = self.place(place, 0).load(Acquire); // PAIRS: place-free
            (state & HELD != 0 && parent(state) == Some(owner)).then(|| Owner::new(place, generation(state)))?
        };
        (1..self.ready_places()).filter_map(held).collect()
    }

    /// Writes down who the process of `owner` is: it does so itself, first of all.
    pub(crate) fn sign(&self, owner: Owner, process: u32, since: Duration) {
        if self.is_reserved(owner) {
            let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            self.place(owner.index(), 2).store(since, Relaxed);
            self.place(owner.index(), 1).store(u64::from(process), Release); // PAIRS: place-signed
        }
    }

    /// The process id of the process of `owner`, as it sees it itself, and the time since boot at which it joined.
    ///
    /// `None` when the process has not joined yet or was released. A process with this id that has started later than
    /// that is another one.
    #[must_use]
    pub fn process_of(&self, owner: Owner) -> Option<(u32, Duration)> {
        if !self.is_reserved(owner) {
            return None;
        }
        let process = self.place(owner.index(), 1).load(Acquire); // PAIRS: place-signed
        let since = Duration::from_nanos(self.place(owner.index(), 2).load(Relaxed));
        let process = u32::try_from(process).ok().filter(|&process| process != 0)?;
        self.is_reserved(owner).then_some((process, since))
    }

    fn place(&self, place: usize, word: usize) -> &AtomicU64 {
        debug_assert!(place < PLACES && word < PLACE / 8);
        self.mapping.atomic(self.geometry.roster_at + place * PLACE + word * 8)
    }
}

fn names(state: u64, owner: Owner) -> bool {
    state & HELD != 0 && generation(state) == owner.generation()
}
