//! Which process uses an end of a pair, of all that have a copy of it.
//!
//! ```text
//! seat    owner:32 | turn:31 | travels:1
//!
//! FREE(t)       owner 0: the first that uses its copy has it
//! USED(o,t)     process o uses it
//! TRAVELS(o,t)  o has put it into a message: the first that takes it out has it
//!
//!              first use: CAS             put into a message: CAS (o)
//! FREE(t) -------------------> USED(o,t+1) -------------------> TRAVELS(o,t+1) --- taken out by p: CAS ---> USED(p,t+2)
//!    ^                          |     ^                            |
//!    +---- o forks: CAS (o) ----+     +-- not sent after all: CAS -+
//! ```
//!
//! A copy knows the turn at which it was made, and is good as long as that turn lasts: so an end has one user at any time,
//! whatever was forked, sent twice or kept. Only its user can take an end out of USED, and does so between two operations; a fork
//! that other threads are there to see leaves it where it is. So an operation looks at the seat once, when it begins.
//!
//! A seat says who may; who is there, and lives, stands in the cells of `peers.rs`, of which only the user's counts while there is
//! one.

use std::{fs, io};

use offspring_shm::{Owner, family};
use offspring_sync::primitive::{AtomicU64, Ordering};

use crate::core::Core;
use crate::peers::{self, Side};

/// What the seat holds when a pair is made.
pub(crate) const FRESH: u64 = 0;

const TRAVELS: u64 = 1;
const TURN: u64 = 2;
const TURNS: u64 = u32::MAX as u64 & !TRAVELS;

/// The process that uses the end, or has sent it.
pub(crate) fn user_of(seat: u64) -> Option<Owner> {
    Owner::from_raw((seat >> 32) as u32)
}

/// The word of an end on its way.
pub(crate) const fn travelling(seat: u64) -> u64 {
    seat | TRAVELS
}

fn next(seat: u64, user: Owner) -> u64 {
    u64::from(user.raw()) << 32 | seat.wrapping_add(TURN) & TURNS
}

const fn freed(seat: u64) -> u64 {
    seat & TURNS
}

impl Core {
    #[inline]
    pub(crate) fn seat(&self, side: Side) -> &AtomicU64 {
        &self.header().seats[side as usize]
    }

    /// The thread that was last known to use a side: a tag, or 0.
    pub(crate) fn user(&self, side: Side) -> &AtomicU64 {
        &self.header().users[side as usize]
    }

    /// Makes sure that this process may use a side, of which its copy knows the word `known`; gives the word by which it is known
    /// from now on.
    ///
    /// # Errors
    /// When another process has it.
    pub(crate) fn sit(&self, side: Side, known: u64) -> io::Result<u64> {
        let me = family::me()?;
        let seat = self.seat(side);
        // PAIRS: seat-changed
        let found = seat.load(Ordering::SeqCst);
        if found == known && user_of(found) == Some(me) {
            return Ok(known);
        }
        if found == freed(known) && user_of(found).is_none() {
            let mine = next(found, me);
            // Also where the fork found no cell for this process.
            self.appear(side, me)?;
            // PAIRS: seat-changed
            if seat
                .compare_exchange(found, mine, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
            {
                return Ok(mine);
            }
        }
        Err(self.taken(seat.load(Ordering::SeqCst), me))
    }

    #[cold]
    fn taken(&self, seat: u64, me: Owner) -> io::Error {
        let message = match user_of(seat) {
            Some(owner) if owner == me && seat & TRAVELS != 0 => {
                "this end was sent in a message that nobody has received yet".to_string()
            }
            Some(owner) if owner == me => {
                "this end was sent, and this process received it again: use that one".to_string()
            }
            Some(owner) => match self.arena().process_of(owner) {
                Some((pid, _)) => format!(
                    "process {pid} uses this end: send it, or let that process drop its copy before the first use"
                ),
                None => "a process that has ended used this end".to_string(),
            },
            None => "this end has passed through other hands since this copy was made".to_string(),
        };
        io::Error::new(io::ErrorKind::PermissionDenied, message)
    }

    /// Notes that this process has put the end, which it uses as `seat`, into a message.
    pub(crate) fn give(&self, side: Side, seat: u64) -> io::Result<Owner> {
        let me = self.pass(side)?;
        // PAIRS: seat-changed
        let left = self
            .seat(side)
            .compare_exchange(seat, travelling(seat), Ordering::SeqCst, Ordering::SeqCst);
        match left {
            Ok(_) => Ok(me),
            Err(found) => {
                self.arrive(side, me);
                Err(self.taken(found, me))
            }
        }
    }

    /// Takes an end, of which this process has a handle already, out of the message that holds it under this word.
    ///
    /// # Errors
    /// When somebody has taken it before, or its sender took it back.
    pub(crate) fn receive(&self, side: Side, travelling: u64) -> io::Result<u64> {
        let me = family::me()?;
        let from = user_of(travelling).filter(|_| travelling & TRAVELS != 0);
        let Some(from) = from else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the message says that an end came as {travelling:#x}, which is no end that was sent"),
            ));
        };
        let mine = next(travelling & !TRAVELS, me);
        // PAIRS: seat-changed
        self.seat(side)
            .compare_exchange(travelling, mine, Ordering::SeqCst, Ordering::SeqCst)
            .map_err(|_| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    "this end was received from this message before: it has one user at a time",
                )
            })?;
        // Its sender may have died meanwhile, and the end been given up: it is not.
        self.appear(side, me)?;
        self.arrive(side, from);
        Ok(mine)
    }

    /// Takes a handle back that `from`, this process, had put into a message which was not sent.
    pub(crate) fn take_back(&self, side: Side, from: Owner) {
        if !self.shape().exclusive {
            return self.arrive(side, from);
        }
        let seat = self.seat(side);
        let found = seat.load(Ordering::SeqCst);
        // PAIRS: seat-changed
        if user_of(found) == Some(from)
            && found & TRAVELS != 0
            && seat
                .compare_exchange(found, found & !TRAVELS, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        {
            self.arrive(side, from);
        }
    }

    /// Whether a side that nobody uses yet never will be: this process alone has a copy, as a fork leaves one, and no thread but the
    /// calling one, which is about to wait for that side for ever.
    pub(crate) fn is_out_of_reach(&self, side: Side) -> bool {
        let me = family::me().ok();
        let others = |cell: &AtomicU64| {
            let seen = cell.load(Ordering::SeqCst);
            seen != 0 && peers::owner_of(seen) != me
        };
        user_of(self.seat(side).load(Ordering::SeqCst)).is_none()
            && !self.cells(side).iter().any(others)
            && is_single_threaded()
    }

    /// Lets this process and the child that it is about to fork have the end, whoever uses it first. Only while there is one
    /// thread: another may be in the middle of an operation.
    pub(crate) fn offer(&self, side: Side) {
        let seat = self.seat(side);
        let found = seat.load(Ordering::SeqCst);
        if found & TRAVELS == 0 && family::me().is_ok_and(|me| user_of(found) == Some(me)) {
            // PAIRS: seat-changed
            let _ = seat.compare_exchange(found, freed(found), Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

/// Whether this process has only the calling thread.
pub(crate) fn is_single_threaded() -> bool {
    fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}
