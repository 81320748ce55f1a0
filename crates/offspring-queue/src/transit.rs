//! Handles that are being sent.
//!
//! Encoding a handle notes it as on its way from this process. If what it was encoded into is not sent after all, the note is
//! taken back: the letter keeps a journal of the notes that were made while it was encoded.
//!
//! Until a handle arrives its sender keeps the queue's memory, which nobody else may have: in a list that is looked through
//! whenever this process makes, takes or drops a handle.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use offspring_shm::Owner;

use crate::core::Core;
use crate::peers::Side;

type Pass = (Arc<Core>, Side, Owner);

std::thread_local! {
    /// What was noted since the innermost open journal began; `None` while none is open.
    static OPEN: RefCell<Option<Vec<Pass>>> = const { RefCell::new(None) };
}

/// The handles in one letter.
pub(crate) struct Journal {
    outer: Option<Option<Vec<Pass>>>,
    passes: Vec<Pass>,
}

impl Journal {
    /// Begins to keep account.
    pub(crate) fn open() -> Self {
        Self {
            outer: Some(OPEN.replace(Some(Vec::new()))),
            passes: Vec::new(),
        }
    }

    /// The journal of a letter in which nothing was encoded.
    pub(crate) const fn empty() -> Self {
        Self {
            outer: None,
            passes: Vec::new(),
        }
    }

    /// Stops keeping account: what was noted until now is what the letter holds.
    pub(crate) fn close(&mut self) {
        if let Some(outer) = self.outer.take() {
            self.passes = OPEN.replace(outer).unwrap_or_default();
        }
    }

    /// Whether the letter holds no handles.
    pub(crate) fn is_empty(&self) -> bool {
        self.passes.is_empty()
    }

    /// The letter was sent.
    pub(crate) fn commit(&mut self) {
        self.passes = Vec::new();
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
        for (core, side, from) in self.passes.drain(..) {
            core.take_back(side, from);
        }
    }
}

/// The queues of which this process has sent handles that have not arrived.
static KEPT: Mutex<Vec<Arc<Core>>> = Mutex::new(Vec::new());

/// Lets go of the queues whose handles have arrived.
pub(crate) fn let_go() {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let arrived: Vec<_> = kept.extract_if(.., |core| !core.has_handles_on_their_way()).collect();
    drop(kept);
    drop(arrived);
}

/// Notes that a handle was encoded.
pub(crate) fn note(core: &Arc<Core>, side: Side, from: Owner) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.iter().any(|known| Arc::ptr_eq(known, core)) {
        kept.push(Arc::clone(core));
    }
    drop(kept);
    OPEN.with_borrow_mut(|open| {
        if let Some(open) = open {
            open.push((Arc::clone(core), side, from));
        }
    });
}
