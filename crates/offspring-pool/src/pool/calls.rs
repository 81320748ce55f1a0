// UNSAFETY: gives back a block that nobody has heard of.
#![expect(unsafe_code, reason = "frees a block of the arena")]

use std::mem::needs_drop;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offspring_queue::{EncodeError, Message, Parcel, decode, decode_slice};
use offspring_shm::family;
use offspring_sync::primitive::spin_loop;

use super::active::ActiveBoard;
use super::board::{Board, Plan};
use super::crew::Crew;
use super::views::Views;
use crate::error::{Error, Result};
use crate::protocol::MAX_CHUNK;
use crate::task::{SpreadKind, TaskFn, TaskTable, admit};

/// How many chunks a call is cut into, at least, when there are items enough: many, so that a worker that draws the
/// long tasks does not keep the others waiting; yet a chunk's own cost of some 100 ns stays small.
const CHUNKS: usize = 1024;

/// How long a caller looks for the end of its call before it sleeps: less than a wake-up costs.
const SPIN: Duration = Duration::from_micros(14);

/// The longest sleep of a caller before it looks whether the pool is still alive.
const NAP: Duration = Duration::from_secs(1);

/// A pool's calls with an option set; from [`Pool::chunk_size`](super::Pool::chunk_size).
#[derive(Debug, Clone, Copy)]
pub struct Calls<'a> {
    crew: &'a Arc<Crew>,
    chunk_size: Option<usize>,
}

impl<'a> Calls<'a> {
    pub(crate) fn new(crew: &'a Arc<Crew>, chunk_size: Option<usize>) -> Self {
        Self { crew, chunk_size }
    }

    /// See [`Pool::map`](super::Pool::map).
    ///
    /// # Errors
    /// Those of [`Pool::map`](super::Pool::map), and when the chunk size is 0.
    pub fn map<F, A, R, K, I>(&self, function: F, items: I) -> Result<Vec<R>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: 'static,
        I: IntoIterator<Item = A>,
    {
        let Some((active, count)) = self.run(function, items, true)? else {
            return Ok(Vec::new());
        };
        let mut results = Vec::with_capacity(count);
        let mut failed = None;
        active.outcomes::<R>(&mut |_, outcome| {
            if failed.is_none() {
                let decoded = outcome.and_then(|archived| Ok(decode_slice(archived, &mut results)?));
                failed = decoded.err();
            }
        });
        failed.map_or(Ok(results), Err)
    }

    /// See [`Pool::map_all`](super::Pool::map_all).
    ///
    /// # Errors
    /// Those of [`Pool::map_all`](super::Pool::map_all), and when the chunk size is 0.
    pub fn map_all<F, A, R, K, I>(&self, function: F, items: I) -> Result<Vec<Result<R>>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: 'static,
        I: IntoIterator<Item = A>,
    {
        let Some((active, count)) = self.run(function, items, false)? else {
            return Ok(Vec::new());
        };
        let mut results = Vec::with_capacity(count);
        active.outcomes::<R>(&mut |_, outcome| match outcome {
            Ok(archived) => results.extend(archived.iter().map(|archived| Ok(decode(archived)?))),
            Err(error) => results.push(Err(error)),
        });
        Ok(results)
    }

    /// See [`Pool::map_views`](super::Pool::map_views).
    ///
    /// # Errors
    /// Those of [`Pool::map`](super::Pool::map), and when the chunk size is 0.
    pub fn map_views<F, A, R, K, I>(&self, function: F, items: I) -> Result<Views<R>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: 'static,
        I: IntoIterator<Item = A>,
    {
        match self.run(function, items, true)? {
            Some((active, _)) => Views::new(active),
            None => Ok(Views::empty()),
        }
    }

    /// See [`Pool::starmap`](super::Pool::starmap).
    ///
    /// # Errors
    /// Those of [`Pool::map`](super::Pool::map), and when the chunk size is 0.
    pub fn starmap<F, A, R, K, I>(&self, function: F, items: I) -> Result<Vec<R>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: SpreadKind + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map(function, items)
    }

    /// Lays out a board, lets the workers run it and takes it back; `None` if there are no items.
    fn run<F, A, R, K, I>(&self, function: F, items: I, stop: bool) -> Result<Option<(Arc<ActiveBoard>, usize)>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: 'static,
        I: IntoIterator<Item = A>,
    {
        admit(function);
        let crew = self.crew;
        if !crew.is_mine() {
            return Err(Error::invalid(
                "the pool belongs to the parent of this process: make one here",
            ));
        }
        crew.check_open()?;
        let items: Vec<A> = items.into_iter().collect();
        let count = items.len();
        let workers = crew.shared.cells().len();
        let chunk = chunk_size(self.chunk_size, count, workers)?;
        if items.is_empty() {
            return Ok(None);
        }
        let failed = |error| Error::os("cannot call the pool", error);
        let table = TaskTable::of::<F, A, R, K>();
        let task = table.identity().map_err(failed)?;
        let me = family::me().map_err(failed)?;
        let inputs = Parcel::<[A]>::encode_slice(crew.arena, me, &items)?;
        let plan = Plan {
            task,
            layout: table.layout(),
            inputs: inputs.raw().1,
            inputs_len: (count * size_of::<A::Archived>()) as u64,
            items: count as u64,
            chunk,
            caller: u64::from(me.raw()),
            stop: u64::from(stop),
        };
        let size = Board::size(&plan, workers).unwrap_or(usize::MAX);
        let block = crew.arena.allocate(me, size).map_err(EncodeError::from)?;
        let board = match Board::create(crew.arena, block, plan, workers) {
            Ok(board) => board,
            Err(error) => {
                // SAFETY: nobody knows of the block.
                unsafe { crew.arena.free(block) };
                return Err(failed(error));
            }
        };
        let active = Arc::new(ActiveBoard::new(crew.arena, board, block, inputs.erase()));
        crew.announce(&active)?;
        let announced = Announced { crew, active: &active };
        // An item may hold the last handle of something shared, which the workers have to take first. Plain data holds
        // nothing, and goes while they work.
        let kept = if const { needs_drop::<A>() } {
            items
        } else {
            drop(items);
            Vec::new()
        };
        let waited = wait(crew, &active);
        drop(announced);
        drop(kept);
        waited?;
        Ok(Some((active, count)))
    }
}

/// A board that the workers know of; dropping it takes it away from them, also when the caller unwinds.
struct Announced<'a> {
    crew: &'a Crew,
    active: &'a Arc<ActiveBoard>,
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.crew.withdraw(self.active);
    }
}

/// Waits until every chunk has ended, or the call is cancelled by its first failure.
fn wait(crew: &Crew, active: &ActiveBoard) -> Result<()> {
    let words = active.board.words();
    let event = &crew.shared.header().slots[active.slot()].event;
    let spin = if crew.crowded { Duration::ZERO } else { SPIN };
    let mut since = None;
    let mut over = 0;
    loop {
        let heard = event.heard();
        let more = words[over..].iter().take_while(|word| word.state().is_over()).count();
        over += more;
        if over == words.len() || active.board.rounds().is_cancelled() {
            return Ok(());
        }
        crew.check_alive()?;
        if more > 0 {
            since = None;
        }
        if since.get_or_insert_with(Instant::now).elapsed() < spin {
            spin_loop();
            continue;
        }
        event.wait(heard, Instant::now() + NAP);
    }
}

fn chunk_size(wanted: Option<usize>, items: usize, workers: usize) -> Result<u64> {
    match wanted {
        Some(0) => Err(Error::invalid(
            "a chunk of 0 items would never end: `chunk_size` must be at least 1",
        )),
        Some(wanted) => Ok((wanted as u64).min(MAX_CHUNK - 1)),
        None => Ok((items / CHUNKS.max(workers * 16)).max(1) as u64),
    }
}
