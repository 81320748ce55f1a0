// UNSAFETY: gives back the memory that the pool shares with its workers, when they are gone.
#![expect(unsafe_code, reason = "frees blocks of the arena")]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io, process, thread};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use offspring_process::{Child, Launcher};
use offspring_queue::Parcel;
use offspring_shm::{Arena, Block, Owner, family};
use offspring_sync::primitive::Ordering;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::active::ActiveBoard;
use super::header::{SLOTS, SharedPool};
use super::worker::WORKER;
use crate::error::{Error, Kind, Result};
use crate::kin::release;
use crate::ours::Ours;
use crate::start::Start;

/// How long idle workers have to leave when the pool closes, and busy ones to heed a SIGTERM.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// How long the end of a call waits for workers that are about to leave its board.
const PARTING: Duration = Duration::from_micros(50);

/// What the workers of a pool are made with.
pub(crate) struct Recipe {
    pub(crate) launcher: Launcher,
    /// After how many tasks a worker is replaced; 0 for never.
    pub(crate) most_tasks: u64,
    /// How often an item is tried again after its worker died.
    pub(crate) retries: u32,
    /// A function and its argument.
    pub(crate) initializer: Option<(u64, Ours<Parcel<()>>)>,
}

/// The owner's side of a pool: its workers, and the calls under way.
pub(crate) struct Crew {
    pub(crate) arena: &'static Arena,
    pub(crate) shared: SharedPool,
    /// See [`SharedPool::is_crowded`].
    pub(crate) crowded: bool,
    pub(super) recipe: Recipe,
    block: Block,
    pub(super) state: Mutex<State>,
    /// Signalled when a slot becomes free, when the phase changes and when the last worker is gone.
    pub(super) changed: Condvar,
    /// Wakes the supervisor.
    pub(super) alarm: EventFd,
    /// The supervisor's thread, until somebody has joined it.
    supervisor: Mutex<Option<JoinHandle<()>>>,
    /// The process that made the pool: a forked copy of it must not touch the workers.
    pid: u32,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) workers: Vec<Option<Worker>>,
    pub(super) boards: [Option<Arc<ActiveBoard>>; SLOTS],
    /// Boards whose call has ended while workers were still in it.
    pub(super) leftovers: Vec<Arc<ActiveBoard>>,
    /// Workers that died or could not be started, one after the other, before any was ready.
    pub(super) start_failures: u32,
    /// Until when no worker is started, after too many failures.
    pub(super) pause: Option<Instant>,
    /// When workers that should have left are killed.
    pub(super) deadline: Option<Instant>,
    /// True when the last worker and the supervisor are gone.
    pub(super) finished: bool,
}

pub(super) struct Worker {
    pub(super) child: Child,
    pub(super) owner: Owner,
}

#[derive(Debug)]
pub(super) enum Phase {
    Open,
    /// No new calls; the workers leave when the last call is done.
    Closed,
    /// No new calls, and those under way fail.
    Terminated,
    /// The pool gave up, for this reason.
    Broken(String),
}

impl Crew {
    /// Starts the workers and the supervisor.
    ///
    /// # Errors
    /// When one of them cannot be started; those that were are gone then.
    pub(crate) fn start(workers: usize, recipe: Recipe) -> Result<Arc<Self>> {
        let failed = |error| Error::os("cannot make a pool", error);
        let arena = family::arena().map_err(failed)?;
        let me = family::me().map_err(failed)?;
        let alarm = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let alarm = alarm.map_err(|errno| failed(errno.into()))?;
        let no_room = |error| Error::from(offspring_queue::EncodeError::OutOfMemory(error));
        let block = arena.allocate(me, SharedPool::size(workers)).map_err(no_room)?;
        let shared = match SharedPool::create(arena, block, workers) {
            Ok(shared) => shared,
            Err(error) => {
                // SAFETY: nobody knows of the block.
                unsafe { arena.free(block) };
                return Err(failed(error));
            }
        };
        let state = State {
            phase: Phase::Open,
            workers: Vec::with_capacity(workers),
            boards: [const { None }; SLOTS],
            leftovers: Vec::new(),
            start_failures: 0,
            pause: None,
            deadline: None,
            finished: false,
        };
        let crew = Arc::new(Self {
            arena,
            shared,
            crowded: shared.is_crowded(),
            recipe,
            block,
            state: Mutex::new(state),
            changed: Condvar::new(),
            alarm,
            supervisor: Mutex::new(None),
            pid: process::id(),
        });
        let started = crew.start_workers(workers).and_then(|epoll| {
            let supervised = Arc::clone(&crew);
            thread::Builder::new()
                .name("offspring-pool".into())
                .spawn(move || supervised.supervise(&epoll))
                .map_err(|error| Error::os("cannot start the supervisor of a pool", error))
        });
        match started {
            Ok(supervisor) => *crew.supervisor.lock() = Some(supervisor),
            Err(error) => {
                crew.dismiss();
                return Err(error);
            }
        }
        Ok(crew)
    }

    fn start_workers(&self, workers: usize) -> Result<Epoll> {
        let watch = || -> io::Result<Epoll> {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
            epoll.add(&self.alarm, EpollEvent::new(EpollFlags::EPOLLIN, u64::MAX))?;
            Ok(epoll)
        };
        let epoll = watch().map_err(|error| Error::os("cannot watch the workers of a pool", error))?;
        let mut state = self.state.lock();
        for index in 0..workers {
            let failed = |error| Error::os(format!("cannot start worker {} of {workers}", index + 1), error);
            let worker = self.start_worker(&epoll, index).map_err(failed)?;
            state.workers.push(Some(worker));
        }
        Ok(epoll)
    }

    pub(super) fn start_worker(&self, epoll: &Epoll, index: usize) -> io::Result<Worker> {
        let (task, argument) = match &self.recipe.initializer {
            Some((task, argument)) => (*task, argument.raw().1),
            None => (0, 0),
        };
        let words = [self.block.offset, index as u64, self.recipe.most_tasks, task, argument];
        let start = Start::new(&format!("PoolWorker-{}", index + 1), words);
        let owner = family::reserve_child()?;
        let child = start.launch(&self.recipe.launcher, &WORKER, owner)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, index as u64);
        if let Err(errno) = epoll.add(child.as_fd(), event) {
            // Dropping the child kills and reaps it.
            drop(child);
            release(owner);
            return Err(errno.into());
        }
        Ok(Worker { child, owner })
    }

    /// Ends every worker at once and gives back what they owned.
    fn dismiss(&self) {
        let workers: Vec<_> = self.state.lock().workers.drain(..).flatten().collect();
        for worker in &workers {
            // All are told before one is waited for. One that cannot be signalled is gone.
            let _ = worker.child.kill();
        }
        for Worker { child, owner } in workers {
            drop(child);
            release(owner);
        }
    }

    /// The pids of the workers that are there now.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.state
            .lock()
            .workers
            .iter()
            .flatten()
            .map(|worker| worker.child.pid())
            .collect()
    }

    /// True in the process that made the pool.
    pub(crate) fn is_mine(&self) -> bool {
        self.pid == process::id()
    }

    /// Announces a board to the workers; waits while all slots are taken.
    ///
    /// # Errors
    /// When the pool takes no calls.
    pub(crate) fn announce(&self, active: &Arc<ActiveBoard>) -> Result<()> {
        let mut state = self.state.lock();
        let slot = loop {
            state.check_open()?;
            if let Some(slot) = state.boards.iter().position(Option::is_none) {
                break slot;
            }
            self.changed.wait(&mut state);
        };
        active.announce_at(slot);
        state.boards[slot] = Some(Arc::clone(active));
        drop(state);
        let header = self.shared.header();
        header.slots[slot].announce(active.board.offset());
        header.bell.ring();
        Ok(())
    }

    /// Takes a board away from the workers. Those who stay in it, with a long task of a call that has failed, are
    /// waited for by the supervisor, not by the caller.
    pub(crate) fn withdraw(&self, active: &Arc<ActiveBoard>) {
        active.board.rounds().cancel();
        self.shared.header().slots[active.slot()].withdraw();
        let touched = self.is_touched_for_long(active);
        let mut state = self.state.lock();
        state.boards[active.slot()] = None;
        if touched {
            state.leftovers.push(Arc::clone(active));
            self.wake_supervisor();
        }
        self.close_if_done(&mut state);
        drop(state);
        self.changed.notify_all();
    }

    /// True if a worker stays in a board that was taken away. Most are just about to leave it, and memory that is
    /// given back at once is warm for the next call.
    fn is_touched_for_long(&self, active: &ActiveBoard) -> bool {
        let since = Instant::now();
        while self.shared.is_touched(active.board.offset()) {
            if since.elapsed() > PARTING {
                return true;
            }
            thread::yield_now();
        }
        false
    }

    /// An error if the pool takes no new calls.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.state.lock().check_open()
    }

    /// An error if calls that are under way cannot end any more.
    pub(crate) fn check_alive(&self) -> Result<()> {
        self.state.lock().check_alive()
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closed;
        }
        self.close_if_done(&mut state);
        drop(state);
        self.changed.notify_all();
    }

    fn close_if_done(&self, state: &mut MutexGuard<'_, State>) {
        if matches!(state.phase, Phase::Closed) && state.deadline.is_none() && state.boards.iter().all(Option::is_none)
        {
            state.deadline = Some(Instant::now() + GRACE);
            self.shared.header().closing.store(1, Ordering::Release);
            self.shared.header().bell.ring();
            self.wake_supervisor();
        }
    }

    pub(crate) fn terminate(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Open | Phase::Closed) {
            state.phase = Phase::Terminated;
            self.end_workers(&mut state);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Asks every worker to end; the supervisor kills those that do not.
    pub(super) fn end_workers(&self, state: &mut MutexGuard<'_, State>) {
        state.deadline = Some(Instant::now() + GRACE);
        self.shared.header().closing.store(1, Ordering::Release);
        self.shared.header().bell.ring();
        for worker in state.workers.iter().flatten() {
            // A worker that cannot be signalled is gone.
            let _ = worker.child.signal(libc::SIGTERM);
        }
        for slot in &self.shared.header().slots {
            slot.event.ring();
        }
        self.wake_supervisor();
    }

    /// Waits until the last worker is gone.
    ///
    /// # Errors
    /// When the pool is still open, has given up, or is another process's.
    pub(crate) fn join(&self) -> Result<()> {
        if !self.is_mine() {
            return Err(Error::invalid(
                "the pool belongs to the parent of this process, which joins it",
            ));
        }
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Open) {
            return Err(Error::invalid(
                "`join` on an open pool would wait for ever: call `close` or `terminate` first",
            ));
        }
        while !state.finished {
            self.changed.wait(&mut state);
        }
        drop(state);
        // With the thread go its descriptors, and this process may have no other and be about to fork. Whoever else
        // joins waits here for the lock. It has done all its work: how it ended says nothing.
        let mut supervisor = self.supervisor.lock();
        let _ = supervisor.take().map(JoinHandle::join);
        drop(supervisor);
        let state = self.state.lock();
        match state.phase {
            Phase::Broken(_) => state.check_alive(),
            _ => Ok(()),
        }
    }

    pub(super) fn wake_supervisor(&self) {
        // The counter cannot overflow: the supervisor resets it each time it wakes.
        let _ = self.alarm.write(1);
    }
}

impl State {
    /// An error, unless the pool takes new calls.
    fn check_open(&self) -> Result<()> {
        match self.phase {
            Phase::Closed => Err(Error::new(Kind::Closed("the pool is closed: it takes no more calls"))),
            _ => self.check_alive(),
        }
    }

    /// An error if calls under way cannot end any more.
    pub(super) fn check_alive(&self) -> Result<()> {
        match &self.phase {
            Phase::Open | Phase::Closed => Ok(()),
            Phase::Terminated => Err(Error::new(Kind::Closed("the pool was terminated"))),
            Phase::Broken(reason) => Err(Error::new(Kind::Broken(reason.clone()))),
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if self.is_mine() {
            // SAFETY: the last worker is gone, and this was the last handle.
            unsafe { self.arena.free(self.block) };
        }
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state.try_lock() {
            Some(state) => f
                .debug_struct("Crew")
                .field("phase", &state.phase)
                .field("workers", &state.workers.iter().flatten().count())
                .field("calls", &state.boards.iter().flatten().count())
                .finish_non_exhaustive(),
            None => f.write_str("Crew { .. }"),
        }
    }
}
