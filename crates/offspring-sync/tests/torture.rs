//! Processes that lock, write two words that must agree, unlock; killed at random instants, and started anew.
//!
//! `OFFSPRING_TORTURE_SECONDS` says how long, `OFFSPRING_TORTURE_SEED` repeats a run's random choices (not its timing), and
//! `OFFSPRING_TORTURE_PROCESSES` how many there are at a time. What must never happen:
//!
//! - a pair that does not agree is seen without `OwnerDied`;
//! - two are inside at once;
//! - a lock is lost: nobody can have it any more;
//! - somebody who lives makes no progress;
//! - a visit that was completed is not in the count.

mod support;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use offspring_shm::{Shared, SharedSlice};
use offspring_sync::{
    Barrier, BarrierError, BoundedSemaphore, Condvar, CountingSemaphore, LockError, Mutex, Once, ReentrantMutex,
    RwLock, Semaphore,
};
use offspring_testing::{run_single_threaded, watchdog};
use support::{Child, fork};

fn main() -> ExitCode {
    run_single_threaded(&[
        ("locks_survive_kills", locks_survive_kills),
        (
            "a_lock_that_drops_the_mark_is_caught",
            a_lock_that_drops_the_mark_is_caught,
        ),
    ])
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Dawdles, mostly not at all: widens the windows for the killer.
    fn dawdle(&mut self) {
        match self.below(40) {
            0 => std::thread::yield_now(),
            1..4 => (0..self.below(300)).for_each(|_| std::hint::spin_loop()),
            _ => {}
        }
    }
}

/// Two words that agree whenever nobody is inside.
type Pair = [u64; 2];

/// How many visitors of one lock have set out, have come back, and what went wrong.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Tally {
    MutexStarted,
    MutexDone,
    ReentrantStarted,
    ReentrantDone,
    RwLockStarted,
    RwLockDone,
    Deaths,
    BrokenBarriers,
    Initialised,
    Violations,
    Count,
}

struct World {
    mutex: Shared<Mutex<Pair>>,
    reentrant: Shared<ReentrantMutex<[AtomicU64; 2]>>,
    rwlock: Shared<RwLock<Pair, 3>>,
    semaphore: Shared<Semaphore>,
    bounded: Shared<BoundedSemaphore>,
    count: Shared<CountingSemaphore>,
    condvar: Shared<Condvar<2>>,
    barrier: Shared<Barrier>,
    once: Shared<Once>,
    tally: SharedSlice<AtomicU64>,
    /// One per process: grows as long as it gets on.
    progress: SharedSlice<AtomicU64>,
    /// Takes the mark off without a repair: the control.
    careless: bool,
}

impl World {
    fn new(processes: usize, careless: bool) -> Self {
        World {
            mutex: Shared::new(Mutex::new([0, 0])).unwrap(),
            reentrant: Shared::new(ReentrantMutex::new([AtomicU64::new(0), AtomicU64::new(0)])).unwrap(),
            rwlock: Shared::new(RwLock::with_readers([0, 0])).unwrap(),
            semaphore: Shared::new(Semaphore::new(2).unwrap()).unwrap(),
            bounded: Shared::new(BoundedSemaphore::new(1).unwrap()).unwrap(),
            count: Shared::new(CountingSemaphore::new(0)).unwrap(),
            condvar: Shared::new(Condvar::with_waiters()).unwrap(),
            barrier: Shared::new(Barrier::new(2).unwrap()).unwrap(),
            once: Shared::new(Once::new()).unwrap(),
            tally: SharedSlice::from_fn(Tally::Count as usize, |_| AtomicU64::new(0)).unwrap(),
            progress: SharedSlice::from_fn(processes, |_| AtomicU64::new(0)).unwrap(),
            careless,
        }
    }

    fn add(&self, what: Tally) {
        self.tally[what as usize].fetch_add(1, Ordering::SeqCst);
    }

    fn get(&self, what: Tally) -> u64 {
        self.tally[what as usize].load(Ordering::SeqCst)
    }

    fn violation(&self, what: &str) {
        if self.get(Tally::Violations) < 20 && !self.careless {
            eprintln!("violation in process {}: {what}", std::process::id());
        }
        self.add(Tally::Violations);
    }

    /// What a process does until it is killed.
    fn work(&self, process: usize, seed: u64) -> ! {
        let mut random = Random(seed | 1);
        loop {
            match random.below(if self.careless { 1 } else { 16 }) {
                0..5 => self.visit_mutex(&mut random),
                5..8 => self.visit_rwlock(&mut random),
                8..10 => self.visit_reentrant(&mut random),
                10 => self.take_permits(&mut random),
                11 => self.meet(&mut random),
                12..14 => self.tell_or_wait(&mut random),
                14 => self.pass_count(),
                _ => self.initialise(&mut random),
            }
            self.progress[process].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn visit_mutex(&self, random: &mut Random) {
        self.add(Tally::MutexStarted);
        let mut pair = match self.mutex.lock() {
            Ok(pair) => pair,
            Err(LockError::OwnerDied(mut pair)) => {
                self.add(Tally::Deaths);
                if !self.careless {
                    random.dawdle();
                    pair[1] = pair[0];
                }
                pair.mark_consistent();
                pair
            }
            Err(error) => return self.violation(&format!("mutex: {error}")),
        };
        if pair[0] != pair[1] {
            self.violation("a half-written pair under the mutex");
        }
        pair[0] += 1;
        let mine = pair[0];
        random.dawdle();
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        if pair[0] != mine || pair[1] != mine - 1 && !self.careless {
            self.violation("two owners of the mutex");
        }
        pair[1] = mine;
        drop(pair);
        self.add(Tally::MutexDone);
    }

    fn visit_reentrant(&self, random: &mut Random) {
        self.add(Tally::ReentrantStarted);
        let pair = match self.reentrant.lock() {
            Ok(pair) => pair,
            Err(LockError::OwnerDied(pair)) => {
                self.add(Tally::Deaths);
                pair[1].store(pair[0].load(Ordering::Relaxed), Ordering::Relaxed);
                pair.mark_consistent();
                pair
            }
            Err(error) => return self.violation(&format!("reentrant mutex: {error}")),
        };
        let mine = pair[0].load(Ordering::Relaxed) + 1;
        if pair[1].load(Ordering::Relaxed) != mine - 1 {
            self.violation("a half-written pair under the reentrant mutex");
        }
        pair[0].store(mine, Ordering::Relaxed);
        match self.reentrant.lock() {
            Ok(inner) => {
                random.dawdle();
                if inner[0].load(Ordering::Relaxed) != mine {
                    self.violation("two owners of the reentrant mutex");
                }
                inner[1].store(mine, Ordering::Relaxed);
            }
            Err(error) => self.violation(&format!("entered once but not twice: {error}")),
        }
        drop(pair);
        self.add(Tally::ReentrantDone);
    }

    fn visit_rwlock(&self, random: &mut Random) {
        if random.below(3) != 0 {
            match self.rwlock.read() {
                Ok(pair) => {
                    let first = pair[0];
                    random.dawdle();
                    if pair[0] != pair[1] || pair[0] != first {
                        self.violation("a pair that changes under a reader");
                    }
                }
                Err(LockError::OwnerDied(_)) => {}
                Err(error) => self.violation(&format!("read: {error}")),
            }
            return;
        }
        self.add(Tally::RwLockStarted);
        let mut pair = match self.rwlock.write() {
            Ok(pair) => pair,
            Err(LockError::OwnerDied(mut pair)) => {
                self.add(Tally::Deaths);
                pair[1] = pair[0];
                pair.mark_consistent();
                pair
            }
            Err(error) => return self.violation(&format!("write: {error}")),
        };
        if pair[0] != pair[1] {
            self.violation("a half-written pair under the rwlock");
        }
        pair[0] += 1;
        let mine = pair[0];
        random.dawdle();
        std::sync::atomic::compiler_fence(Ordering::SeqCst);
        if pair[0] != mine || pair[1] != mine - 1 {
            self.violation("two writers");
        }
        pair[1] = mine;
        drop(pair);
        self.add(Tally::RwLockDone);
    }

    fn take_permits(&self, random: &mut Random) {
        match self.semaphore.acquire() {
            Ok(_permit) => random.dawdle(),
            Err(error) => self.violation(&format!("semaphore: {error}")),
        }
        if let Err(error) = self.bounded.acquire() {
            return self.violation(&format!("bounded semaphore: {error}"));
        }
        random.dawdle();
        if let Err(error) = self.bounded.release() {
            self.violation(&format!("a permit was taken away: {error}"));
        }
    }

    fn meet(&self, random: &mut Random) {
        match self.barrier.wait_timeout(Duration::from_micros(random.below(3000))) {
            Ok(_) => {}
            Err(BarrierError::Unusable(error)) => self.violation(&format!("barrier: {error}")),
            Err(_) => {
                self.add(Tally::BrokenBarriers);
                if self.barrier.reset().is_err() {
                    self.violation("the barrier cannot be reset");
                }
            }
        }
        if self.barrier.leave().is_err() {
            self.violation("the barrier cannot be left");
        }
    }

    fn tell_or_wait(&self, random: &mut Random) {
        if random.below(2) == 0 {
            if self.condvar.notify(1 + random.below(3) as u32).is_err() {
                self.violation("the condvar cannot be notified");
            }
            return;
        }
        let pair = match self.mutex.lock() {
            Ok(pair) => pair,
            // Another visitor repairs it.
            Err(LockError::OwnerDied(_)) => return,
            Err(error) => return self.violation(&format!("mutex: {error}")),
        };
        match self
            .condvar
            .wait_timeout(pair, Duration::from_micros(random.below(2000)))
        {
            Ok((pair, _)) if pair[0] != pair[1] => self.violation("a half-written pair after a wait"),
            Ok(_) | Err(LockError::OwnerDied(_)) => {}
            Err(error) => self.violation(&format!("condvar: {error}")),
        }
    }

    fn pass_count(&self) {
        if self.count.release(1).is_err() {
            self.violation("the count overflowed");
        }
        // Some other may have died with one: then there are fewer, never none for ever.
        if let Err(error) = self.count.acquire_timeout(Duration::from_secs(20)) {
            self.violation(&format!("count: {error}"));
        }
    }

    fn initialise(&self, random: &mut Random) {
        let done = self.once.try_call_once(|| {
            random.dawdle();
            // Mostly it fails, so that there is something to do for the next one.
            if random.below(5000) == 0 {
                self.add(Tally::Initialised);
                return Ok(());
            }
            Err(())
        });
        if let Err(error) = done {
            self.violation(&format!("once: {error}"));
        }
    }
}

/// Kills and restarts the workers until `until`, or until a violation is found that was looked for.
fn torture(world: &World, processes: usize, seed: u64, until: Instant) -> u64 {
    let mut random = Random(seed | 1);
    let mut start = |process| {
        let seed = random.next();
        fork(|| world.work(process, seed))
    };
    let mut children: Vec<Option<Child>> = (0..processes).map(|process| Some(start(process))).collect();
    let mut kills = 0;
    let mut seen: Vec<(u64, Instant)> = vec![(u64::MAX, Instant::now()); processes];
    let mut choices = Random(seed.rotate_left(32) | 1);
    while Instant::now() < until && !(world.careless && world.get(Tally::Violations) > 0) {
        std::thread::sleep(Duration::from_micros(choices.below(1500)));
        // In every fourth round several at once.
        let victims = if choices.below(4) == 0 {
            2 + choices.below(2) as usize
        } else {
            1
        }
        .min(processes);
        let first = choices.below(processes as u64) as usize;
        let chosen: Vec<usize> = (first..first + victims).map(|index| index % processes).collect();
        for &process in &chosen {
            children[process].as_ref().unwrap().signal(libc::SIGKILL);
        }
        for &process in &chosen {
            let mut child = children[process].take().unwrap();
            if !libc::WIFSIGNALED(child.reap()) {
                world.violation("a worker ended by itself");
            }
            children[process] = Some(start(process));
            seen[process] = (u64::MAX, Instant::now());
            kills += 1;
        }
        for (process, (before, since)) in seen.iter_mut().enumerate() {
            let now = world.progress[process].load(Ordering::Relaxed);
            if now != *before {
                (*before, *since) = (now, Instant::now());
            } else if since.elapsed() > Duration::from_secs(15) {
                world.violation("a worker hangs");
                return kills;
            }
        }
    }
    kills
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    setting("OFFSPRING_TORTURE_SEED", now.as_nanos() as u64)
}

fn locks_survive_kills() {
    let seconds = setting("OFFSPRING_TORTURE_SECONDS", 3);
    let processes = setting("OFFSPRING_TORTURE_PROCESSES", 5).max(1) as usize;
    let seed = seed();
    println!("torture of the locks: {seconds} s, {processes} processes, seed {seed}");
    let _watchdog = watchdog(Duration::from_secs(seconds + 60));
    let world = World::new(processes, false);
    let kills = torture(&world, processes, seed, Instant::now() + Duration::from_secs(seconds));

    // Nobody is left: everything can be had, and the counts are right.
    let wait = Duration::from_secs(10);
    let repaired = |result: Result<Pair, LockError<()>>, started, done, what: &str| match result {
        Ok(pair) => {
            if pair[0] != pair[1] || pair[0] < world.get(done) || pair[0] > world.get(started) {
                let (done, started) = (world.get(done), world.get(started));
                world.violation(&format!("{what}: {pair:?} after {done} of {started} visits"));
            }
        }
        Err(error) => world.violation(&format!("{what} is lost: {error}")),
    };
    let pair = match world.mutex.lock_timeout(wait) {
        Ok(pair) => Ok(*pair),
        Err(LockError::OwnerDied(pair)) => Ok([pair[0]; 2]),
        Err(error) => Err(without_guard(&error)),
    };
    repaired(pair, Tally::MutexStarted, Tally::MutexDone, "the mutex");
    let pair = match world.rwlock.write_timeout(wait) {
        Ok(pair) => Ok(*pair),
        Err(LockError::OwnerDied(pair)) => Ok([pair[0]; 2]),
        Err(error) => Err(without_guard(&error)),
    };
    repaired(pair, Tally::RwLockStarted, Tally::RwLockDone, "the rwlock");
    let pair = match world.reentrant.lock_timeout(wait) {
        Ok(pair) => Ok([pair[0].load(Ordering::Relaxed), pair[1].load(Ordering::Relaxed)]),
        Err(LockError::OwnerDied(pair)) => Ok([pair[0].load(Ordering::Relaxed); 2]),
        Err(error) => Err(without_guard(&error)),
    };
    repaired(
        pair,
        Tally::ReentrantStarted,
        Tally::ReentrantDone,
        "the reentrant mutex",
    );
    if world.semaphore.available().unwrap() != 2 || world.bounded.available().unwrap() != 1 {
        world.violation("permits are lost");
    }
    if world.once.call_once(|| ()).is_err() || world.get(Tally::Initialised) > 1 {
        world.violation("initialised twice, or never");
    }
    world.barrier.reset().unwrap();

    let violations = world.get(Tally::Violations);
    println!(
        "{kills} kills ({} a minute), {} visits, {} owners died inside, {} barriers broken, {violations} violations",
        kills * 60 / seconds.max(1),
        world.get(Tally::MutexDone) + world.get(Tally::RwLockDone) + world.get(Tally::ReentrantDone),
        world.get(Tally::Deaths),
        world.get(Tally::BrokenBarriers),
    );
    assert!(kills > 0 && world.get(Tally::MutexDone) > 0, "nothing happened");
    assert_eq!(violations, 0, "seed {seed}");
}

fn without_guard<G>(error: &LockError<G>) -> LockError<()> {
    match error {
        LockError::TimedOut(holder) => LockError::TimedOut(holder.clone()),
        _ => LockError::WouldBlock,
    }
}

/// The control: with a lock that forgets that its owner died, the same torture must find half-written pairs.
fn a_lock_that_drops_the_mark_is_caught() {
    let seed = seed();
    let _watchdog = watchdog(Duration::from_secs(120));
    let world = World::new(4, true);
    let kills = torture(&world, 4, seed, Instant::now() + Duration::from_secs(60));
    println!("caught after {kills} kills");
    assert!(
        world.get(Tally::Violations) > 0,
        "the torture would not notice a lost mark (seed {seed}, {kills} kills)"
    );
}
