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
    /// Runs of results, each with the index of its first, in the order of the items; in memory that `board` holds.
    runs: Vec<(usize, NonNull<[Archived<R>]>)>,
    len: usize,
    board: Option<Arc<ActiveBoard>>,
}

// SAFETY: the results do not change any more, and `Views` gives out shared references only.
unsafe impl<R: Message<Archived: Sync>> Send for Views<R> {}
// SAFETY: as for `Send`.
unsafe impl<R: Message<Archived: Sync>> Sync for Views<R> {}

impl<R: Message> Views<R> {
    pub(crate) fn empty() -> Self {
        Self {
            runs: Vec::new(),
            len: 0,
            board: None,
        }
    }

    /// Collects the places of a board's results; the first failure, if there is one, is the error.
    pub(crate) fn new(board: Arc<ActiveBoard>) -> Result<Self> {
        let mut runs = Vec::new();
        let mut len = 0;
        let mut failed = None;
        board.outcomes::<R>(&mut |first, outcome| match outcome {
            Ok(archived) => {
                runs.push((first, NonNull::from(archived)));
                len += archived.len();
            }
            Err(error) if failed.is_none() => failed = Some(error),
            Err(_) => {}
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Self {
                runs,
                len,
                board: Some(board),
            }),
        }
    }

    /// How many results there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The result of the item at `index`.
    pub fn get(&self, index: usize) -> Option<&Archived<R>> {
        let behind = self.runs.partition_point(|&(first, _)| first <= index);
        let (first, run) = self.runs.get(behind.checked_sub(1)?)?;
        // SAFETY: workers archived the results there and published them; `board` keeps the memory as long as `self`.
        unsafe { run.as_ref() }.get(index - first)
    }

    /// The results in the order of their items.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Archived<R>> + DoubleEndedIterator {
        // SAFETY: as in `get`.
        let runs = self.runs.iter().map(|(_, run)| unsafe { run.as_ref() });
        Iter {
            results: runs.flatten(),
            left: self.len,
        }
    }
}

/// The results of many runs, of which it is known how many they are.
struct Iter<I> {
    results: I,
    left: usize,
}

impl<I: Iterator> Iterator for Iter<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let next = self.results.next()?;
        self.left -= 1;
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<I: DoubleEndedIterator> DoubleEndedIterator for Iter<I> {
    fn next_back(&mut self) -> Option<I::Item> {
        let next = self.results.next_back()?;
        self.left -= 1;
        Some(next)
    }
}

impl<I: Iterator> ExactSizeIterator for Iter<I> {}

impl<R: Message> Index<usize> for Views<R> {
    type Output = Archived<R>;

    fn index(&self, index: usize) -> &Archived<R> {
        match self.get(index) {
            Some(result) => result,
            None => panic!("there is no result {index} among {}", self.len),
        }
    }
}

impl<R: Message> fmt::Debug for Views<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views")
            .field("len", &self.len)
            .field("board", &self.board)
            .finish()
    }
}
