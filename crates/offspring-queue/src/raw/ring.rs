//! A bounded queue of many producers and many consumers, in which any of them may be killed at any instruction.
//!
//! Nobody owns the queue, only slots, and a slot's one word says who: whatever is held is found by looking at it. There is
//! no head and no tail that somebody could hold and die with; positions are remembered, by each handle for itself and in two
//! shared hints, and looked up in the slots.
//!
//! ```text
//! state of a slot   lap:32 | tag:30 | state:2
//!
//!             claim (P)               publish (P)            take
//! EMPTY(l) ----CAS----> WRITING(l,P) ----store----> READY(l) ----CAS----------------------------> EMPTY(l+1)
//!                           |                        |   ^                                             ^
//!                           | P dead: CAS by         |   |  C dead: CAS by anybody;                    |
//!                           | anybody: a hole        |   |  C gives back: store                        |
//!                           |                        CAS--> LEASED(l,C) ---------- done: store (C) ----+
//!                           +--------------------------------------------------------------------------+
//! ```
//!
//! **Claims are ordered** (I1): position p is claimed only after p-1 was, as a producer's cursor passes a position only when
//! it saw it claimed. Hence (I2) when p is claimed, every position up to p-N is out of the ring. **Removal is not ordered**:
//! leases end in any order, and a hole may be recovered before older messages are taken. So a consumer whose cursor lags
//! behind jumps by what I2 allows, never by what it sees removed.
//!
//! **A copy that is thrown away.** A taker copies the payload and only then changes READY(l) to EMPTY(l+1). READY(l) never
//! comes back once it is gone, and who writes next must have seen EMPTY(l+1): a CAS that succeeds proves that nobody wrote
//! during the copy. A taker that is killed holds nothing: the message is in the ring, or was received.
//!
//! **Blocks.** A large message is a block of the arena that the slot names. While it lies in the queue the queue's own record
//! holds it, neither its sender nor its receiver. The slot's `kind`, which only the slot's owner writes, says
//!
//! ```text
//! NONE     nothing; so it is whenever the slot is EMPTY, or INLINE
//! INLINE   the message is in the slot
//! BLOCK    the slot names a block; from before the queue holds it until after
//! TAKING   its owner is taking the block out of the queue, or has done so
//! ```
//!
//! A block is taken out as `TAKING; queue -> process; NONE; EMPTY(l+1)`, each step after the one before. Whoever recovers a
//! slot first becomes its owner, then does the same. A slot found in TAKING was left by one that died in between: whether the
//! block was taken cannot be told, for by now it may be in transit again elsewhere, so it is left alone, and the queue is
//! marked: blocks astray are freed with it. (This takes a death within two steps of a receiver or a recoverer.)
//!
//! **Waking.** A message is published by a plain store, and its sender then looks whether a receiver sleeps: without a fence of its
//! own, as a receiver has all processors pass one before it sleeps (see [`Mode::Asymmetric`](offspring_sync::primitive::Mode)).
//! All other changes are read-modify-writes, which are fences themselves.
//!
//! See "Crash-safe queues" in ARCHITECTURE.md for the failure table.

use offspring_sync::Tag;
use offspring_sync::primitive::{AtomicU64, Ordering};
use offspring_sync::raw::Lives;

use super::word::{
    BLOCK, EMPTY, INLINE, KIND, LEASED, NONE, READY, RETURNS_LAP, RETURNS_LAP_MASK, RETURNS_MOST, RETURNS_TAG, STATE,
    TAG_IN_RETURNS, TAKING, WRITING, ahead, claimed, lap_of, owned, tag_of, word,
};
use super::{Place, Position, Steps};

/// How many positions are passed between two updates of a hint.
const HINT_EVERY: u32 = 64;

/// Why an attempt led to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// The ring is full, or empty.
    Waiting,
    /// The way is blocked by a slot that this member holds.
    Behind(Tag),
    /// The slot's word cannot be one: somebody overwrote it.
    Corrupted {
        /// Which slot.
        index: u32,
        /// What it holds.
        word: u64,
    },
}

/// How a message was received.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in the copy, and the slot is empty.
    Copied,
    /// It is leased to the caller at this position, as it names a block.
    Leased(Position),
}

/// What an owner word says.
enum Owner {
    Alive(Tag),
    Dead(Tag),
}

/// The operations on a ring; see the head of this file.
#[derive(Debug)]
pub struct Ring<'a, P, L> {
    pub(super) place: &'a P,
    lives: &'a L,
}

impl<'a, P: Place, L: Lives> Ring<'a, P, L> {
    /// The ring at `place`, whose owners are members of `lives`.
    #[inline]
    pub const fn new(place: &'a P, lives: &'a L) -> Self {
        Self { place, lives }
    }

    /// The kind of an inline message, with anything in the upper 62 bits.
    pub const fn inline_kind(more: u64) -> u64 {
        more << 2 | INLINE
    }

    /// The kind of a message in a block, with anything in the upper 62 bits.
    pub const fn block_kind(more: u64) -> u64 {
        more << 2 | BLOCK
    }

    /// Whether a kind is that of a message in a block.
    #[inline]
    pub const fn is_block(kind: u64) -> bool {
        kind & KIND == BLOCK
    }

    // ------------------------------------------------------------------------------------------------------- producers

    /// Sends a message: claims the next slot, lets `fill` write it, publishes it and wakes a consumer.
    ///
    /// `cursor` is the caller's own: a position up to which everything was claimed.
    ///
    /// # Errors
    /// When there is no room, or a slot is damaged; `fill` was not called.
    #[inline]
    pub fn send(&self, cursor: &AtomicU64, me: Tag, fill: impl FnOnce(u32)) -> Result<(), Blocked> {
        let at = self.claim(cursor, me)?;
        self.publish(at, fill);
        Ok(())
    }

    #[inline]
    fn publish(&self, at: Position, fill: impl FnOnce(u32)) {
        fill(at.index());
        // PAIRS: slot-published
        self.state(at).store(word(at.lap(), READY), Ordering::Release);
        self.place.arrivals().notify_after_store(self.place.fences());
    }

    /// Remembers that `at` is claimed.
    #[inline]
    fn claimed(&self, cursor: &AtomicU64, at: Position) {
        let next = at.next(self.place.slots());
        cursor.store(next.word(), Ordering::Relaxed);
        if next.index().is_multiple_of(HINT_EVERY) {
            self.place.tail_hint().store(at.word(), Ordering::Relaxed);
        }
    }

    /// Sends a message if the next slot is free for it: the quick way of [`send`](Self::send), which knows what else can be done.
    #[inline]
    pub fn send_next(&self, cursor: &AtomicU64, me: Tag, fill: impl FnOnce(u32)) -> bool {
        let at = Position::from_word(cursor.load(Ordering::Relaxed));
        let free = word(at.lap(), EMPTY);
        let mine = owned(at.lap(), me, WRITING);
        // PAIRS: slot-emptied
        let claimed = self
            .state(at)
            .compare_exchange(free, mine, Ordering::SeqCst, Ordering::Relaxed);
        if claimed.is_err() {
            return false;
        }
        self.claimed(cursor, at);
        self.publish(at, fill);
        true
    }

    #[inline]
    fn claim(&self, cursor: &AtomicU64, me: Tag) -> Result<Position, Blocked> {
        let slots = self.place.slots();
        let mut at = Position::from_word(cursor.load(Ordering::Relaxed));
        let mut steps = Steps::new(slots);
        loop {
            let lap = at.lap();
            // Acquire: whoever emptied the slot has read what we are about to overwrite.
            // PAIRS: slot-emptied
            let found = match self.state(at).compare_exchange(
                word(lap, EMPTY),
                owned(lap, me, WRITING),
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => {
                    self.claimed(cursor, at);
                    return Ok(at);
                }
                Err(found) => found,
            };
            if steps.are_too_many() {
                return Err(corrupted(at.index(), found));
            }
            match ahead(found, lap) {
                0 => at = at.next(slots),
                laps if laps > 0 => at = at.next(slots).max(claimed(found, at).next(slots)),
                // A slot is never two laps behind a position whose predecessors were claimed.
                laps if laps < -1 => match self.stray(cursor, self.place.tail_hint()) {
                    Some(hint) => at = hint,
                    None => return Err(corrupted(at.index(), found)),
                },
                _ => {
                    cursor.store(at.word(), Ordering::Relaxed);
                    match found & STATE {
                        READY if tag_of(found).is_none() => return Err(Blocked::Waiting),
                        WRITING | LEASED => match self.owner(found, at.index())? {
                            Owner::Alive(tag) => return Err(Blocked::Behind(tag)),
                            Owner::Dead(tag) => self.recover(at.index(), found, tag, me),
                        },
                        // An older position was never claimed: no cursor passes one, so that somebody wrote this word.
                        _ => return Err(corrupted(at.index(), found)),
                    }
                }
            }
        }
    }

    // ------------------------------------------------------------------------------------------------------- consumers

    /// Receives the oldest message that nobody holds. `copy` copies the payload of a slot to where the caller wants it and
    /// says of which kind it is; it may be called several times, and only what the last call copied counts.
    ///
    /// # Errors
    /// When there is no message, or a slot is damaged.
    #[inline]
    pub fn take(&self, cursor: &AtomicU64, me: Tag, mut copy: impl FnMut(u32) -> u64) -> Result<Taken, Blocked> {
        self.find(cursor, me, |at, seen| {
            let kind = copy(at.index());
            let next = if Self::is_block(kind) {
                owned(at.lap(), me, LEASED)
            } else {
                word(at.lap().wrapping_add(1), EMPTY)
            };
            // Release: the loads of the copy come before; whoever writes next acquires this. SeqCst: `notify` follows.
            // PAIRS: slot-emptied
            self.state(at)
                .compare_exchange(seen, next, Ordering::SeqCst, Ordering::Relaxed)
                .ok()?;
            if Self::is_block(kind) {
                return Some((Taken::Leased(at), false));
            }
            self.emptied();
            Some((Taken::Copied, true))
        })
    }

    /// Receives the next message if it is there and can only be an inline one: the quick way of [`take`](Self::take), which knows
    /// what else can be done. `copy` copies the payload; what it copied counts if the answer is true.
    #[inline]
    pub fn take_next(&self, cursor: &AtomicU64, copy: impl FnOnce(u32)) -> bool {
        let at = Position::from_word(cursor.load(Ordering::Relaxed));
        let ready = word(at.lap(), READY);
        // PAIRS: slot-published
        if self.state(at).load(Ordering::SeqCst) != ready {
            return false;
        }
        copy(at.index());
        let emptied = word(at.lap().wrapping_add(1), EMPTY);
        // PAIRS: slot-emptied
        let taken = self
            .state(at)
            .compare_exchange(ready, emptied, Ordering::SeqCst, Ordering::Relaxed);
        if taken.is_err() {
            return false;
        }
        let next = at.next(self.place.slots());
        self.removed(cursor, next, next);
        self.emptied();
        true
    }

    /// Remembers that everything before `oldest` is out, having got what stands before `next`.
    #[inline]
    fn removed(&self, cursor: &AtomicU64, oldest: Position, next: Position) {
        cursor.store(oldest.word(), Ordering::Relaxed);
        if next.index().is_multiple_of(HINT_EVERY) {
            self.place.head_hint().store(oldest.word(), Ordering::Relaxed);
        }
    }

    /// Leases the oldest message that nobody holds: it stays in its slot until [`finish`](Self::finish) or
    /// [`give_back`](Self::give_back), and others get it when the caller dies before.
    ///
    /// # Errors
    /// When there is no message, or a slot is damaged.
    #[inline]
    pub fn lease(&self, cursor: &AtomicU64, me: Tag) -> Result<Position, Blocked> {
        self.find(cursor, me, |at, seen| {
            // PAIRS: slot-published
            self.state(at)
                .compare_exchange(seen, owned(at.lap(), me, LEASED), Ordering::SeqCst, Ordering::Relaxed)
                .ok()?;
            Some((at, false))
        })
    }

    /// Looks for READY slots from the cursor on, in order, and offers them to `grab` until it says what it got, and whether
    /// the slot is empty now.
    #[inline]
    fn find<R>(
        &self,
        cursor: &AtomicU64,
        me: Tag,
        mut grab: impl FnMut(Position, u64) -> Option<(R, bool)>,
    ) -> Result<R, Blocked> {
        let slots = self.place.slots();
        // Everything before `oldest` is out of the ring; `at` is beyond it once a lease was stepped over.
        let mut oldest = Position::from_word(cursor.load(Ordering::Relaxed));
        let mut at = oldest;
        let mut behind = None;
        let mut steps = Steps::new(slots);
        let blocked = |oldest: Position, behind: Option<Tag>| {
            cursor.store(oldest.word(), Ordering::Relaxed);
            Err(behind.map_or(Blocked::Waiting, Blocked::Behind))
        };
        loop {
            // PAIRS: slot-published
            let found = self.state(at).load(Ordering::SeqCst);
            if found == word(at.lap(), READY) {
                let Some((got, emptied)) = grab(at, found) else {
                    continue;
                };
                let next = at.next(slots);
                if at == oldest && emptied {
                    oldest = next;
                }
                self.removed(cursor, oldest, next);
                return Ok(got);
            }
            if steps.are_too_many() {
                return Err(corrupted(at.index(), found));
            }
            match ahead(found, at.lap()) {
                laps if laps > 0 => {
                    let next = at.next(slots);
                    if at == oldest {
                        // All positions up to one lap before the newest claimed one are out (I2).
                        let out = claimed(found, at);
                        oldest = next.max(Position::new(out.lap().wrapping_sub(1), out.index()).next(slots));
                        at = oldest;
                    } else {
                        at = next;
                    }
                }
                0 => match found & STATE {
                    // Nothing later is claimed (I1).
                    EMPTY if tag_of(found).is_none() => return blocked(oldest, behind),
                    state @ (WRITING | LEASED) => match self.owner(found, at.index())? {
                        Owner::Dead(tag) => self.recover(at.index(), found, tag, me),
                        // What comes later must not overtake it.
                        Owner::Alive(tag) if state == WRITING => return blocked(oldest, behind.or(Some(tag))),
                        Owner::Alive(tag) => {
                            behind = behind.or(Some(tag));
                            at = at.next(slots);
                        }
                    },
                    _ => return Err(corrupted(at.index(), found)),
                },
                // Every slot is leased.
                _ if at != oldest => return blocked(oldest, behind),
                // A slot is never behind a position whose predecessors are out.
                _ => match self.stray(cursor, self.place.head_hint()) {
                    Some(hint) => (oldest, at, behind) = (hint, hint, None),
                    None => return Err(corrupted(at.index(), found)),
                },
            }
        }
    }

    /// What a cursor that cannot be right starts over from: it has rested while the laps went half around, or somebody
    /// overwrote a word.
    #[cold]
    fn stray(&self, cursor: &AtomicU64, hint: &AtomicU64) -> Option<Position> {
        let hint = self.hint(hint);
        let known = cursor.swap(hint.word(), Ordering::Relaxed);
        (known != hint.word()).then_some(hint)
    }

    /// Ends a lease: the message is done with. Gives the block that it named, which is the caller's process's now.
    ///
    /// False, and nothing is done, when the caller does not hold the slot.
    pub fn finish(&self, at: Position, me: Tag) -> Option<P::Block> {
        if self.state(at).load(Ordering::Relaxed) != owned(at.lap(), me, LEASED) {
            return None;
        }
        let block = self.clear(at);
        self.emptied();
        block
    }

    /// Gives a leased message back: the next receiver gets it, before those that came later.
    pub fn give_back(&self, at: Position, me: Tag) {
        if self.state(at).load(Ordering::Relaxed) != owned(at.lap(), me, LEASED) {
            return;
        }
        self.count_return(at.index(), at.lap(), None);
        // PAIRS: slot-published
        self.state(at).swap(word(at.lap(), READY), Ordering::SeqCst);
        self.place.arrivals().notify();
    }

    /// How often the message that the caller has leased was given back by others who had leased it, or died with it.
    pub fn returns(&self, at: Position) -> u32 {
        let returns = self.place.returns(at.index()).load(Ordering::Relaxed);
        if returns >> RETURNS_LAP == u64::from(at.lap()) & RETURNS_LAP_MASK {
            (returns & RETURNS_MOST) as u32
        } else {
            0
        }
    }

    /// Whether no message is in the ring: none that can be received, and none that somebody holds.
    ///
    /// # Errors
    /// Why not.
    pub fn is_at_rest(&self, cursor: &AtomicU64, me: Tag) -> Result<(), Blocked> {
        match self.find(cursor, me, |_, _| Some(((), false))) {
            Ok(()) => Err(Blocked::Waiting),
            Err(Blocked::Waiting) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Forgets where the caller's cursors were, in favour of the shared hints: for one that has waited for long.
    pub fn refresh(&self, tail: &AtomicU64, head: &AtomicU64) {
        tail.store(self.hint(self.place.tail_hint()).word(), Ordering::Relaxed);
        head.store(self.hint(self.place.head_hint()).word(), Ordering::Relaxed);
    }

    /// A position out of shared memory, which may be garbage.
    fn hint(&self, hint: &AtomicU64) -> Position {
        let at = Position::from_word(hint.load(Ordering::Relaxed));
        if at.index() < self.place.slots() {
            at
        } else {
            Position::new(at.lap(), 0)
        }
    }

    // -------------------------------------------------------------------------------------------------------- recovery

    /// Does for the dead owner of a slot what it did not come to do. Anybody may, several at once, and may die in it.
    #[cold]
    fn recover(&self, index: u32, seen: u64, dead: Tag, me: Tag) {
        let lap = lap_of(seen);
        let at = Position::new(lap, index);
        let kind = if self.place.has_blocks() {
            // Stable: only its owner writes it, and what the dead wrote is visible since its death was. If the slot has been
            // recovered since, the CAS below fails.
            self.place.kind(index).load(Ordering::Relaxed) & KIND
        } else {
            INLINE
        };
        let become_owner = |state| {
            // PAIRS: slot-emptied
            self.state(at)
                .compare_exchange(seen, owned(lap, me, state), Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
        };
        let done = match seen & STATE {
            // Never published: a hole. Not EMPTY(l), as later positions may be claimed.
            WRITING if kind != BLOCK && kind != TAKING => self
                .state(at)
                .compare_exchange(
                    seen,
                    word(lap.wrapping_add(1), EMPTY),
                    Ordering::SeqCst,
                    Ordering::Relaxed,
                )
                .is_ok(), // PAIRS: slot-emptied
            WRITING => become_owner(WRITING) && self.clear_and_free(at),
            // It died while it took the block, or after: the message was received.
            _ if kind == NONE || kind == TAKING => become_owner(LEASED) && self.clear_and_free(at),
            _ => {
                self.count_return(index, lap, Some(dead));
                // PAIRS: slot-published
                self.state(at)
                    .compare_exchange(seen, word(lap, READY), Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
            }
        };
        if done {
            self.place.arrivals().notify_all();
            self.place.departures().notify_all();
            if let Some(rest) = self.place.rest() {
                rest.notify_all();
            }
        }
    }

    fn clear_and_free(&self, at: Position) -> bool {
        if let Some(block) = self.clear(at) {
            self.place.free(block);
        }
        true
    }

    /// Takes the block out of a slot that the caller owns, and opens the slot for the next lap.
    fn clear(&self, at: Position) -> Option<P::Block> {
        let mut block = None;
        if self.place.has_blocks() {
            let kind = self.place.kind(at.index());
            match kind.load(Ordering::Relaxed) & KIND {
                BLOCK => {
                    kind.store(TAKING, Ordering::Release);
                    block = self.place.withdraw(at.index());
                    kind.store(NONE, Ordering::Release);
                }
                TAKING => {
                    self.place.mark_astray();
                    kind.store(NONE, Ordering::Release);
                }
                _ => {}
            }
        }
        // PAIRS: slot-emptied
        self.state(at)
            .swap(word(at.lap().wrapping_add(1), EMPTY), Ordering::SeqCst);
        block
    }

    #[inline]
    fn emptied(&self) {
        self.place.departures().notify();
        if let Some(rest) = self.place.rest() {
            rest.notify();
        }
    }

    /// Counts that the message came back: once for each death, however many recover it. Before the slot is READY again, so
    /// that the next holder sees it.
    fn count_return(&self, index: u32, lap: u32, dead: Option<Tag>) {
        let returns = self.place.returns(index);
        let seen = returns.load(Ordering::Relaxed);
        let tag = dead.map_or(0, |tag| u64::from(tag.bits())) << RETURNS_TAG;
        let lap = (u64::from(lap) & RETURNS_LAP_MASK) << RETURNS_LAP;
        let same_lap = seen >> RETURNS_LAP == lap >> RETURNS_LAP;
        let same_tag = seen & TAG_IN_RETURNS == tag;
        if dead.is_some() && same_lap && same_tag {
            return;
        }
        let count = if same_lap { (seen & RETURNS_MOST) + 1 } else { 1 };
        let next = lap | tag | count.min(RETURNS_MOST);
        // If it fails, another recoverer counted the same death, or the slot has moved on and the word is not read any more.
        let _ = returns.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn owner(&self, found: u64, index: u32) -> Result<Owner, Blocked> {
        let tag = tag_of(found).ok_or_else(|| corrupted(index, found))?;
        let life = self.lives.life(tag).ok_or_else(|| corrupted(index, found))?;
        Ok(if life.dead { Owner::Dead(tag) } else { Owner::Alive(tag) })
    }

    pub(super) fn is_held_by_the_dead(&self, found: u64) -> bool {
        tag_of(found)
            .and_then(|tag| self.lives.life(tag))
            .is_none_or(|life| life.dead)
    }

    #[inline]
    pub(super) fn state(&self, at: Position) -> &AtomicU64 {
        self.place.state(at.index())
    }
}

#[cold]
const fn corrupted(index: u32, word: u64) -> Blocked {
    Blocked::Corrupted { index, word }
}
