//! Models of the ring and its sleep: every order of the steps of a few threads, with one of them stopped for ever before each of
//! its steps.
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p offspring-queue --release --test loom
//! ```
#![cfg(loom)]

#[path = "loom/spsc.rs"]
mod spsc;
#[path = "loom/watcher.rs"]
mod watcher;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering as StdOrdering};
use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;
use offspring_queue::raw::{Blocked, Place, Ring, Taken, Waiting};
use offspring_sync::Tag;
use offspring_sync::primitive::model::{self, Mutant, Stopped};
use offspring_sync::primitive::{AtomicU32, AtomicU64, Mode, Ordering};
use offspring_sync::raw::{EventCount, Life, Lives, Spin};

const ALIVE: u32 = 1;
const DEAD: u32 = 2;

#[derive(Debug)]
struct Members([AtomicU32; 3]);

impl Members {
    fn new() -> Self {
        Self([const { AtomicU32::new(ALIVE) }; 3])
    }

    fn die(&self, index: usize) {
        self.0[index].swap(DEAD, Ordering::AcqRel);
        model::kernel_wake(&self.0[index]);
        model::expire_naps();
    }
}

impl Lives for Members {
    fn life(&self, tag: Tag) -> Option<Life<'_>> {
        let word = self.0.get(tag.index() - 1)?;
        let seen = word.load(Ordering::Acquire);
        Some(Life {
            word,
            seen,
            dead: seen == DEAD,
        })
    }

    fn inquire(&self, _tag: Tag) -> bool {
        false
    }
}

fn tag(index: usize) -> Tag {
    Tag::new(index + 1, 5).unwrap()
}

/// In transit in the queue.
const TRANSIT: u64 = 1;
/// Freed.
const FREE: u64 = 2;
/// In somebody's hands.
const TAKEN: u64 = 3;

/// A ring of `N` slots whose messages are two words that must match, or a block.
#[derive(Debug)]
struct World<const N: usize> {
    members: Members,
    state: [AtomicU64; N],
    kind: [AtomicU64; N],
    returns: [AtomicU64; N],
    payload: [[AtomicU64; 2]; N],
    tail: AtomicU64,
    head: AtomicU64,
    arrivals: EventCount,
    departures: EventCount,
    /// Whether messages name blocks, and where those are: a block's number is its message's.
    blocks: bool,
    whereabouts: [AtomicU64; 4],
    astray: AtomicU64,
}

impl<const N: usize> World<N> {
    fn new(blocks: bool) -> Arc<Self> {
        let world = Self {
            members: Members::new(),
            state: [const { AtomicU64::new(0) }; N],
            kind: [const { AtomicU64::new(0) }; N],
            returns: [const { AtomicU64::new(0) }; N],
            payload: [const { [const { AtomicU64::new(0) }; 2] }; N],
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            arrivals: EventCount::new(),
            departures: EventCount::new(),
            blocks,
            whereabouts: [const { AtomicU64::new(0) }; 4],
            astray: AtomicU64::new(0),
        };
        // The model wants its words made before the threads part.
        let _ = format!("{world:?}");
        Arc::new(world)
    }

    fn ring(&self) -> Ring<'_, Self, Members> {
        Ring::new(self, &self.members)
    }

    fn send(&self, cursor: &AtomicU64, me: usize, message: u64) {
        let ring = self.ring();
        self.waiting(&self.departures, Mode::Full)
            .run::<_, ()>(
                || self.try_send(cursor, me, message),
                || ring.has_room(cursor),
                |_| None,
            )
            .unwrap();
    }

    /// As a handle does it: quickly if that is enough.
    fn try_send(&self, cursor: &AtomicU64, me: usize, message: u64) -> Result<(), Blocked> {
        let ring = self.ring();
        if !self.blocks && ring.send_next(cursor, tag(me), |slot| self.fill(slot, message)) {
            return Ok(());
        }
        ring.send(cursor, tag(me), |slot| self.fill(slot, message))
    }

    fn fill(&self, slot: u32, message: u64) {
        let slot = slot as usize;
        self.payload[slot][0].store(message, Ordering::Relaxed);
        self.payload[slot][1].store(message * 3, Ordering::Relaxed);
        if self.blocks {
            self.kind[slot].store(Ring::<Self, Members>::block_kind(0), Ordering::Release);
            self.whereabouts[message as usize].store(TRANSIT, Ordering::Release);
        }
    }

    fn receive(&self, cursor: &AtomicU64, me: usize) -> u64 {
        let ring = self.ring();
        self.waiting(&self.arrivals, Mode::Asymmetric)
            .run::<_, ()>(|| self.try_receive(cursor, me), || ring.has_message(cursor), |_| None)
            .unwrap()
    }

    /// As a handle does it: quickly if that is enough.
    fn try_receive(&self, cursor: &AtomicU64, me: usize) -> Result<u64, Blocked> {
        let ring = self.ring();
        let mut words = [0; 2];
        if self.blocks || !ring.take_next(cursor, |slot| words = self.read(slot)) {
            let copy = |slot: u32| {
                words = self.read(slot);
                self.kind[slot as usize].load(Ordering::Relaxed)
            };
            if let Taken::Leased(at) = ring.take(cursor, tag(me), copy)? {
                let block = ring.finish(at, tag(me)).expect("the block is in the queue");
                assert_eq!(block, words[0]);
                self.free(block);
            }
        }
        assert_eq!(words[1], words[0] * 3, "a torn message");
        Ok(words[0])
    }

    fn read(&self, slot: u32) -> [u64; 2] {
        [0, 1].map(|word| self.payload[slot as usize][word].load(Ordering::Relaxed))
    }

    fn receive_leased(&self, cursor: &AtomicU64, me: usize) -> (u64, u32) {
        let ring = self.ring();
        let at = self
            .waiting(&self.arrivals, Mode::Asymmetric)
            .run::<_, ()>(|| ring.lease(cursor, tag(me)), || ring.has_message(cursor), |_| None)
            .unwrap();
        let slot = at.index() as usize;
        let words = [0, 1].map(|word| self.payload[slot][word].load(Ordering::Relaxed));
        assert_eq!(words[1], words[0] * 3, "a torn message");
        let returns = ring.returns(at);
        if let Some(block) = ring.finish(at, tag(me)) {
            self.free(block);
        }
        (words[0], returns)
    }

    fn waiting<'a>(&'a self, bell: &'a EventCount, mode: Mode) -> Waiting<'a, Members> {
        Waiting {
            lives: &self.members,
            bell,
            mode,
            deadline: Some(Instant::now() + Duration::from_secs(1 << 20)),
            spin: Spin::none(),
            patient: true,
        }
    }
}

impl<const N: usize> Place for World<N> {
    type Block = u64;

    fn slots(&self) -> u32 {
        N as u32
    }

    fn state(&self, index: u32) -> &AtomicU64 {
        &self.state[index as usize]
    }

    fn kind(&self, index: u32) -> &AtomicU64 {
        &self.kind[index as usize]
    }

    fn returns(&self, index: u32) -> &AtomicU64 {
        &self.returns[index as usize]
    }

    fn tail_hint(&self) -> &AtomicU64 {
        &self.tail
    }

    fn head_hint(&self) -> &AtomicU64 {
        &self.head
    }

    fn arrivals(&self) -> &EventCount {
        &self.arrivals
    }

    fn fences(&self) -> Mode {
        Mode::Asymmetric
    }

    fn departures(&self) -> &EventCount {
        &self.departures
    }

    fn rest(&self) -> Option<&EventCount> {
        None
    }

    fn has_blocks(&self) -> bool {
        self.blocks
    }

    fn withdraw(&self, index: u32) -> Option<u64> {
        let block = self.payload[index as usize][0].load(Ordering::Relaxed);
        self.whereabouts[block as usize]
            .compare_exchange(TRANSIT, TAKEN, Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            .map(|_| block)
    }

    fn free(&self, block: u64) {
        let was = self.whereabouts[block as usize].swap(FREE, Ordering::AcqRel);
        assert_eq!(was, TAKEN, "block {block} was freed by one who did not have it");
    }

    fn mark_astray(&self) {
        self.astray.store(1, Ordering::Release);
    }
}

/// Runs `body` as member `index`, which stops for ever at step `stop`; whether it came to its end.
fn live(members: &Members, index: usize, stop: Option<usize>, body: impl FnOnce()) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if let Some(step) = stop {
            model::stop_at_step(step);
        }
        body();
        model::defuse();
    }));
    match outcome {
        Ok(()) => true,
        Err(payload) if payload.is::<Stopped>() => {
            STOPPED.store(true, StdOrdering::Relaxed);
            members.die(index);
            false
        }
        Err(payload) => resume_unwind(payload),
    }
}

static STOPPED: AtomicBool = AtomicBool::new(false);

/// One model at a time: they share `STOPPED`.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn explore(body: impl Fn() + Send + Sync + 'static) {
    sabotage();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(body);
}

/// Runs `body` without a death, then with a death at each step that the victim takes.
fn at_every_step(body: impl Fn(Option<usize>) + Clone + Send + Sync + 'static) {
    let _one = ONE.lock().unwrap_or_else(|poison| poison.into_inner());
    let undisturbed = body.clone();
    explore(move || undisturbed(None));
    for step in 0.. {
        STOPPED.store(false, StdOrdering::Relaxed);
        let body = body.clone();
        explore(move || body(Some(step)));
        if !STOPPED.load(StdOrdering::Relaxed) {
            assert!(step > 1, "the victim took no steps");
            return;
        }
    }
}

fn cursor() -> AtomicU64 {
    AtomicU64::new(0)
}

/// A producer dies at each step; another's messages come through, in order, and the dead one's come before its death or not at
/// all.
fn producer_dies(blocks: bool) {
    at_every_step(move |stop| {
        let world = World::<2>::new(blocks);
        let doomed = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let cursor = cursor();
                live(&world.members, 0, stop, || world.send(&cursor, 0, 1))
            })
        };
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let cursor = cursor();
                live(&world.members, 1, None, || world.send(&cursor, 1, 2))
            })
        };
        let head = cursor();
        let mut seen = Vec::new();
        while seen.last() != Some(&2) {
            seen.push(world.receive(&head, 2));
        }
        let survived = doomed.join().unwrap();
        other.join().unwrap();
        if seen.len() == 1 && survived {
            seen.push(world.receive(&head, 2));
        }
        // One that was published before a death may be left.
        let left = world.ring().take(&head, tag(2), |slot| {
            seen.push(world.payload[slot as usize][0].load(Ordering::Relaxed));
            world.kind[slot as usize].load(Ordering::Relaxed)
        });
        if let Ok(Taken::Leased(at)) = left {
            let block = world.ring().finish(at, tag(2)).unwrap();
            world.free(block);
        }
        let from_other: Vec<_> = seen.iter().filter(|&&message| message != 1).collect();
        assert_eq!(from_other, [&2]);
        let mine = seen.iter().filter(|&&message| message == 1).count();
        assert!(mine == 1 || !survived && mine == 0);
        if blocks {
            // What reached the queue was freed by a receiver or by whoever recovered the slot.
            assert_ne!(world.whereabouts[1].load(Ordering::Relaxed), TRANSIT, "a block leaked");
        }
        assert_eq!(world.astray.load(Ordering::Relaxed), 0, "one death loses no block");
    });
}

#[test]
fn a_producer_dies_with_inline_messages() {
    producer_dies(false);
}

#[test]
fn a_producer_dies_with_blocks() {
    producer_dies(true);
}

/// A taker dies at each step: at most the message in its hands is lost, and the rest goes on through a ring of one slot.
fn taker_dies(blocks: bool) {
    at_every_step(move |stop| {
        let world = World::<1>::new(blocks);
        let doomed = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let cursor = cursor();
                let mut got = 0;
                let survived = live(&world.members, 0, stop, || {
                    got = world.try_receive(&cursor, 0).unwrap_or(0);
                });
                (got, survived)
            })
        };
        let (tail, head) = (cursor(), cursor());
        world.send(&tail, 1, 1);
        // Full until the first is received, by the other or here.
        let mut seen = Vec::new();
        seen.extend(world.try_receive(&head, 2));
        while world.try_send(&tail, 1, 2).is_err() {
            seen.extend(world.try_receive(&head, 2));
            thread::yield_now();
        }
        let (got, survived) = doomed.join().unwrap();
        while let Ok(message) = world.try_receive(&head, 2) {
            seen.push(message);
        }
        assert!(got == 0 || !seen.contains(&got), "{got} was received twice");
        assert!(seen.is_sorted(), "{seen:?}");
        let arrived = seen.len() + usize::from(got != 0);
        assert!(arrived == 2 || !survived && arrived == 1, "{seen:?} and {got}");
    });
}

#[test]
fn a_taker_dies_with_inline_messages() {
    taker_dies(false);
}

#[test]
fn a_taker_dies_with_blocks() {
    taker_dies(true);
}

/// A lease holder dies at each step: the message is delivered again, or was done with.
fn holder_dies(blocks: bool) {
    at_every_step(move |stop| {
        let world = World::<2>::new(blocks);
        let tail = cursor();
        world.send(&tail, 1, 1);
        let doomed = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let cursor = cursor();
                live(&world.members, 0, stop, || {
                    world.receive_leased(&cursor, 0);
                })
            })
        };
        world.send(&tail, 1, 2);
        let head = cursor();
        let (first, returns) = world.receive_leased(&head, 2);
        let survived = doomed.join().unwrap();
        assert!(
            returns == 0 || first == 1 && !survived,
            "{first} was returned {returns} times"
        );
        let second = world
            .ring()
            .lease(&head, tag(2))
            .map(|at| world.payload[at.index() as usize][0].load(Ordering::Relaxed));
        if survived {
            assert_eq!(second, Err(Blocked::Waiting));
        } else if let Ok(second) = second {
            assert_eq!(first + second, 3, "each of the two once");
        }
    });
}

#[test]
fn a_holder_dies_with_inline_messages() {
    holder_dies(false);
}

#[test]
fn a_holder_dies_with_blocks() {
    holder_dies(true);
}

/// The model `test` must fail with this fault in the door.
fn must_fail(mutant: Mutant, test: &str) {
    must_notice(&format!("{mutant:?}"), test);
}

/// The model `test` must fail with this fault. It runs in a process of its own, as a model that fails may abort.
fn must_notice(fault: &str, test: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MUTANT, fault)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("running 1 test"), "there is no model {test}");
    assert!(!output.status.success(), "{test} did not notice {fault}");
}

/// Which fault this process has, in its door or in its watchers.
const MUTANT: &str = "OFFSPRING_MODEL_MUTANT";

fn sabotage() {
    let wanted = std::env::var(MUTANT).unwrap_or_default();
    for mutant in [
        Mutant::NoWake,
        Mutant::SleepBlindly,
        Mutant::NoFence,
        Mutant::NoRelease,
        Mutant::NoNaps,
    ] {
        if format!("{mutant:?}") == wanted {
            model::sabotage(mutant);
        }
    }
}

#[test]
fn a_dropped_wake_is_noticed() {
    must_fail(Mutant::NoWake, "a_producer_dies_with_inline_messages");
}

#[test]
fn a_missing_fence_is_noticed() {
    must_fail(Mutant::NoFence, "a_producer_dies_with_inline_messages");
}

#[test]
fn a_missing_release_is_noticed() {
    must_fail(Mutant::NoRelease, "a_producer_dies_with_inline_messages");
}

#[test]
fn a_blind_sleep_is_noticed() {
    must_fail(Mutant::SleepBlindly, "a_producer_dies_with_inline_messages");
}
