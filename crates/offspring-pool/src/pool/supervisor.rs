use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};
use offspring_process::ExitStatus;
use offspring_sync::primitive::Ordering;
use parking_lot::MutexGuard;

use super::crew::{Crew, GRACE, Phase, State, Worker};
use super::header::RETIRED;
use crate::kin::release;

/// How many workers may fail to become ready, one after the other, until the pool gives up; while others are at work,
/// it only starts no more for a while.
const START_FAILURES: u32 = 5;

/// How long no worker is started after so many failures.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the supervisor waits before it looks again at what it cannot be woken for.
const TICK: Duration = Duration::from_millis(20);

impl Crew {
    /// Sleeps until a worker ends, then settles what it had in hand and starts another; until the pool is closed and
    /// the last worker is gone. On no task's path.
    pub(super) fn supervise(&self, epoll: &Epoll) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            // An interrupted wait is one without events.
            let ready = epoll.wait(&mut events, self.timeout()).unwrap_or(0);
            let mut state = self.state.lock();
            for event in &events[..ready] {
                match event.data() {
                    u64::MAX => drop(self.alarm.read()),
                    index => self.bury(&mut state, index as usize),
                }
            }
            state
                .leftovers
                .retain(|active| self.shared.is_touched(active.board.offset()));
            if state.deadline.is_none() && state.pause.is_none_or(|end| end <= Instant::now()) {
                self.replace_missing(epoll, &mut state);
            }
            if state.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                state.deadline = Some(Instant::now() + GRACE);
                for worker in state.workers.iter().flatten() {
                    // A worker that cannot be signalled is gone.
                    let _ = worker.child.kill();
                }
            }
            if state.deadline.is_some() && state.workers.iter().all(Option::is_none) {
                state.leftovers.clear();
                state.finished = true;
                drop(state);
                self.changed.notify_all();
                return;
            }
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let state = self.state.lock();
        let again = !state.leftovers.is_empty() || state.workers.iter().any(Option::is_none);
        let deadline = state
            .deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match again.then_some(TICK).into_iter().chain(deadline).min() {
            Some(wait) => (wait.as_millis().min(60_000) as u16 + 1).into(),
            None => EpollTimeout::NONE,
        }
    }

    /// Settles what a worker leaves behind that has ended.
    fn bury(&self, state: &mut MutexGuard<'_, State>, index: usize) {
        let status = match state.workers.get(index) {
            // Reaped behind our back: gone all the same, only nobody knows how.
            Some(Some(worker)) => worker.child.wait().unwrap_or(ExitStatus::Code(-1)),
            _ => return,
        };
        let Some(Worker { child, owner }) = state.workers[index].take() else {
            return;
        };
        let cell = &self.shared.cells()[index];
        let ready = cell.was_ready();
        let retired = cell.stage.load(Ordering::Acquire) == RETIRED;
        let hazard = cell.hazard.board();
        let mut boards = state.boards.iter().flatten().chain(&state.leftovers);
        let touched = boards.find(|active| active.board.offset() == hazard).cloned();
        if let Some(active) = &touched {
            active.board.settle_outputs(self.arena, index, owner);
            // Workers that the pool itself has ended are no failures of their items: the calls fail as a whole.
            if state.check_alive().is_ok() {
                let death = (child.pid(), &status);
                active.settle(owner, &cell.progress, death, self.recipe.retries);
            }
        }
        cell.reset();
        // Only now: the sweep frees what the worker owned, and `settle` had to tell apart what was handed over.
        release(owner);
        if let Some(active) = touched {
            self.shared.header().bell.ring();
            self.shared.header().slots[active.slot()].event.ring();
        }
        if ready {
            state.start_failures = 0;
        } else if state.deadline.is_none() && !retired {
            if matches!(status, ExitStatus::Panic(_)) {
                self.give_up(state, format!("the initializer of the pool's workers {status}"));
            } else {
                self.start_failed(state, || {
                    format!("{START_FAILURES} workers in a row ended before they were ready; the last one {status}")
                });
            }
        }
    }

    fn replace_missing(&self, epoll: &Epoll, state: &mut MutexGuard<'_, State>) {
        for index in 0..state.workers.len() {
            if state.workers[index].is_some() {
                continue;
            }
            match self.start_worker(epoll, index) {
                Ok(worker) => state.workers[index] = Some(worker),
                Err(error) => {
                    self.start_failed(state, || {
                        format!("a worker of the pool died and cannot be replaced: {error}")
                    });
                    return;
                }
            }
        }
    }

    /// Counts a worker that was never ready. Too many in a row are the pool's end, unless somebody is still at work: what
    /// hinders the others, a lack of memory or of processes, may pass.
    fn start_failed(&self, state: &mut MutexGuard<'_, State>, reason: impl FnOnce() -> String) {
        state.start_failures += 1;
        if state.start_failures < START_FAILURES {
            return;
        }
        let mut others = state.workers.iter().zip(self.shared.cells());
        if others.any(|(worker, cell)| worker.is_some() && cell.was_ready()) {
            state.pause = Some(Instant::now() + PAUSE);
        } else {
            self.give_up(state, reason());
        }
    }

    fn give_up(&self, state: &mut MutexGuard<'_, State>, reason: String) {
        state.phase = Phase::Broken(reason);
        self.end_workers(state);
        self.changed.notify_all();
    }
}
