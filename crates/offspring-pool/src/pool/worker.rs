// UNSAFETY: runs task functions over arguments in shared memory.
#![expect(unsafe_code, reason = "hands archived arguments to task functions")]

use std::io;
use std::os::unix::process::parent_id;
use std::time::{Duration, Instant};

use offspring_process::{Arguments, EntryPoint};
use offspring_queue::{Sink, Supply};
use offspring_shm::{Arena, Owner, family};
use offspring_sync::primitive::{Ordering, spin_loop};
use rkyv::rancor::Strategy;
use rkyv::ser::Serializer;
use rkyv::ser::allocator::Arena as Scratch;
use rkyv::ser::sharing::Share;

use super::board::Board;
use super::header::{READY, RETIRED, SLOTS, SharedPool, WorkerCell};
use super::outputs::Outputs;
use crate::protocol::{ChunkState, Ending};
use crate::start::{Start, owner_from};
use crate::task::{self, ChunkRun};

/// Where the processes of a pool start.
pub(crate) static WORKER: EntryPoint = EntryPoint::new("pool worker", main);

/// How long an idle worker sleeps at most before it looks whether its parent is still there.
const NAP: Duration = Duration::from_secs(1);

/// How long a worker looks for the next board before it sleeps: less than a wake-up costs.
const SPIN: Duration = Duration::from_micros(14);

/// Exit code of a worker that could not set itself up.
const SET_UP_FAILED: i32 = 78;

fn main(mut arguments: Arguments) -> i32 {
    match Worker::set_up(&mut arguments) {
        Ok(mut worker) => worker.run(),
        Err(error) => {
            eprintln!("offspring: a pool worker could not set itself up: {error}");
            SET_UP_FAILED
        }
    }
}

struct Worker {
    arena: &'static Arena,
    me: Owner,
    index: usize,
    pool: SharedPool,
    cell: &'static WorkerCell,
    scratch: Scratch,
    parent: u32,
    /// Leave after so many items; 0 for never.
    most_tasks: u64,
    /// See [`SharedPool::is_crowded`].
    crowded: bool,
}

impl Worker {
    fn set_up(arguments: &mut Arguments) -> io::Result<Self> {
        let parent = parent_id();
        let [pool, index, most_tasks, initializer, argument] = Start::receive(arguments)?.words();
        let arena = family::arena()?;
        let pool = SharedPool::open(arena, pool)?;
        let index = index as usize;
        let no_cell = || io::Error::new(io::ErrorKind::InvalidData, format!("the pool has no worker {index}"));
        let cell = pool.cells().get(index).ok_or_else(no_cell)?;
        if initializer != 0 {
            task::run(arena, initializer, argument)?;
        }
        cell.stage.store(READY, Ordering::Release);
        let crowded = pool.is_crowded();
        let (me, scratch) = (family::me()?, Scratch::new());
        Ok(Self {
            arena,
            me,
            index,
            pool,
            cell,
            scratch,
            parent,
            most_tasks,
            crowded,
        })
    }

    fn run(&mut self) -> i32 {
        let header = self.pool.header();
        let mut idle_since = None;
        loop {
            let heard = header.bell.heard();
            let mut worked = false;
            for step in 0..SLOTS {
                // Each worker starts at another slot, so that concurrent calls share the workers.
                worked |= self.visit((self.index + step) % SLOTS);
            }
            if self.is_worn_out() {
                self.cell.stage.store(RETIRED, Ordering::Release);
                return 0;
            }
            if worked {
                idle_since = None;
                continue;
            }
            if header.closing.load(Ordering::Acquire) != 0 {
                return 0;
            }
            if !self.crowded && idle_since.get_or_insert_with(Instant::now).elapsed() < SPIN {
                spin_loop();
                continue;
            }
            header.bell.wait(heard, Instant::now() + NAP);
            if parent_id() != self.parent {
                // The kernel would have ended us, had the task not closed the lifeline with all other descriptors.
                return 0;
            }
        }
    }

    fn is_worn_out(&self) -> bool {
        self.most_tasks != 0 && self.cell.tasks.load(Ordering::Relaxed) >= self.most_tasks
    }

    /// Works on the board of a slot until no chunk is left; true if there was anything to do.
    fn visit(&mut self, slot: usize) -> bool {
        if self.is_worn_out() {
            return false;
        }
        let slot = &self.pool.header().slots[slot];
        let Some(offset) = slot.enter(&self.cell.hazard) else {
            return false;
        };
        let worked = match Board::open(self.arena, offset, self.pool.cells().len()) {
            Ok(board) if board.rounds().is_spent() => false,
            Ok(board) => self.work(&board),
            Err(_) => false,
        };
        slot.leave(&self.cell.hazard, offset, worked);
        worked
    }

    fn work(&mut self, board: &Board) -> bool {
        let rounds = board.rounds();
        let round = rounds.current();
        let plan = *board.plan();
        let found = board
            .task(self.arena)
            .and_then(|found| Ok((found, owner_from(plan.caller)?)));
        let ((table, inputs), caller) = match found {
            Ok(found) => found,
            Err(error) => {
                // The caller checked all of it before it announced the board.
                eprintln!("offspring: a board cannot be read: {error}");
                std::process::abort();
            }
        };
        let workers = self.pool.cells().len();
        let wanted = plan.inputs_len as usize / workers;
        let mut outputs = Outputs::new(self.arena, self.me, caller, board.output(self.index), wanted);
        let supply: &mut dyn Supply = &mut outputs;
        let mut serializer = Serializer::new(Sink::new(supply), self.scratch.acquire(), Share::new());
        let progress = &self.cell.progress;
        let mut worked = false;
        for index in order(board.words().len(), workers, self.index) {
            let word = &board.words()[index];
            let ChunkState::Ready { skip } = word.state() else {
                continue;
            };
            if rounds.is_cancelled() {
                break;
            }
            let (first, len) = board.chunk(index);
            progress.roots.store(0, Ordering::Relaxed);
            progress.failures.store(0, Ordering::Relaxed);
            progress.next.store(skip, Ordering::Relaxed);
            progress.chunk.store(index as u64, Ordering::Relaxed);
            if !word.claim(self.me.raw(), skip) {
                continue;
            }
            worked = true;
            let mut run = ChunkRun {
                inputs,
                first,
                skip: (skip as usize).min(len),
                len,
                stop: plan.stop != 0,
                rounds,
                progress,
                encoder: Strategy::wrap(&mut serializer),
            };
            // SAFETY: the board holds `items` archived arguments of this table's function, which nobody writes while
            // the board is up, and `chunk` gave a range of them.
            let end = match unsafe { table.chunk(&mut run) } {
                Ok(end) if end.abandoned => ChunkState::Ended { how: Ending::Abandoned },
                Ok(end) if end.failures == 0 => ChunkState::Done { roots: end.roots },
                Ok(end) => ChunkState::Ended {
                    how: Ending::Failures(end.failures),
                },
                Err(_) => ChunkState::Ended { how: Ending::NoMemory },
            };
            word.publish(end);
            let done = self.cell.tasks.load(Ordering::Relaxed) + (len as u64).saturating_sub(skip);
            self.cell.tasks.store(done, Ordering::Relaxed);
            if plan.stop != 0 && matches!(end, ChunkState::Ended { .. }) {
                rounds.cancel();
            }
            if self.most_tasks != 0 && done >= self.most_tasks {
                return true;
            }
        }
        rounds.spend(round);
        worked
    }
}

/// The order in which a worker looks through the chunks: its own part from the front, then the others' parts from
/// their ends, so that two workers meet only once, where the last chunk is.
fn order(chunks: usize, workers: usize, me: usize) -> impl Iterator<Item = usize> {
    let part = move |worker: usize| chunks * worker / workers..chunks * (worker + 1) / workers;
    part(me).chain((1..workers).flat_map(move |step| part((me + step) % workers).rev()))
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn every_worker_looks_at_every_chunk_once() {
        for workers in 1..6 {
            for chunks in [0, 1, 2, 5, 17] {
                for me in 0..workers {
                    let mut seen: Vec<usize> = order(chunks, workers, me).collect();
                    seen.sort_unstable();
                    assert!(
                        seen.into_iter().eq(0..chunks),
                        "worker {me} of {workers}, {chunks} chunks"
                    );
                }
            }
        }
    }
}
