//! Who holds a shared value, and who frees it.
//!
//! A record is in memory that is never used for anything else, so a handle that came too late may still look at it, and
//! even set a bit in it, without touching a stranger's data. The value itself lies in a block whose holder is the record.
//!
//! ```text
//! state     EMPTY            nobody has the record; its id and payload are 0
//!           MAKING(p)        p fills it in; no handle exists yet
//!           LIVE             processes whose bit is set have the value
//!           DYING(p)         p saw no bit set and looks again; still intact, and whoever sets a bit may make it LIVE
//!           FREEING(p)       p frees it; nobody can have it any more
//! id        of the value; never used again
//! payload   the block's offset
//! len       elements
//! layout    a hash of the type
//! ledger    first << 32 | stride: where in the value offsets of further blocks may stand, and
//! entries   how many there are; 0 for most values
//! astray    1: blocks that this record holds may stand in no entry
//! holders   one bit for each place of the roster
//! ```
//!
//! **The last to drop and one who attaches.** An attacher sets its bit, then reads the state. A dropper clears its bit,
//! and when it sees no bit set, changes LIVE to DYING, looks at all bits again, and only then changes DYING to FREEING.
//! All of these are `SeqCst`, so they have one order. Cases: (1) the attacher reads LIVE: then its bit was set before
//! the state became DYING, the second look sees it, and the dropper puts LIVE back. (2) It reads DYING: it changes
//! that to LIVE itself; either its CAS comes first and the dropper's fails, or the dropper's does and the attacher sees
//! FREEING. (3) It reads FREEING or EMPTY, or another id: the value is gone; it clears its bit, and since that bit may
//! have kept a dropper of the record's next value from freeing, it does what every dropper does.
//! One look that sees no bit proves nothing, as bits are set behind it while others are cleared before it; the second
//! one, in DYING, does, because whoever sets a bit from then on must get past the state.
//!
//! **Further blocks.** A record may hold other blocks than its value's: what lies in a queue belongs to no process. They are
//! freed with the value. The ledger says where their offsets stand; an offset there is only ever a hint, as a block is freed
//! only while it says that this record holds it. What a double death lost track of is found by looking at every block.
//!
//! The operations of one process on records are serialised by its registry's lock: its tag in a state names one thread.
//!
//! **Death.** Whoever releases a dead process p, after MAKING(p) or FREEING(p), makes it FREEING of its own by CAS and
//! finishes: an exclusive state again. The payload's block is freed only while it says that this record holds it, which no
//! other value's block can say, since the record is not EMPTY: freeing twice is impossible. DYING(p) is put back to LIVE.
//! p's bit is cleared, and a record that is LIVE with no bit set is freed by the rule above: that also covers a death between
//! clearing the last bit and DYING.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use crate::arena::{RECORD, header};
use crate::owner::Tag;
use crate::{Arena, Block, Handle, Owner};

const EMPTY: u64 = 0;
const LIVE: u64 = 2;
const MAKING: u64 = 1;
const DYING: u64 = 3;
const FREEING: u64 = 4;
const KIND: u64 = 7;

const HOLDER_WORDS: usize = (RECORD - 64) / 8;

fn of(kind: u64, owner: Owner) -> u64 {
    u64::from(owner.raw()) << 3 | kind
}

/// One record of an arena.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    arena: &'a Arena,
    number: usize,
}

impl<'a> Record<'a> {
    /// The record that a handle names, if there is one at that place.
    pub(crate) fn of_handle(arena: &'a Arena, handle: &Handle) -> Option<Self> {
        let at = usize::try_from(handle.offset)
            .ok()?
            .checked_sub(arena.geometry().records_at)?;
        at.is_multiple_of(RECORD).then(|| Self::at(arena, at / RECORD))?
    }

    pub(super) fn at(arena: &'a Arena, number: usize) -> Option<Self> {
        (number != 0 && number < arena.ready_records()).then_some(Self { arena, number })
    }

    /// All records that may be in use.
    pub(super) fn all(arena: &'a Arena) -> impl Iterator<Item = Self> {
        (1..arena.ready_records()).map(move |number| Self { arena, number })
    }

    /// Makes a value of a filled block that `me` holds; `me` is its first holder.
    pub(super) fn publish(arena: &'a Arena, me: Owner, block: Block, len: usize, layout: u64) -> io::Result<Self> {
        let record = Self::take(arena, me)?;
        let id = arena.header(header::NEXT_ID).fetch_add(1, Relaxed);
        record.payload().store(block.offset, Relaxed);
        record.len_word().store(len as u64, Relaxed);
        record.layout().store(layout, Relaxed);
        record.id_word().store(id, Relaxed);
        record.set_bit(me);
        let tag = record
            .tag()
            .filter(|&tag| arena.hand_over(block.offset, me.into(), tag));
        if tag.is_none() {
            record.clear_bit(me);
            record.state().store(of(FREEING, me), SeqCst);
            record.dispose(me);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the block of a new shared value is not in use",
            ));
        }
        record.state().store(LIVE, SeqCst); // PAIRS: record-state
        Ok(record)
    }

    /// Takes an empty record.
    fn take(arena: &'a Arena, me: Owner) -> io::Result<Self> {
        let first = arena.header(header::RECORD_ROTOR).load(Relaxed) as usize;
        loop {
            let ready = arena.ready_records();
            let numbers = (1..ready).map(|step| (first % ready + step - 1) % (ready - 1) + 1);
            for record in numbers.map(|number| Self { arena, number }) {
                let state = record.state();
                // PAIRS: record-state
                if state.load(Relaxed) == EMPTY
                    && state.compare_exchange(EMPTY, of(MAKING, me), SeqCst, Relaxed).is_ok()
                {
                    arena.header(header::RECORD_ROTOR).store(record.number as u64, Relaxed);
                    return Ok(record);
                }
            }
            if ready > arena.geometry().records {
                return Err(io::Error::new(
                    io::ErrorKind::QuotaExceeded,
                    format!(
                        "the family shares {} values, which is the most this arena can",
                        arena.geometry().records
                    ),
                ));
            }
            arena.make_records_ready(ready + 1)?;
        }
    }

    /// Makes `me` a holder of the value with this identity; false when it is gone.
    pub(super) fn attach(self, me: Owner, id: u64) -> bool {
        if self.id() != id {
            return false;
        }
        self.set_bit(me);
        loop {
            let state = self.state().load(SeqCst); // PAIRS: record-state
            match state & KIND {
                LIVE if self.id() == id => return true,
                DYING => {
                    // Whether or not this CAS succeeds, the state is another one now.
                    let _ = self.state().compare_exchange(state, LIVE, SeqCst, SeqCst); // PAIRS: record-state
                }
                _ => {
                    self.detach(me);
                    return false;
                }
            }
        }
    }

    /// Ends the holding of `me`, and frees the value if nobody holds it any more.
    pub(crate) fn detach(self, me: Owner) {
        self.clear_bit(me);
        self.free_if_unheld(me);
    }

    fn free_if_unheld(self, me: Owner) {
        while !self.is_held() {
            // PAIRS: record-state
            if self
                .state()
                .compare_exchange(LIVE, of(DYING, me), SeqCst, SeqCst)
                .is_err()
            {
                return;
            }
            let next = if self.is_held() { LIVE } else { of(FREEING, me) };
            // PAIRS: record-state
            let done = self
                .state()
                .compare_exchange(of(DYING, me), next, SeqCst, SeqCst)
                .is_ok();
            if done && next != LIVE {
                return self.dispose(me);
            }
        }
    }

    /// Frees the value; the state is FREEING(me).
    fn dispose(self, me: Owner) {
        self.id_word().store(0, SeqCst);
        let payload = self.payload().load(Relaxed);
        if let Some(tag) = self.tag().filter(|_| payload != 0) {
            self.free_further(payload, tag, me);
            // False when a process before this one got that far and died.
            self.arena.free_held(payload, tag);
        }
        for word in [self.ledger(), self.entries(), self.astray(), self.payload()] {
            word.store(0, Relaxed);
        }
        // PAIRS: record-state
        let _ = self.state().compare_exchange(of(FREEING, me), EMPTY, SeqCst, Relaxed);
    }

    /// Frees the blocks that the record holds besides its value. Where the value's block is gone already they are, too: it is
    /// freed last. An entry that is garbage names what is held by somebody else; a ledger that is garbage ends with the block.
    fn free_further(self, payload: u64, tag: Tag, me: Owner) {
        let ledger = self.ledger().load(Relaxed);
        let (first, stride) = (ledger >> 32, (ledger & u64::from(u32::MAX)).max(8));
        let end = self.arena.capacity_held(payload, tag).unwrap_or(0) as u64;
        let places = (first..end.saturating_sub(7)).step_by(stride as usize);
        for at in places.zip(0..self.entries().load(Relaxed)).map(|(at, _)| payload + at) {
            if !at.is_multiple_of(8) || self.arena.pointer(at, 8).is_err() {
                break;
            }
            let offset = self.arena.mapping().atomic(at as usize).load(Relaxed);
            if offset != payload {
                self.arena.free_held(offset, tag);
            }
        }
        if self.astray().load(Relaxed) != 0 {
            self.arena.sweep_tag(tag, me.into(), payload);
        }
    }

    /// Says where in the value the offsets of further blocks may stand: in `count` words, `stride` bytes apart.
    pub(super) fn set_ledger(self, first: u32, stride: u32, count: u64) {
        self.ledger().store(u64::from(first) << 32 | u64::from(stride), Relaxed);
        self.entries().store(count, Release);
    }

    pub(super) fn mark_astray(self) {
        self.astray().store(1, SeqCst);
    }

    /// Does for a dead process what it did not come to do.
    pub(super) fn release(self, dead: Owner, me: Owner) {
        let state = self.state().load(SeqCst); // PAIRS: record-state
        if state == of(MAKING, dead) || state == of(FREEING, dead) {
            self.clear_bit(dead);
            // PAIRS: record-state
            if self
                .state()
                .compare_exchange(state, of(FREEING, me), SeqCst, Relaxed)
                .is_ok()
            {
                self.dispose(me);
            }
            return;
        }
        if state == of(DYING, dead) {
            let _ = self.state().compare_exchange(state, LIVE, SeqCst, Relaxed); // PAIRS: record-state
        }
        self.clear_bit(dead);
        self.free_if_unheld(me);
    }

    pub(super) fn set_bit(self, owner: Owner) {
        self.holders(owner.index() / 64)
            .fetch_or(1 << (owner.index() % 64), SeqCst); // PAIRS: record-holders
    }

    pub(super) fn has_bit(self, owner: Owner) -> bool {
        // PAIRS: record-holders
        self.holders(owner.index() / 64).load(SeqCst) & 1 << (owner.index() % 64) != 0
    }

    fn clear_bit(self, owner: Owner) {
        if self.has_bit(owner) {
            self.holders(owner.index() / 64)
                .fetch_and(!(1 << (owner.index() % 64)), SeqCst); // PAIRS: record-holders
        }
    }

    fn is_held(self) -> bool {
        (0..HOLDER_WORDS).any(|word| self.holders(word).load(SeqCst) != 0) // PAIRS: record-holders
    }

    pub(super) fn number(self) -> usize {
        self.number
    }

    pub(super) fn id(self) -> u64 {
        self.id_word().load(SeqCst)
    }

    pub(super) fn handle(self) -> Handle {
        Handle {
            offset: (self.arena.geometry().records_at + self.number * RECORD) as u64,
            id: self.id(),
            len: self.len_word().load(Relaxed),
        }
    }

    /// The value's block, elements and layout; for a holder.
    pub(super) fn contents(self) -> (u64, u64, u64) {
        (
            self.payload().load(Relaxed),
            self.len_word().load(Relaxed),
            self.layout().load(Relaxed),
        )
    }

    pub(super) fn tag(self) -> Option<Tag> {
        Tag::record(self.number)
    }

    fn state(self) -> &'a AtomicU64 {
        self.word(0)
    }

    fn id_word(self) -> &'a AtomicU64 {
        self.word(1)
    }

    fn payload(self) -> &'a AtomicU64 {
        self.word(2)
    }

    fn len_word(self) -> &'a AtomicU64 {
        self.word(3)
    }

    fn layout(self) -> &'a AtomicU64 {
        self.word(4)
    }

    fn ledger(self) -> &'a AtomicU64 {
        self.word(5)
    }

    fn entries(self) -> &'a AtomicU64 {
        self.word(6)
    }

    fn astray(self) -> &'a AtomicU64 {
        self.word(7)
    }

    fn holders(self, word: usize) -> &'a AtomicU64 {
        self.word(8 + word)
    }

    #[cfg(feature = "fuzzing")]
    pub(crate) fn words(self) -> impl Iterator<Item = &'a AtomicU64> {
        (0..RECORD / 8).map(move |index| self.word(index))
    }

    fn word(self, index: usize) -> &'a AtomicU64 {
        debug_assert!(index < RECORD / 8);
        self.arena
            .mapping()
            .atomic(self.arena.geometry().records_at + self.number * RECORD + index * 8)
    }
}
