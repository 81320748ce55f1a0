// UNSAFETY: reads archived results and failure records that workers have published.
#![expect(unsafe_code, reason = "published results are read in place in shared memory")]

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::OnceLock;

use offspring_process::ExitStatus;
use offspring_queue::{DecodeError, Message, Parcel, decode};
use offspring_shm::{Arena, Block, Owner};
use offspring_sync::primitive::Ordering;
use parking_lot::Mutex;
use rkyv::Archived;

use super::board::Board;
use crate::error::{Error, Kind};
use crate::ours::Ours;
use crate::protocol::{ChunkState, Ending};
use crate::task::{Failure, Progress, Report};

/// The caller's side of a board: its memory, and what is known of chunks whose workers died.
pub(crate) struct ActiveBoard {
    pub(crate) board: Board,
    slot: OnceLock<usize>,
    arena: &'static Arena,
    block: Block,
    /// Held, since the board refers to it.
    inputs: Ours<Parcel<()>>,
    settled: Mutex<Settled>,
}

/// What became of a run of items, or of one.
pub(crate) type Outcome<'a, R> = Result<&'a [Archived<R>], Error>;

/// Chunks whose results lie one behind the other, as those that one worker has done in a row.
#[derive(Default)]
struct Run {
    first: usize,
    len: usize,
    roots: u64,
}

impl Run {
    /// Takes in the next chunk, if its results follow.
    #[inline]
    fn extend<R: Message>(&mut self, roots: u64, len: usize) -> bool {
        let follows = self.len > 0 && self.roots + (self.len * size_of::<Archived<R>>()) as u64 == roots;
        if follows {
            self.len += len;
        }
        follows
    }
}

#[derive(Default)]
struct Settled {
    /// By chunk, in the order of their items.
    pieces: HashMap<usize, Vec<Piece>>,
    /// How often an item's worker has died.
    deaths: HashMap<usize, u32>,
}

/// A run of items of one chunk that a dead worker had done, and how it died at the next one, if that is given up.
struct Piece {
    items: Range<usize>,
    roots: u64,
    failures: u64,
    death: Option<(u32, ExitStatus)>,
}

impl ActiveBoard {
    pub(crate) fn new(arena: &'static Arena, board: Board, block: Block, inputs: Parcel<()>) -> Self {
        Self {
            board,
            slot: OnceLock::new(),
            arena,
            block,
            inputs: Ours::new(inputs),
            settled: Mutex::default(),
        }
    }

    /// Notes where the workers are told of this board.
    pub(crate) fn announce_at(&self, slot: usize) {
        self.slot.get_or_init(|| slot);
    }

    /// Where the workers are told of this board.
    ///
    /// # Panics
    /// When it was not announced.
    pub(crate) fn slot(&self) -> usize {
        *self
            .slot
            .get()
            .expect("only boards that were announced have callers and workers")
    }

    /// Settles what a dead worker had in hand: keeps the results that it had completed, gives up the item at which it
    /// died (or lets it be tried again), and puts the rest of the chunk back. The process must be gone for good.
    pub(crate) fn settle(&self, worker: Owner, progress: &Progress, (pid, status): (u32, &ExitStatus), retries: u32) {
        let chunk = progress.chunk.load(Ordering::Relaxed) as usize;
        let Some(word) = self.board.words().get(chunk) else {
            return;
        };
        let ChunkState::Claimed { worker: claimer, skip } = word.state() else {
            return;
        };
        if claimer != worker.raw() {
            return;
        }
        let (first, len) = self.board.chunk(chunk);
        let from = (skip as usize).min(len);
        // PAIRS: progress
        let to = (progress.next.load(Ordering::Acquire) as usize).clamp(from, len);
        let roots = progress.roots.load(Ordering::Acquire);
        let failures = progress.failures.load(Ordering::Acquire);
        let stop = self.board.plan().stop != 0;
        let mut piece = Piece {
            items: from..to,
            roots,
            failures,
            death: None,
        };
        let mut settled = self.settled.lock();
        let rest = if to == len || (stop && failures != 0) {
            None
        } else {
            let deaths = settled.deaths.entry(first + to).or_default();
            *deaths += 1;
            if *deaths <= retries {
                Some(to)
            } else {
                piece.death = Some((pid, status.clone()));
                (!stop && to + 1 < len).then_some(to + 1)
            }
        };
        let failed = piece.death.is_some() || failures != 0;
        settled.pieces.entry(chunk).or_default().push(piece);
        let next = match rest {
            Some(skip) => ChunkState::Ready { skip: skip as u64 },
            None => ChunkState::Ended { how: Ending::Settled },
        };
        word.recover(worker.raw(), skip, next);
        drop(settled);
        // After the word: whoever sees the new number finds the chunk ready.
        self.board.rounds().raise();
        if failed && stop {
            self.board.rounds().cancel();
        }
    }

    /// Shows what became of the items, in their order: runs of results, and single failures; each with the index of its
    /// first item. Items that a cancelled call left undone are passed over; what does not lie where it should is a
    /// failure of its items.
    pub(crate) fn outcomes<'a, R: Message>(&'a self, show: &mut impl FnMut(usize, Outcome<'a, R>)) {
        let settled = self.settled.lock();
        let mut run = Run::default();
        for (index, word) in self.board.words().iter().enumerate() {
            let (first, len) = self.board.chunk(index);
            let state = word.state();
            if let (ChunkState::Done { roots }, true) = (state, settled.pieces.is_empty()) {
                if !run.extend::<R>(roots, len) {
                    self.show_run::<R>(&run, show);
                    run = Run { first, len, roots };
                }
                continue;
            }
            self.show_run::<R>(&std::mem::take(&mut run), show);
            let mut from = 0;
            for piece in settled.pieces.get(&index).into_iter().flatten() {
                from = piece.items.end;
                self.show_mixed::<R>(first, piece.items.clone(), piece.roots, piece.failures, show);
                if let Some((pid, status)) = &piece.death {
                    show(
                        first + from,
                        Err(Error::ended(*pid, status.clone(), Some(first + from))),
                    );
                    from += 1;
                }
            }
            match state {
                ChunkState::Done { roots } => self.show_results::<R>(first, from..len, roots, show),
                ChunkState::Ended {
                    how: Ending::Failures(at),
                } => {
                    let newest = self.failure(at);
                    let to = match newest {
                        Some(newest) if self.board.plan().stop != 0 => newest.item as usize + 1,
                        _ => len,
                    };
                    let roots = newest.map_or(0, |failure| failure.roots);
                    self.show_mixed::<R>(first, from..to.min(len), roots, at, show);
                }
                ChunkState::Ended { how: Ending::NoMemory } => {
                    (from..len).for_each(|item| show(first + item, Err(Error::no_room(Some(first + item)))));
                }
                ChunkState::Ended {
                    how: Ending::Settled | Ending::Abandoned,
                }
                | ChunkState::Ready { .. }
                | ChunkState::Claimed { .. } => {}
            }
        }
        self.show_run::<R>(&run, show);
    }

    /// Shows chunks whose results lie one behind the other.
    #[inline]
    fn show_run<'a, R: Message>(&'a self, run: &Run, show: &mut impl FnMut(usize, Outcome<'a, R>)) {
        if run.len > 0 {
            self.show_results::<R>(run.first, 0..run.len, run.roots, show);
        }
    }

    /// Shows items of which none has failed.
    #[inline]
    fn show_results<'a, R: Message>(
        &'a self,
        first: usize,
        items: Range<usize>,
        roots: u64,
        show: &mut impl FnMut(usize, Outcome<'a, R>),
    ) {
        match self.roots::<R>(roots, items.end) {
            Ok(results) => show(first + items.start, Ok(&results[items])),
            Err(_) => items.for_each(|item| {
                let reason = "it does not lie in the arena".into();
                let kind = Kind::Transfer {
                    reason,
                    out_of_memory: false,
                    item: Some(first + item),
                };
                show(first + item, Err(Error::new(kind)));
            }),
        }
    }

    /// Shows items of which some may have failed.
    fn show_mixed<'a, R: Message>(
        &'a self,
        first: usize,
        items: Range<usize>,
        roots: u64,
        failures: u64,
        show: &mut impl FnMut(usize, Outcome<'a, R>),
    ) {
        let mut failed = BTreeMap::new();
        let mut at = failures;
        // A chain that somebody bent into a ring ends here too.
        while let Some(failure) = self.failure(at).filter(|_| failed.len() <= items.end) {
            failed.insert(failure.item as usize, failure.report);
            at = failure.next;
        }
        let mut from = items.start;
        for (item, report) in failed.into_iter().filter(|(item, _)| items.contains(item)) {
            if from < item {
                self.show_results::<R>(first, from..item, roots, show);
            }
            show(first + item, Err(self.report(report, first + item)));
            from = item + 1;
        }
        if from < items.end {
            self.show_results::<R>(first, from..items.end, roots, show);
        }
    }

    fn roots<R: Message>(&self, offset: u64, len: usize) -> Result<&[Archived<R>], DecodeError> {
        let at = self
            .arena
            .pointer(offset, len * size_of::<Archived<R>>())
            .map_err(DecodeError::OutOfBounds)?
            .cast::<Archived<R>>();
        if !at.is_aligned() {
            let error = io::Error::new(io::ErrorKind::InvalidData, "results that are not aligned");
            return Err(DecodeError::OutOfBounds(error));
        }
        // SAFETY: a worker of this program's own image archived results there, item by item, and published them; only
        // items that are known to be complete are touched. The block belongs to the board, as `self` does.
        Ok(unsafe { NonNull::slice_from_raw_parts(at, len).as_ref() })
    }

    fn failure(&self, offset: u64) -> Option<Failure> {
        let at = self.arena.pointer(offset, size_of::<Failure>()).ok()?.cast::<Failure>();
        // SAFETY: in bounds and aligned; any bytes are a valid `Failure`, which consists of numbers.
        (offset != 0 && at.is_aligned()).then(|| unsafe { at.read() })
    }

    fn report(&self, offset: u64, item: usize) -> Error {
        let place = self.arena.pointer(offset, size_of::<Archived<Report>>());
        let at = match place.map(|at| at.cast::<Archived<Report>>()) {
            Ok(at) if at.is_aligned() => at,
            Ok(_) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "a report that is not aligned");
                return Error::from(DecodeError::OutOfBounds(error));
            }
            Err(error) => return Error::from(DecodeError::OutOfBounds(error)),
        };
        // SAFETY: a worker of this program's own image archived a report there before it chained the failure.
        let report = unsafe { at.as_ref() };
        decode::<Report>(report).map_or_else(Error::from, |report| report.into_error(Some(item)))
    }
}

impl Drop for ActiveBoard {
    fn drop(&mut self) {
        if !Ours::is_mine(&self.inputs) {
            return;
        }
        // SAFETY: the crew keeps a board as long as a worker may be in it, and views keep it as long as they are read.
        unsafe {
            self.board.free_outputs(self.arena);
            self.arena.free(self.block);
        }
    }
}

impl fmt::Debug for ActiveBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveBoard")
            .field("plan", self.board.plan())
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}
