use offspring_sync::primitive::{AtomicU64, Ordering, full_fence_after_rmw};

use super::Bell;

/// Where the workers of a pool learn of one board, and its caller of them.
///
/// A board may be freed when it is neither announced here nor named by any worker's [`Hazard`]. A worker names a board
/// in its hazard and *then* looks whether it is still announced; the caller withdraws the announcement and *then* looks
/// at the hazards. Each side writes its own word before it reads the other's, in one total order (`SeqCst`
/// read-modify-writes), so at least one of the two sees the other: the worker that the board is gone, or the caller
/// that the worker is there.
#[repr(C)]
#[derive(Debug)]
pub struct Slot {
    /// The board that can be worked on, as a number that is not 0; 0 for none. Written by the owner of the pool alone.
    board: AtomicU64,
    /// Rung when a worker leaves the board, or has died in it.
    pub event: Bell,
}

/// The board that one worker may be touching; 0 for none. Written by that worker while it lives, then by the owner of
/// the pool.
#[repr(transparent)]
#[derive(Debug)]
pub struct Hazard(AtomicU64);

impl Slot {
    /// A slot without a board.
    pub const fn new() -> Self {
        Self {
            board: AtomicU64::new(0),
            event: Bell::new(),
        }
    }

    /// Announces a board that is laid out.
    pub fn announce(&self, board: u64) {
        // PAIRS: board-announced
        self.board.store(board, Ordering::Release);
    }

    /// Takes the announcement back. The board may be freed once [`Hazard::names`] is false for every worker.
    pub fn withdraw(&self) {
        self.board.swap(0, Ordering::SeqCst);
        full_fence_after_rmw();
    }

    /// Lets a worker touch the board that is announced, if there is one, until it [leaves](Self::leave) it.
    #[inline]
    pub fn enter(&self, hazard: &Hazard) -> Option<u64> {
        let board = self.board.load(Ordering::Acquire);
        if board == 0 {
            return None;
        }
        hazard.0.swap(board, Ordering::SeqCst);
        full_fence_after_rmw();
        // PAIRS: board-announced
        if self.board.load(Ordering::SeqCst) == board {
            return Some(board);
        }
        self.leave(hazard, board, false);
        None
    }

    /// Ends a worker's stay in a board, and tells the caller if the worker did something or the caller waits for it to
    /// go.
    pub fn leave(&self, hazard: &Hazard, board: u64, worked: bool) {
        // PAIRS: board-left
        hazard.0.swap(0, Ordering::SeqCst);
        full_fence_after_rmw();
        if worked || self.board.load(Ordering::SeqCst) != board {
            self.event.ring();
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

impl Hazard {
    /// A worker that touches nothing.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// True if the worker may be touching `board`.
    pub fn names(&self, board: u64) -> bool {
        // PAIRS: board-left
        self.0.load(Ordering::SeqCst) == board
    }

    /// The board that the worker may be touching; 0 for none.
    pub fn board(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Lets go of the board that a dead worker named.
    pub fn clear(&self) {
        self.0.swap(0, Ordering::SeqCst);
    }
}

impl Default for Hazard {
    fn default() -> Self {
        Self::new()
    }
}
