//! Workers, processes and zygotes are killed at random instants, hundreds of times a second.
//!
//! `OFFSPRING_TORTURE_SECONDS` makes it longer, `OFFSPRING_TORTURE_SEED` repeats what can be repeated of a run.
//!
//! What must hold, whoever dies when: each item of a call has exactly one outcome. A result is right, and its item was
//! done. A death is one of ours, and is told of no more items than processes were killed; an item is begun no more often
//! than its retries allow. No call hangs, and in the end nothing is left in the arena.
//!
//! A pool gives up when five workers in a row were killed before they were ready while no other was: on a busy machine
//! that happens now and then, is counted, and must be what its calls say.

// UNSAFETY: SIGKILL.
#![expect(unsafe_code, reason = "kill")]

mod scene;

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use std::{env, hint, thread};

use offspring_pool::{Error, Pool, Process};
use offspring_process::zygote;
use offspring_shm::SharedSlice;
use offspring_testing::run_single_threaded;
use scene::Scene;

const WORKERS: usize = 3;
const MOST_ITEMS: usize = 4000;

fn main() -> ExitCode {
    run_single_threaded(&[
        ("calls_while_workers_are_killed", calls_while_workers_are_killed),
        ("processes_that_are_killed", processes_that_are_killed),
        ("roots_that_are_killed", roots_that_are_killed),
    ])
}

fn number_from(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

fn seconds() -> u64 {
    number_from("OFFSPRING_TORTURE_SECONDS").unwrap_or(5)
}

fn seed() -> u64 {
    let time = || {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(1, |time| time.as_nanos() as u64)
    };
    let seed = number_from("OFFSPRING_TORTURE_SEED").unwrap_or_else(|| time() / 1000 % 1_000_000);
    println!("seed {seed}");
    seed
}

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

fn kill(pid: u32, signal: i32) {
    // SAFETY: a signal to a child of this process. One that has just ended is no other process yet: numbers are given
    // in turn.
    unsafe { libc::kill(pid as i32, signal) };
}

/// How often each item was begun or done in the latest call.
///
/// A call that has failed leaves tasks running, one for each worker: what they note later must not be taken for the next
/// call's. The upper bits say which call it was.
type Log = SharedSlice<AtomicU32>;

static LOG: OnceLock<(Log, Log)> = OnceLock::new();

const COUNT_BITS: u32 = 8;

fn open_log(begun: Log, done: Log) {
    assert!(LOG.set((begun, done)).is_ok());
}

fn note(log: &Log, call: u32, item: u64) {
    let _ = log[item as usize].fetch_update(Relaxed, Relaxed, |word| match word >> COUNT_BITS {
        of if of == call => Some(word + 1),
        of if of < call => Some(call << COUNT_BITS | 1),
        _ => None,
    });
}

fn count(log: &Log, call: u32, item: usize) -> u32 {
    let word = log[item].load(Relaxed);
    if word >> COUNT_BITS == call {
        word & ((1 << COUNT_BITS) - 1)
    } else {
        0
    }
}

/// What a task gets: the call that it is part of, and its item.
type Task = (u32, u64);

fn logged<R>((call, item): Task, work: impl FnOnce(u64) -> R) -> R {
    let (begun, done) = LOG.get().unwrap();
    note(begun, call, item);
    for _ in 0..item % 7 * 300 {
        hint::spin_loop();
    }
    let result = work(item);
    note(done, call, item);
    result
}

fn number(task: Task) -> u64 {
    logged(task, |item| item * 3)
}

fn panics(item: u64) -> bool {
    item % 31 == 5
}

/// Now and then a panic, whose report makes the results move, and a process of the worker's own.
fn fussy(task: Task) -> u64 {
    logged(task, |item| match item % 211 {
        // As a panic, but not printed.
        _ if panics(item) => resume_unwind(Box::new("x".repeat(item as usize))),
        7 => Process::spawn(|item: u64| item * 3, item).unwrap().result().unwrap(),
        _ => item * 3,
    })
}

fn text(task: Task) -> Vec<String> {
    logged(task, words)
}

fn words(item: u64) -> Vec<String> {
    (0..item % 13)
        .map(|n| format!("{item} {n}").repeat(item as usize % 50))
        .collect()
}

/// What one pool has been through.
struct Battle {
    pool: Pool,
    retries: u32,
    begun: Log,
    done: Log,
    killed: Mutex<HashSet<u32>>,
    kills: AtomicU64,
}

#[derive(Default, Debug)]
struct Tally {
    calls: u64,
    items: u64,
    kills: u64,
    hits: u64,
    retried: u64,
    unbegun: u64,
    done_but_not_noted: u64,
    given_up: u64,
}

impl Battle {
    fn new(retries: u32) -> Self {
        let zeros = || SharedSlice::from_fn(MOST_ITEMS, |_| AtomicU32::new(0)).unwrap();
        let (begun, done) = (zeros(), zeros());
        let builder = Pool::builder().workers(WORKERS).retries(retries);
        let pool = builder
            .initializer(open_log, (begun.clone(), done.clone()))
            .build()
            .unwrap();
        let (killed, kills) = (Mutex::default(), AtomicU64::new(0));
        Self {
            pool,
            retries,
            begun,
            done,
            killed,
            kills,
        }
    }

    /// Makes one call and checks what it gives; false if the pool has given up.
    fn call(&self, random: &mut Random, tally: &mut Tally) -> bool {
        let count = random.below(MOST_ITEMS as u64) + 1;
        let chunk = [1, 3, 16, 1000][random.below(4) as usize];
        tally.calls += 1;
        tally.items += count;
        let call = tally.calls as u32;
        let items = (0..count).map(|item| (call, item));
        let calls = self.pool.chunk_size(chunk);
        let triple = |item| item * 3;
        let checked = match random.below(5) {
            0 => calls
                .map_all(number, items)
                .map(|outcomes| self.check(tally, outcomes, triple, false)),
            1 | 2 => calls
                .map_all(fussy, items)
                .map(|outcomes| self.check(tally, outcomes, triple, true)),
            3 => calls
                .map_all(text, items)
                .map(|outcomes| self.check(tally, outcomes, words, false)),
            // The first death ends the call; which results there were before is not told.
            _ => match calls.map(number, items) {
                Err(error) if error.is_worker_death() => {
                    self.check_death(&error, error.item().unwrap());
                    Ok(())
                }
                results => results.map(|results| assert!(results.into_iter().eq((0..count).map(triple)))),
            },
        };
        match checked {
            Ok(()) => true,
            Err(error) => {
                assert!(
                    error.is_broken() && error.to_string().contains("SIGKILL"),
                    "the whole call failed: {error}"
                );
                assert!(self.pool.map(number, [(call, 0)]).unwrap_err().is_broken());
                tally.given_up += 1;
                false
            }
        }
    }

    fn check<R: PartialEq + std::fmt::Debug>(
        &self,
        tally: &mut Tally,
        outcomes: Vec<offspring_pool::Result<R>>,
        expected: impl Fn(u64) -> R,
        may_panic: bool,
    ) {
        let attempts = self.retries + 1;
        let call = tally.calls as u32;
        let mut needed = 0;
        for (item, outcome) in outcomes.iter().enumerate() {
            let (begun, done) = (count(&self.begun, call, item), count(&self.done, call, item));
            assert!(
                begun <= attempts && done <= begun,
                "item {item}: begun {begun} times, done {done}, of {attempts}"
            );
            match outcome {
                Ok(result) => {
                    assert!(*result == expected(item as u64), "item {item}: {result:?}");
                    assert!(done >= 1, "item {item} has a result and was not done");
                    needed += u64::from(begun - 1);
                    tally.retried += u64::from(begun > 1);
                }
                Err(error) if error.is_panic() => {
                    assert!(may_panic && panics(item as u64), "item {item}: {error}");
                    assert_eq!(error.panic().unwrap().message().len(), item);
                    assert!(begun >= 1 && done == 0);
                    needed += u64::from(begun - 1);
                }
                Err(error) => {
                    self.check_death(error, item);
                    needed += u64::from(attempts);
                    tally.hits += 1;
                    tally.unbegun += u64::from(begun == 0);
                    tally.done_but_not_noted += u64::from(done > 0);
                }
            }
        }
        let kills = self.kills.load(Relaxed);
        assert!(
            needed <= kills,
            "{needed} deaths are told of, and {kills} processes were killed"
        );
    }

    fn check_death(&self, error: &Error, item: usize) {
        assert!(error.is_worker_death(), "item {item}: {error}");
        assert_eq!(error.item(), Some(item));
        assert_eq!(
            error.exit_status().and_then(|status| status.signal()),
            Some(libc::SIGKILL),
            "{error}"
        );
        let pid = error.pid().unwrap();
        assert!(
            self.killed.lock().unwrap().contains(&pid),
            "process {pid} was none of our victims"
        );
    }
}

/// Kills workers of a pool, now and then the zygote, until it is told to stop.
fn shoot(battle: &Battle, mut random: Random, over: &AtomicBool) {
    while !over.load(Relaxed) {
        let pids = battle.pool.pids();
        if !pids.is_empty() {
            let pid = pids[random.below(pids.len() as u64) as usize];
            battle.killed.lock().unwrap().insert(pid);
            battle.kills.fetch_add(1, Relaxed);
            kill(pid, libc::SIGKILL);
        }
        if random.chance(40)
            && let Some(pid) = zygote::pid()
        {
            kill(pid, libc::SIGKILL);
        }
        pause(&mut random, 8000);
    }
}

fn pause(random: &mut Random, micros: u64) {
    match random.below(4) {
        0 => (0..random.below(20_000)).for_each(|_| hint::spin_loop()),
        _ => thread::sleep(Duration::from_micros(random.below(micros))),
    }
}

/// Tells the other thread to stop, also when this one panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn calls_while_workers_are_killed() {
    let seed = seed();
    let _scene = Scene::lasting(Duration::from_secs(seconds() + 60));
    let end = Instant::now() + Duration::from_secs(seconds()) * 2 / 3;
    let mut tally = Tally::default();
    let mut random = Random::new(seed);
    for pools in 0.. {
        if Instant::now() >= end {
            break;
        }
        let battle = Battle::new([0, 0, 1, 3][pools % 4]);
        // Another pool after a while: they end under fire, too.
        let round_end = (Instant::now() + Duration::from_millis(700)).min(end);
        let shooter = Random::new(random.below(u64::MAX));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| shoot(&battle, shooter, &over));
            let _over = Over(&over);
            while Instant::now() < round_end && battle.call(&mut random, &mut tally) {}
            battle.pool.close();
            if let Err(error) = battle.pool.join() {
                assert!(error.is_broken(), "{error}");
            }
        });
        tally.kills += battle.kills.load(Relaxed);
    }
    println!("{tally:?}");
    assert!(tally.hits > 0, "no kill has hit a task");
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ len) as u8).collect()
}

fn processes_that_are_killed() {
    let mut random = Random::new(seed() + 1);
    let _scene = Scene::lasting(Duration::from_secs(seconds() + 60));
    let end = Instant::now() + Duration::from_secs(seconds()) / 3;
    let over = AtomicBool::new(false);
    let (mut rounds, mut deaths) = (0, 0);
    let (mut slowest, mut slowest_end) = (Duration::ZERO, Duration::ZERO);
    thread::scope(|scope| {
        let mut shooter = Random::new(random.below(u64::MAX));
        let over = &over;
        scope.spawn(move || {
            while !over.load(Relaxed) {
                if let Some(pid) = zygote::pid() {
                    kill(pid, [libc::SIGKILL, libc::SIGTERM][shooter.below(2) as usize]);
                }
                pause(&mut shooter, 20_000);
            }
        });
        let _over = Over(over);
        let mut others = Vec::new();
        while Instant::now() < end {
            let magnitude = 4 + random.below(13);
            let len = random.below(1 << magnitude) as usize;
            let daemon = random.chance(2);
            let since = Instant::now();
            let process = Process::builder().daemon(daemon).spawn(pattern, len).unwrap();
            slowest = slowest.max(since.elapsed());
            (0..random.below(40_000)).for_each(|_| hint::spin_loop());
            let signal = [libc::SIGKILL, libc::SIGTERM, 0][random.below(3) as usize];
            process.signal(signal).unwrap();
            rounds += 1;
            let since = Instant::now();
            match random.below(5) {
                0 => drop(process),
                1 => others.push((process, len, signal)),
                _ => deaths += u64::from(!check_result(&process, len, signal)),
            }
            if others.len() > 20 {
                for (process, len, signal) in others.drain(..) {
                    deaths += u64::from(!check_result(&process, len, signal));
                }
            }
            slowest_end = slowest_end.max(since.elapsed());
        }
    });
    println!(
        "{rounds} processes, {deaths} died before they had a result; the slowest start took {slowest:?}, \
         the slowest end {slowest_end:?}"
    );
    assert!(deaths > 0 && deaths < rounds);
}

/// True if there is a result, the right one; else the process must have died of our signal.
fn check_result(process: &Process<Vec<u8>>, len: usize, signal: i32) -> bool {
    match process.result() {
        Ok(bytes) => {
            assert!(bytes == pattern(len), "a wrong result of {len} bytes");
            true
        }
        Err(error) => {
            assert!(error.is_worker_death() && signal != 0, "{error}");
            assert_eq!(
                error.exit_status().and_then(|status| status.signal()),
                Some(signal),
                "{error}"
            );
            false
        }
    }
}

/// What a root does while it waits for its death: makes pools, with pools in them, and processes.
fn live() -> ! {
    loop {
        let nested = |n: u64| Pool::new(2).and_then(|pool| pool.map(|n: u64| n * 2, 0..n)).is_ok();
        let pool = Pool::new(2).unwrap();
        pool.map(nested, [20, 30]).unwrap();
        let process = Process::spawn(nested, 3).unwrap();
        assert!(process.result().unwrap());
    }
}

/// The processes of a group, zombies aside.
fn group(leader: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let member = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let state = fields.next().unwrap_or("Z");
        !matches!(state, "Z" | "X") && fields.nth(1) == Some(&leader.to_string())
    };
    pids.filter(member).collect()
}

fn roots_that_are_killed() {
    if scene::role().is_some() {
        live();
    }
    let mut random = Random::new(seed() + 2);
    let _scene = Scene::lasting(Duration::from_secs(seconds() + 60));
    let end = Instant::now() + Duration::from_secs(seconds()) / 4;
    let (mut rounds, mut largest) = (0, 0);
    while Instant::now() < end {
        let mut command = scene::program("roots_that_are_killed", "root");
        let mut root = command
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_micros(random.below(60_000)));
        largest = largest.max(group(root.id()).len());
        root.kill().unwrap();
        root.wait().unwrap();
        scene::eventually("the root's family is gone", || group(root.id()).is_empty());
        rounds += 1;
    }
    println!("{rounds} roots, the largest of {largest} processes");
    assert!(largest > 1, "no root had anything to leave behind");
}
