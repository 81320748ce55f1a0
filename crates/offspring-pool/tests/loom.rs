//! Models of the protocol between a caller, its workers and the owner of a pool: every order of their steps, and a worker
//! that stops for ever before each of them.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p offspring-pool --release --test loom
//! ```
#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;
use offspring_pool::protocol::{Bell, ChunkState, ChunkWord, Hazard, Rounds, Slot};
use offspring_sync::primitive::model::{Mutant, defuse, expire_naps, sabotage, stop_at_step};
use offspring_sync::primitive::{AtomicU32, Ordering, UnsafeCell};

/// The one board of the models, as the number by which it is announced.
const BOARD: u64 = 64;

/// The words of a pool with one slot, and of its one board with `CHUNKS` chunks.
struct Pool<const CHUNKS: usize> {
    bell: Bell,
    closing: AtomicU32,
    slot: Slot,
    hazards: [Hazard; 2],
    rounds: Rounds,
    words: [ChunkWord; CHUNKS],
    /// Stands for the board's memory: workers read it while they are in the board, the caller writes it to free it.
    memory: UnsafeCell<()>,
    /// How often each chunk was run to its end; no part of the protocol.
    runs: [AtomicUsize; CHUNKS],
}

impl<const CHUNKS: usize> Pool<CHUNKS> {
    fn new() -> Arc<Self> {
        let pool = Arc::new(Self {
            bell: Bell::new(),
            closing: AtomicU32::new(0),
            slot: Slot::new(),
            hazards: [Hazard::new(), Hazard::new()],
            rounds: Rounds::new(),
            words: std::array::from_fn(|_| ChunkWord::new()),
            memory: UnsafeCell::new(()),
            runs: std::array::from_fn(|_| AtomicUsize::new(0)),
        });
        // A word of the model comes into being when it is first read: let that be here, before anybody else is there.
        pool.bell.heard();
        pool.closing.load(Ordering::Relaxed);
        pool.slot.event.heard();
        pool.slot.withdraw();
        pool.memory.with(|_| ());
        pool.hazards.iter().for_each(|hazard| assert_eq!(hazard.board(), 0));
        pool.rounds.is_spent();
        pool.words.iter().for_each(|word| assert!(!word.state().is_over()));
        pool
    }

    fn work_until_closed(&self, me: usize) {
        loop {
            let heard = self.bell.heard();
            if let Some(board) = self.slot.enter(&self.hazards[me]) {
                let worked = self.work(me);
                self.slot.leave(&self.hazards[me], board, worked);
                if worked {
                    continue;
                }
            }
            if self.closing.load(Ordering::Acquire) != 0 {
                return;
            }
            self.bell.wait(heard, far());
        }
    }

    fn work(&self, me: usize) -> bool {
        self.memory.with(|_| ());
        if self.rounds.is_spent() {
            return false;
        }
        let round = self.rounds.current();
        let mut worked = false;
        for (chunk, word) in self.words.iter().enumerate() {
            let ChunkState::Ready { skip } = word.state() else {
                continue;
            };
            if !word.claim(tag(me), skip) {
                continue;
            }
            worked = true;
            self.memory.with(|_| ());
            word.publish(ChunkState::Done { roots: BOARD });
            self.runs[chunk].fetch_add(1, Relaxed);
        }
        self.rounds.spend(round);
        worked
    }

    /// Announces the board, waits until every chunk is over, takes the board away from the workers and frees it.
    fn call(&self) {
        self.slot.announce(BOARD);
        self.bell.ring();
        self.wait_until(|| self.words.iter().all(|word| word.state().is_over()));
        self.slot.withdraw();
        self.wait_until(|| !self.hazards.iter().any(|hazard| hazard.names(BOARD)));
        self.memory.with_mut(|_| ());
    }

    fn wait_until(&self, done: impl Fn() -> bool) {
        loop {
            let heard = self.slot.event.heard();
            if done() {
                return;
            }
            self.slot.event.wait(heard, far());
        }
    }

    fn close(&self) {
        self.closing.store(1, Ordering::Release);
        self.bell.ring();
    }

    /// What the owner of the pool does when a worker is gone.
    fn bury(&self, dead: usize) {
        let touched = self.hazards[dead].board() == BOARD;
        if touched {
            for word in &self.words {
                if let ChunkState::Claimed { worker, skip } = word.state()
                    && worker == tag(dead)
                {
                    word.recover(worker, skip, ChunkState::Ready { skip });
                    self.rounds.raise();
                }
            }
        }
        self.hazards[dead].clear();
        if touched {
            self.bell.ring();
            self.slot.event.ring();
        }
    }
}

fn tag(worker: usize) -> u32 {
    worker as u32 + 1
}

/// A deadline: time stands still in the model, so that it only matters after a death.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

/// Runs a model in every order of its threads' steps in which a thread is interrupted at most `preemptions` times
/// without having to wait.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn two_workers_finish_a_call() {
    explore(2, || {
        let pool = Pool::<2>::new();
        let workers = [0, 1].map(|me| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.work_until_closed(me))
        });
        pool.call();
        pool.close();
        for worker in workers {
            worker.join().unwrap();
        }
        for runs in &pool.runs {
            assert_eq!(runs.load(Relaxed), 1);
        }
    });
}

#[test]
fn every_chunk_is_run_once_and_the_board_is_freed_after_the_last_look() {
    two_workers_finish_a_call();
}

/// One worker stops for ever before its `step`-th access; the other finishes the call. False if the first worker had
/// fewer steps in every order.
fn one_worker_dies_at(step: usize) -> bool {
    let died = std::sync::Arc::new(AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&died);
    // One: each of the worker's steps has its own exploration.
    explore(1, move || {
        let pool = Pool::<1>::new();
        let doomed = {
            let pool = Arc::clone(&pool);
            let died = std::sync::Arc::clone(&died);
            thread::spawn(move || {
                stop_at_step(step);
                let stopped = catch_unwind(AssertUnwindSafe(|| pool.work_until_closed(0))).is_err();
                defuse();
                if stopped {
                    died.fetch_add(1, Relaxed);
                    // From here on this thread is the owner of the pool, who knows that the worker is gone.
                    pool.bury(0);
                    expire_naps();
                }
            })
        };
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.work_until_closed(1))
        };
        pool.call();
        pool.close();
        other.join().unwrap();
        doomed.join().unwrap();
        assert!(matches!(pool.words[0].state(), ChunkState::Done { .. }));
        // Between its claim and its word the chunk may have been begun by the one that died; ended it was once.
        assert!(pool.runs[0].load(Relaxed) <= 1);
    });
    seen.load(Relaxed) > 0
}

#[test]
fn a_worker_that_dies_at_any_step_holds_nobody_up() {
    let mut step = 0;
    while one_worker_dies_at(step) {
        step += 1;
    }
    assert!(
        step > 12,
        "the model's worker has become shorter than the protocol: {step} steps"
    );
}

/// A broken door, named by the variable `MUTANT`; for [`mutants_are_caught`].
#[test]
#[ignore = "run by `mutants_are_caught`, each in a process of its own"]
fn two_workers_finish_a_call_with_a_mutant() {
    let name = std::env::var("MUTANT").expect("the variable MUTANT names the mutant");
    let (_, mutant) = MUTANTS
        .iter()
        .find(|(known, _)| *known == name)
        .expect("MUTANT is one of the list");
    sabotage(*mutant);
    two_workers_finish_a_call();
}

const MUTANTS: &[(&str, Mutant)] = &[
    ("a dropped wake", Mutant::NoWake),
    ("a wake for one instead of all", Mutant::WakeOne),
    ("a sleep that does not look", Mutant::SleepBlindly),
    ("a missing fence", Mutant::NoFence),
    ("a missing release", Mutant::NoRelease),
];

#[test]
fn mutants_are_caught() {
    // In processes of their own: a model that fails may abort.
    let succeeds = |name: &str| {
        let program = std::env::current_exe().unwrap();
        let test = ["--ignored", "--exact", "two_workers_finish_a_call_with_a_mutant"];
        let run = std::process::Command::new(program)
            .args(test)
            .env("MUTANT", name)
            .output()
            .unwrap();
        run.status.success()
    };
    for (name, _) in MUTANTS {
        assert!(!succeeds(name), "the model does not see {name}");
    }
}
