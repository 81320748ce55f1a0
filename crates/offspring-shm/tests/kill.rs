//! Processes that use the arena and shared values are killed at random instants, thousands of times.
//!
//! `OFFSPRING_TORTURE_SECONDS` makes it longer than a few seconds.

// UNSAFETY: forks, kills, writes to blocks, and speaks for children to the family.
#![expect(unsafe_code, reason = "torture by SIGKILL")]

use std::env;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use offspring_shm::{Arena, Block, Handle, Owner, Shared, SharedSlice, family};
use offspring_testing::{run_single_threaded, watchdog};

const MIB: usize = 1 << 20;
const CAPACITY: usize = 96 * MIB;
const WORKERS: usize = 4;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn size(&mut self) -> usize {
        let magnitude = self.below(23);
        self.below(2 << magnitude) as usize + 1
    }
}

fn seconds() -> u64 {
    env::var("OFFSPRING_TORTURE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4)
}

/// Writes a mark of this process and block to both ends of every MiB of it.
fn mark(block: Block, mark: u64, check: bool) {
    let arena = family::arena().unwrap();
    let start = arena.pointer(block.offset, block.capacity).unwrap().cast::<u64>();
    let words = block.capacity / 8;
    let step = words.min(MIB / 8);
    for at in (0..words)
        .step_by(step)
        .flat_map(|at| [at, at + 1, at + step / 2, at + step - 1])
    {
        // SAFETY: inside a block that belongs to this process; atomic, so that a bug shows as a wrong mark only.
        let word = unsafe { start.add(at).cast::<AtomicU64>().as_ref() };
        if check {
            assert_eq!(word.load(Relaxed), mark, "somebody else wrote into {block:?}");
        } else {
            word.store(mark, Relaxed);
        }
    }
}

/// Allocates, frees, grows and gives away blocks until it is killed.
fn use_blocks(me: Owner, heir: Owner, mut random: Random) -> ! {
    let arena = family::arena().unwrap();
    let mut live: Vec<(Block, u64)> = Vec::new();
    let mut number = u64::from(me.raw()) << 32;
    loop {
        number += 1;
        match random.below(10) {
            0..5 => {
                if let Ok(block) = arena.allocate(me, random.size()) {
                    mark(block, number, false);
                    live.push((block, number));
                }
            }
            5..8 if !live.is_empty() => {
                let (block, number) = live.swap_remove(random.below(live.len() as u64) as usize);
                mark(block, number, true);
                // SAFETY: this process's block, used no more.
                assert!(unsafe { arena.free(block) });
            }
            8 if !live.is_empty() => {
                let at = random.below(live.len() as u64) as usize;
                let (block, number) = live[at];
                if let Some(grown) = arena.grow_in_place(block, block.capacity + 2 * MIB) {
                    mark(grown, number, false);
                    live[at] = (grown, number);
                }
            }
            9 if !live.is_empty() => {
                let (block, number) = live.swap_remove(random.below(live.len() as u64) as usize);
                mark(block, number, true);
                // SAFETY: used no more; the heir is released last of all.
                assert!(unsafe { arena.transfer(block, me, heir) });
            }
            _ => {}
        }
        while live.len() > 20 {
            let (block, number) = live.remove(0);
            mark(block, number, true);
            // SAFETY: this process's block, used no more.
            assert!(unsafe { arena.free(block) });
        }
    }
}

/// Makes shared values, posts their handles on a board, takes those of others, until it is killed.
fn use_values(board: &SharedSlice<AtomicU64>, mut random: Random) -> ! {
    let mut held: Vec<SharedSlice<u64>> = Vec::new();
    loop {
        let slot = random.below(board.len() as u64 / 4) as usize * 4;
        if random.below(2) == 0 {
            // A board's slot may be torn by two writers or a death: then its handle is refused or names another value.
            let len = random.size() % 300_000 + 2;
            if let Ok(value) = SharedSlice::build(len, |words: &mut [u64]| {
                words.fill(len as u64);
            }) {
                let Handle { offset, id, len } = value.to_handle();
                board[slot].store(offset, Relaxed);
                board[slot + 1].store(id, Relaxed);
                board[slot + 2].store(len, Relaxed);
                held.push(value);
            }
        } else {
            let [offset, id, len] = [0, 1, 2].map(|part| board[slot + part].load(Relaxed));
            if let Ok(value) = SharedSlice::<u64>::from_handle(Handle { offset, id, len }) {
                held.push(value);
            }
        }
        for value in &held {
            let len = value.len() as u64;
            let seen = [value[0], value[value.len() / 2], value[value.len() - 1]];
            assert_eq!(seen, [len; 3], "a shared value changed");
        }
        while held.len() > 4 {
            held.swap_remove(random.below(held.len() as u64) as usize);
        }
    }
}

/// Forks one worker of the family, which never returns.
fn start(work: impl FnOnce(Owner)) -> (Pid, Owner) {
    let owner = family::reserve_fork().unwrap();
    // SAFETY: this process has one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => (child, owner),
        ForkResult::Child => {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                // SAFETY: reserved for this child, which has one thread.
                unsafe { family::become_child(owner).unwrap() };
                // The one who kills gets the processor at once, so that there are many deaths in little time.
                // SAFETY: changes this process's priority only.
                unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 5) };
                work(owner);
            }));
            // SAFETY: ends the process.
            unsafe { libc::_exit(101) }
        }
    }
}

fn end(pid: Pid, owner: Owner) {
    kill(pid, Signal::SIGKILL).unwrap();
    assert_eq!(
        waitpid(pid, None).unwrap(),
        WaitStatus::Signaled(pid, Signal::SIGKILL, false)
    );
    // SAFETY: the process has ended.
    unsafe { family::release(owner).unwrap() };
}

/// Kills one worker after another, and now and then all at once, and counts what is left.
fn torture(work: impl Fn(Owner, Random), all_dead: impl Fn()) {
    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
        | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let begin = |random: &mut Random| {
        let own = Random(random.below(u64::MAX) | 1);
        start(|owner| work(owner, own))
    };
    let started = Instant::now();
    let mut kills = 0;
    while started.elapsed() < Duration::from_secs(seconds()) {
        let mut workers: Vec<(Pid, Owner)> = (0..WORKERS).map(|_| begin(&mut random)).collect();
        for _ in 0..random.below(60) {
            std::thread::sleep(Duration::from_micros(random.below(500)));
            let at = random.below(WORKERS as u64) as usize;
            let (pid, owner) = workers[at];
            end(pid, owner);
            kills += 1;
            workers[at] = begin(&mut random);
        }
        for &(pid, _) in &workers {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        for (pid, owner) in workers {
            end(pid, owner);
            kills += 1;
        }
        // What was given away is whole, whoever had claimed it.
        assert_eq!(family::arena().unwrap().census().torn, 0);
        all_dead();
        let census = family::arena().unwrap().census();
        let me = family::me().unwrap();
        assert!(census.owners.keys().all(|&owner| owner == me), "{census:?}");
        assert_eq!((census.orphans, census.garbage), (0, 0), "{census:?}");
    }
    println!("{kills} kills");
}

fn blocks() {
    let heir = family::reserve_child().unwrap();
    let given = Shared::new(AtomicU64::new(heir.raw().into())).unwrap();
    let heir = || Owner::from_raw(given.load(Relaxed) as u32).unwrap();
    torture(
        |owner, random| use_blocks(owner, heir(), random),
        || {
            // SAFETY: no process has this tag.
            unsafe { family::release(heir()).unwrap() };
            given.store(family::reserve_child().unwrap().raw().into(), Relaxed);
        },
    );
    // SAFETY: as above.
    unsafe { family::release(heir()).unwrap() };
    // All of it can be had at once: nothing is lost in any chunk, but for the one with `given`.
    let arena = family::arena().unwrap();
    let most = arena.allocate(family::me().unwrap(), CAPACITY / 2).unwrap();
    // SAFETY: nobody knows of it.
    unsafe { arena.free(most) };
}

fn values() {
    let board = SharedSlice::<AtomicU64>::zeroed(4 * 16).unwrap();
    torture(
        |_, random| use_values(&board, random),
        || {
            board.iter().for_each(|word| word.store(0, Relaxed));
            let census = family::arena().unwrap().census();
            assert_eq!(census.shared.blocks, 1, "only the board is left: {census:?}");
        },
    );
    drop(board);
    assert_eq!(family::arena().unwrap().census().shared.blocks, 0);
}

/// One operation, of which a child is killed after some instruction.
struct Operation {
    name: &'static str,
    /// Done by the child before.
    prepare: fn(&Stage) -> Vec<Block>,
    work: fn(&Stage, Vec<Block>),
}

/// What an operation may use.
struct Stage {
    me: Owner,
    heir: Owner,
    posted: Handle,
}

impl Stage {
    fn allocate(&self, len: usize) -> Block {
        family::arena().unwrap().allocate(self.me, len).unwrap()
    }
}

fn free(block: Block) {
    // SAFETY: every caller's own block, used no more.
    assert!(unsafe { family::arena().unwrap().free(block) });
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "allocate a large block",
        prepare: |_| Vec::new(),
        work: |stage, _| mark(stage.allocate(4 * MIB), 1, false),
    },
    Operation {
        name: "free a large block",
        prepare: |stage| vec![stage.allocate(4 * MIB)],
        work: |_, blocks| free(blocks[0]),
    },
    Operation {
        name: "grow a large block",
        prepare: |stage| vec![stage.allocate(2 * MIB)],
        work: |_, blocks| {
            let _grown = family::arena().unwrap().grow_in_place(blocks[0], 5 * MIB);
        },
    },
    Operation {
        name: "allocate and free small blocks",
        prepare: |_| Vec::new(),
        work: |stage, _| {
            let blocks: Vec<Block> = (0..12).map(|_| stage.allocate(30_000)).collect();
            blocks.into_iter().for_each(free);
        },
    },
    Operation {
        name: "give blocks away",
        prepare: |stage| vec![stage.allocate(3 * MIB), stage.allocate(100)],
        work: |stage, blocks| {
            for block in blocks {
                // SAFETY: used no more; the heir is released last.
                assert!(unsafe { family::arena().unwrap().transfer(block, stage.me, stage.heir) });
            }
        },
    },
    Operation {
        name: "give up empty slabs",
        prepare: |stage| {
            let allocate = |len| small_arena().allocate(stage.me, len).unwrap();
            (0..8).map(|at| allocate(if at < 4 { MIB / 2 } else { MIB })).collect()
        },
        work: |stage, blocks| {
            for &block in &blocks[..4] {
                // SAFETY: this process's block, used no more.
                assert!(unsafe { small_arena().free(block) });
            }
            // There is room only where the slabs are.
            small_arena().allocate(stage.me, MIB).unwrap();
        },
    },
    Operation {
        name: "share and drop values",
        prepare: |_| Vec::new(),
        work: |_, _| {
            drop((
                Shared::new(5_u64).unwrap(),
                SharedSlice::build(2 * MIB, |_: &mut [u8]| ()).unwrap(),
            ));
        },
    },
    Operation {
        name: "take and drop a value",
        prepare: |_| Vec::new(),
        work: |stage, _| drop(SharedSlice::<u64>::from_handle(stage.posted).unwrap()),
    },
];

/// The most instructions of an operation that are gone through: a step takes 10 us or more, and a debug build has ten
/// times as many. What lies beyond is hit by a release build.
const MOST: u64 = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };

/// An arena that is easily filled. Its owners have the same tags as in the family's.
fn small_arena() -> &'static Arena {
    static SMALL: OnceLock<Arena> = OnceLock::new();
    SMALL.get_or_init(|| Arena::create(6 * MIB).unwrap())
}

/// Kills a child after `limit` instructions of an operation, or at its end; says after how many it was.
fn kill_at(operation: &Operation, posted: Handle, heir: Owner, limit: u64) -> (Owner, u64) {
    let (pid, owner) = start(|me| {
        let stage = Stage { me, heir, posted };
        let blocks = (operation.prepare)(&stage);
        ptrace::traceme().unwrap();
        raise(Signal::SIGSTOP).unwrap();
        (operation.work)(&stage, blocks);
        raise(Signal::SIGSTOP).unwrap();
    });
    let stopped = |signal| WaitStatus::Stopped(pid, signal);
    assert_eq!(waitpid(pid, None).unwrap(), stopped(Signal::SIGSTOP));
    let mut steps = 0;
    let mut done = false;
    while steps < limit && !done {
        ptrace::step(pid, None).unwrap();
        let status = waitpid(pid, None).unwrap();
        done = status == stopped(Signal::SIGSTOP);
        assert!(
            done || status == stopped(Signal::SIGTRAP),
            "{}: {status:?}",
            operation.name
        );
        steps += 1;
    }
    kill(pid, Signal::SIGKILL).unwrap();
    assert_eq!(
        waitpid(pid, None).unwrap(),
        WaitStatus::Signaled(pid, Signal::SIGKILL, false)
    );
    (owner, steps)
}

/// Like [`torture`], but one operation after another, killed after a random instruction: what takes few instructions and
/// little time is hit as well. Between the death and the release somebody else uses all that looks free.
fn at_any_instruction() {
    let arena = family::arena().unwrap();
    let me = family::me().unwrap();
    arena.set_watermark(2 * MIB);
    let seed = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
        | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    small_arena();
    let posted = SharedSlice::from_fn(1000, |i| i as u64).unwrap();
    for operation in OPERATIONS {
        let started = Instant::now();
        let (mut length, mut kills) = (None, 0_u64);
        while length.is_none() || started.elapsed() < Duration::from_millis(seconds() * 200) {
            let heir = family::reserve_child().unwrap();
            let low = arena.allocate(me, MIB).unwrap();
            let limit = length.map_or(MOST, |length| random.below(length));
            let (dead, steps) = kill_at(operation, posted.to_handle(), heir, limit);
            length.get_or_insert(steps);
            kills += 1;

            // With this the search for free chunks starts in front of those that the dead process had.
            free(low);
            let mine: Vec<Block> = (0..12)
                .filter_map(|at| arena.allocate(me, (1 + at % 3) * MIB).ok())
                .collect();
            mine.iter().for_each(|&block| mark(block, block.offset, false));
            let others: Vec<Block> = (0..9)
                .filter_map(|at| small_arena().allocate(me, MIB >> (at % 2)).ok())
                .collect();
            // SAFETY: the process has ended.
            unsafe {
                family::release(dead).unwrap();
                assert_eq!(arena.census().torn, 0, "{}", operation.name);
                family::release(heir).unwrap();
                small_arena().sweep(dead, me);
            }
            mine.iter().for_each(|&block| mark(block, block.offset, true));
            mine.into_iter().for_each(free);
            for block in others {
                assert_eq!(
                    small_arena().owner_of(block.offset),
                    Some(me),
                    "{}: {block:?}",
                    operation.name
                );
                // SAFETY: nobody uses it.
                assert!(unsafe { small_arena().free(block) });
            }
            let census = small_arena().census();
            assert_eq!(
                (census.blocks, census.orphans, census.garbage),
                (0, 0, 0),
                "{}: {census:?}",
                operation.name
            );
            let census = arena.census();
            assert!(
                census.owners.keys().all(|&owner| owner == me),
                "{}: {census:?}",
                operation.name
            );
            let left = (census.orphans, census.garbage, census.shared.blocks);
            assert_eq!(left, (0, 0, 1), "{}, killed after {steps}: {census:?}", operation.name);
            assert!(posted.iter().enumerate().all(|(i, &n)| i as u64 == n));
        }
        println!(
            "{}: {} instructions, {kills} kills",
            operation.name,
            length.unwrap_or_default()
        );
    }
}

fn main() -> ExitCode {
    let _watchdog = watchdog(Duration::from_secs(60 + 4 * seconds()));
    family::set_capacity(CAPACITY).unwrap();
    family::arena().unwrap().set_watermark(16 * MIB);
    let mut tests: Vec<(&'static str, fn())> = vec![("blocks", blocks), ("values", values)];
    // A debugger that steps through a pair of load-exclusive and store-exclusive makes it fail for ever.
    if cfg!(target_arch = "x86_64") {
        tests.push(("at_any_instruction", at_any_instruction));
    }
    run_single_threaded(&tests)
}
