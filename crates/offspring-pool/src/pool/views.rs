// UNSAFETY: keeps addresses of archived results together with the memory they lie in.
#![expect(unsafe_code, reason = "results are read in place in shared memory")]

use std::fmt;
use std::ops::Index;
use std::ptr::NonNull;
use std::sync::Arc;

use offspring_queue::Message;
use rkyv::Archived;

use super::active::ActiveBoard;
use crate::error::Result;

/// The results of a [`map_views`](super::Pool::map_views) call, read in place where the workers wrote them.
///
/// Nothing is copied or rebuilt; the memory goes back to the arena when this is dropped.
pub struct Views<R: Message> {
    /// Where the results lie, in memory that `board` holds.
    results: Vec<NonNull<Archived<R>>>,
    board: Option<Arc<ActiveBoard>>,
}

// SAFETY: the results do not change any more, and `Views` gives out shared references only.
unsafe impl<R: Message<Archived: Sync>> Send for Views<R> {}
// SAFETY: as for `Send`.
unsafe impl<R: Message<Archived: Sync>> Sync for Views<R> {}

impl<R: Message> Views<R> {
    pub(crate) fn empty() -> Self {
        Self {
            results: Vec::new(),
            board: None,
        }
    }

    /// Collects the places of a board's results; the first failure, if there is one, is the error.
    pub(crate) fn new(board: Arc<ActiveBoard>, count: usize) -> Result<Self> {
        let mut results = Vec::with_capacity(count);
        let mut failed = None;
        board.outcomes::<R>(&mut |_, outcome| match outcome {
            Ok(archived) => results.extend(archived.iter().map(NonNull::from)),
            Err(error) if failed.is_none() => failed = Some(error),
            Err(_) => {}
        });
        failed.map_or(
            Ok(Self {
                results,
                board: Some(board),
            }),
            Err,
        )
    }

    /// How many results there are.
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// The result of the item at `index`.
    pub fn get(&self, index: usize) -> Option<&Archived<R>> {
        // SAFETY: a worker archived the result there and published it; `board` keeps the memory as long as `self`.
        self.results.get(index).map(|at| unsafe { at.as_ref() })
    }

    /// The results in the order of their items.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Archived<R>> + DoubleEndedIterator {
        // SAFETY: as in `get`.
        self.results.iter().map(|at| unsafe { at.as_ref() })
    }
}

impl<R: Message> Index<usize> for Views<R> {
    type Output = Archived<R>;

    fn index(&self, index: usize) -> &Archived<R> {
        match self.get(index) {
            Some(result) => result,
            None => panic!("there is no result {index} among {}", self.len()),
        }
    }
}

impl<R: Message> fmt::Debug for Views<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views")
            .field("len", &self.len())
            .field("board", &self.board)
            .finish()
    }
}
