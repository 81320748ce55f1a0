//! Models of every protocol: all interleavings of a few threads, with one of them stopped for ever at each of its steps.
//!
//! A stopped thread is what `kill -9` leaves: nothing of it runs any more, the kernel marks its life word and wakes one sleeper on
//! it. Naps end only after a death; where a model runs with `Mutant::NoNaps` they do not end even then, which shows that the
//! protocol does not need them there.
//!
//! Each protocol also runs with a fault in the door (a wake that is dropped, a fence that is missing, ...), which the model must
//! notice.
#![cfg(loom)]
// UNSAFETY: reads and writes the cells that the modelled locks guard; the model checker reports an access that they do not.
#![expect(unsafe_code, reason = "cells that the modelled locks guard")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering as StdOrdering};

use loom::sync::Arc;
use loom::thread;
use offspring_sync::Tag;
use offspring_sync::primitive::model::{self, Mutant, Stopped};
use offspring_sync::primitive::{AtomicU32, AtomicU64, Ordering, UnsafeCell};
use offspring_sync::raw::{
    Acquired, EventCount, Life, Lives, RawBarrier, RawCondvar, RawCount, RawEvent, RawLock, RawPermits, RawRwLock,
    ReaderCell, Refused, Spin, Unmet,
};

/// What the lock guards, as one who may read it sees it.
fn read<T: Copy>(cell: &UnsafeCell<T>) -> T {
    // SAFETY: the model checker fails the test if somebody writes meanwhile.
    cell.with(|value| unsafe { *value })
}

/// Changes what the lock guards, as one who may.
fn change<T>(cell: &UnsafeCell<T>, change: impl FnOnce(&mut T)) {
    // SAFETY: the model checker fails the test if anybody else looks meanwhile.
    cell.with_mut(|value| change(unsafe { &mut *value }));
}

const ALIVE: u32 = 1;
const DEAD: u32 = 2;

/// A membership table of three.
#[derive(Debug)]
struct Members([AtomicU32; 3]);

impl Members {
    fn new() -> Self {
        Members([const { AtomicU32::new(ALIVE) }; 3])
    }

    /// What the kernel does after the last instruction of member `index`.
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

/// Shares `world` among the threads of a model. Its words are looked at first: the model wants them made before the threads part.
fn share<T: std::fmt::Debug>(world: T) -> Arc<T> {
    let _ = format!("{world:?}");
    Arc::new(world)
}

/// Runs `body` as member `index`, which stops for ever at step `stop`. Says whether it came to its end.
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

/// Whether a fuse burnt down in any execution of the current model.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// One model at a time: they share `STOPPED`.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    sabotage();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

/// Runs `body` without a death, then with a death at each step that the victim takes.
fn at_every_step(preemptions: usize, body: impl Fn(Option<usize>) + Clone + Send + Sync + 'static) {
    let _one = ONE.lock().unwrap_or_else(|poison| poison.into_inner());
    let undisturbed = body.clone();
    explore(preemptions, move || undisturbed(None));
    for step in 0.. {
        STOPPED.store(false, StdOrdering::Relaxed);
        let body = body.clone();
        explore(preemptions, move || body(Some(step)));
        if !STOPPED.load(StdOrdering::Relaxed) {
            assert!(step > 1, "the victim took no steps");
            return;
        }
    }
}

fn undisturbed(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let _one = ONE.lock().unwrap_or_else(|poison| poison.into_inner());
    explore(preemptions, body);
}

/// The model `test` must fail with this fault in the door. It runs in a process of its own, as a model that fails may abort.
fn must_fail(mutant: Mutant, test: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MUTANT, format!("{mutant:?}"))
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("running 1 test"), "there is no model {test}");
    assert!(!output.status.success(), "{test} did not notice {mutant:?}");
}

/// Which fault this process has in its door.
const MUTANT: &str = "OFFSPRING_MODEL_MUTANT";

fn sabotage() {
    let wanted = std::env::var(MUTANT).unwrap_or_default();
    for mutant in [
        Mutant::NoWake,
        Mutant::WakeOne,
        Mutant::SleepBlindly,
        Mutant::NoFence,
        Mutant::NoRelease,
        Mutant::NoNaps,
    ] {
        if wanted == format!("{mutant:?}") {
            model::sabotage(mutant);
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------- lock

#[derive(Debug)]
struct Guarded {
    members: Members,
    lock: RawLock,
    /// Two words that must agree, except after a death.
    data: UnsafeCell<(u32, u32)>,
}

impl Guarded {
    fn new() -> Arc<Self> {
        share(Guarded {
            members: Members::new(),
            lock: RawLock::new(),
            data: UnsafeCell::new((0, 0)),
        })
    }

    /// Locks, adds one to both words, unlocks.
    fn visit(&self, index: usize) {
        let acquired = self.lock.lock(&self.members, tag(index), None).unwrap();
        let data = read(&self.data);
        assert!(
            data.0 == data.1 || acquired != Acquired::Clean,
            "half-written data without a word of warning"
        );
        change(&self.data, |data| data.0 += 1);
        // A step between the two, so that the thread may stop here.
        self.lock.state();
        change(&self.data, |data| data.1 = data.0);
        self.lock.unlock(tag(index), false, 1).unwrap();
    }
}

fn lock(members: usize, preemptions: usize) {
    at_every_step(preemptions, move |stop| {
        let guarded = Guarded::new();
        let threads: Vec<_> = (1..members)
            .map(|index| {
                let guarded = Arc::clone(&guarded);
                thread::spawn(move || {
                    live(&guarded.members, index, None, || guarded.visit(index));
                })
            })
            .collect();
        live(&guarded.members, 0, stop, || guarded.visit(0));
        for thread in threads {
            thread.join().unwrap();
        }
        let acquired = guarded.lock.lock(&guarded.members, tag(2), None).unwrap();
        let data = read(&guarded.data);
        assert!(data.0 == data.1 || acquired != Acquired::Clean);
        assert!(
            data.0 as usize >= members - 1 && data.0 as usize <= members,
            "a visit was lost: {data:?}"
        );
    });
}

#[test]
fn lock_of_two() {
    lock(2, 3);
}

/// With one waiter every death wakes it: it needs no nap.
#[test]
fn lock_of_two_without_naps() {
    model::sabotage(Mutant::NoNaps);
    lock(2, 3);
}

#[test]
fn lock_of_three() {
    lock(3, 2);
}

#[test]
fn lock_notices_a_dropped_wake() {
    must_fail(Mutant::NoWake, "lock_of_two");
}

#[test]
fn lock_notices_a_blind_sleep() {
    must_fail(Mutant::SleepBlindly, "lock_of_two");
}

#[test]
fn lock_notices_a_missing_release() {
    must_fail(Mutant::NoRelease, "lock_of_two");
}

/// A waiter that dies after it was woken takes the wake with it: here the nap is needed.
#[test]
fn lock_of_three_notices_missing_naps() {
    must_fail(Mutant::NoNaps, "lock_of_three");
}

// -------------------------------------------------------------------------------------------------------------- rwlock

#[derive(Debug)]
struct Shelf {
    members: Members,
    writer: RawLock,
    cells: [ReaderCell; 2],
    data: UnsafeCell<(u32, u32)>,
}

impl Shelf {
    fn new() -> Arc<Self> {
        share(Shelf {
            members: Members::new(),
            writer: RawLock::new(),
            cells: [const { ReaderCell::new() }; 2],
            data: UnsafeCell::new((0, 0)),
        })
    }

    fn raw(&self) -> RawRwLock<'_> {
        RawRwLock {
            writer: &self.writer,
            cells: &self.cells,
        }
    }

    fn read(&self, index: usize) {
        let raw = self.raw();
        let (acquired, seat) = match raw.read_free(tag(index)) {
            Some(seat) => (Acquired::Clean, seat),
            None => raw.read(&self.members, tag(index), None).unwrap(),
        };
        let data = read(&self.data);
        assert!(
            data.0 == data.1 || acquired != Acquired::Clean,
            "half-written data without a word of warning"
        );
        raw.read_unlock(tag(index), seat, acquired != Acquired::Clean).unwrap();
    }

    fn write(&self, index: usize) {
        let raw = self.raw();
        raw.write(&self.members, tag(index), None).unwrap();
        change(&self.data, |data| data.0 += 1);
        self.writer.state();
        change(&self.data, |data| data.1 = data.0);
        raw.write_unlock(tag(index), false).unwrap();
    }
}

fn rwlock(reader_dies: bool, preemptions: usize) {
    at_every_step(preemptions, move |stop| {
        let shelf = Shelf::new();
        let other = Arc::clone(&shelf);
        let thread = thread::spawn(move || {
            live(&other.members, 1, None, || {
                if reader_dies { other.write(1) } else { other.read(1) }
            });
        });
        live(&shelf.members, 0, stop, || {
            if reader_dies { shelf.read(0) } else { shelf.write(0) }
        });
        thread.join().unwrap();
        // Whoever died where: the lock can be had for both.
        shelf.read(2);
        shelf.raw().write(&shelf.members, tag(2), None).unwrap();
    });
}

#[test]
fn rwlock_with_a_dying_reader() {
    rwlock(true, 2);
}

#[test]
fn rwlock_with_a_dying_writer() {
    rwlock(false, 2);
}

#[test]
fn rwlock_with_two_writers_and_a_reader() {
    undisturbed(1, || {
        let shelf = Shelf::new();
        let threads: Vec<_> = (1..3)
            .map(|index| {
                let shelf = Arc::clone(&shelf);
                thread::spawn(move || if index == 1 { shelf.write(1) } else { shelf.read(2) })
            })
            .collect();
        shelf.write(0);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(read(&shelf.data), (2, 2));
    });
}

#[test]
fn rwlock_notices_a_missing_fence() {
    must_fail(Mutant::NoFence, "rwlock_with_a_dying_reader");
}

#[test]
fn rwlock_notices_a_dropped_wake() {
    must_fail(Mutant::NoWake, "rwlock_with_a_dying_reader");
}

#[test]
fn rwlock_notices_a_missing_release() {
    must_fail(Mutant::NoRelease, "rwlock_with_a_dying_writer");
}

// --------------------------------------------------------------------------------------------------------------- event

#[derive(Debug)]
struct Flag {
    members: Members,
    event: RawEvent,
    data: UnsafeCell<u32>,
}

fn event(waiters: usize, stop: Option<usize>) {
    let flag = share(Flag {
        members: Members::new(),
        event: RawEvent::new(),
        data: UnsafeCell::new(0),
    });
    let threads: Vec<_> = (1..=waiters)
        .map(|_| {
            let flag = Arc::clone(&flag);
            thread::spawn(move || {
                assert!(flag.event.wait(None));
                assert_eq!(read(&flag.data), 7);
            })
        })
        .collect();
    let set = live(&flag.members, 0, stop, || {
        change(&flag.data, |data| *data = 7);
        flag.event.set();
        // A flag that is cleared at once still releases those who waited.
        flag.event.clear();
    });
    if !set && !flag.event.is_set() {
        // Died before it set the flag, or after it cleared it: somebody else sets it.
        assert_eq!(read(&flag.data), 7);
        flag.event.set();
    } else if set {
        // A waiter that came after the flag was cleared waits for the next time.
        flag.event.set();
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn event_with_one_waiter() {
    at_every_step(2, |stop| event(1, stop));
}

#[test]
fn event_with_two_waiters() {
    undisturbed(2, || event(2, None));
}

#[test]
fn event_notices_a_dropped_wake() {
    must_fail(Mutant::NoWake, "event_with_one_waiter");
}

#[test]
fn event_notices_a_single_wake() {
    must_fail(Mutant::WakeOne, "event_with_two_waiters");
}

#[test]
fn event_notices_a_blind_sleep() {
    must_fail(Mutant::SleepBlindly, "event_with_one_waiter");
}

#[test]
fn event_notices_a_missing_release() {
    must_fail(Mutant::NoRelease, "event_with_one_waiter");
}

/// The setter dies between the store and the wake.
#[test]
fn event_notices_missing_naps() {
    must_fail(Mutant::NoNaps, "event_with_one_waiter");
}

// --------------------------------------------------------------------------------------------------------- semaphores

#[derive(Debug)]
struct Pool {
    members: Members,
    cells: [AtomicU32; 1],
    bell: EventCount,
    data: UnsafeCell<u32>,
}

impl Pool {
    fn visit(&self, index: usize) {
        let raw = RawPermits {
            cells: &self.cells,
            bell: &self.bell,
        };
        let permit = raw.acquire(&self.members, tag(index), None).unwrap();
        change(&self.data, |data| *data += 1);
        raw.release(tag(index), permit).unwrap();
    }
}

fn permits(members: usize, preemptions: usize) {
    at_every_step(preemptions, move |stop| {
        let pool = share(Pool {
            members: Members::new(),
            cells: [const { AtomicU32::new(0) }; 1],
            bell: EventCount::new(),
            data: UnsafeCell::new(0),
        });
        let threads: Vec<_> = (1..members)
            .map(|index| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || {
                    live(&pool.members, index, None, || pool.visit(index));
                })
            })
            .collect();
        live(&pool.members, 0, stop, || pool.visit(0));
        for thread in threads {
            thread.join().unwrap();
        }
        let raw = RawPermits {
            cells: &pool.cells,
            bell: &pool.bell,
        };
        assert_eq!(raw.available(&pool.members), 1, "a permit was lost");
    });
}

#[test]
fn permits_of_two() {
    permits(2, 2);
}

#[test]
fn permits_of_two_without_naps() {
    model::sabotage(Mutant::NoNaps);
    permits(2, 2);
}

#[test]
fn permits_of_three() {
    permits(3, 2);
}

#[test]
fn permits_notice_a_dropped_wake() {
    must_fail(Mutant::NoWake, "permits_of_two");
}

#[test]
fn permits_notice_a_missing_fence() {
    must_fail(Mutant::NoFence, "permits_of_two");
}

#[test]
fn permits_notice_a_missing_release() {
    must_fail(Mutant::NoRelease, "permits_of_two");
}

/// Two come and go, two are given: each of the two must get one, although one wake may have been spent for both.
fn count(preemptions: usize) {
    undisturbed(preemptions, || {
        let world = share((AtomicU32::new(0), EventCount::new()));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    RawCount {
                        count: &world.0,
                        bell: &world.1,
                    }
                    .acquire(None)
                    .unwrap();
                })
            })
            .collect();
        let raw = RawCount {
            count: &world.0,
            bell: &world.1,
        };
        assert!(raw.release(1));
        assert!(raw.release(1));
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(world.0.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn counts_reach_both() {
    count(2);
}

#[test]
fn counts_notice_a_missing_fence() {
    must_fail(Mutant::NoFence, "counts_reach_both");
}

#[test]
fn counts_notice_a_dropped_wake() {
    must_fail(Mutant::NoWake, "counts_reach_both");
}

// ------------------------------------------------------------------------------------------------------------- condvar

#[derive(Debug)]
struct Turn {
    members: Members,
    lock: RawLock,
    cells: [AtomicU32; 2],
    crowd: AtomicU32,
    rotors: [AtomicU32; 2],
    ready: UnsafeCell<u32>,
}

impl Turn {
    fn new() -> Arc<Self> {
        share(Turn {
            members: Members::new(),
            lock: RawLock::new(),
            cells: [const { AtomicU32::new(0) }; 2],
            crowd: AtomicU32::new(0),
            rotors: [const { AtomicU32::new(0) }; 2],
            ready: UnsafeCell::new(0),
        })
    }

    fn raw(&self, cells: usize) -> RawCondvar<'_> {
        RawCondvar {
            cells: &self.cells[..cells],
            crowd: &self.crowd,
            rotors: &self.rotors,
        }
    }

    /// Waits until there is one, and takes it.
    fn take(&self, index: usize, cells: usize) {
        let me = tag(index);
        self.lock.lock(&self.members, me, None).unwrap();
        while read(&self.ready) == 0 {
            let raw = self.raw(cells);
            let place = raw.sit_down(&self.members, me);
            self.lock.unlock(me, false, 1).unwrap();
            raw.wait(&self.members, me, place, None);
            self.lock.lock(&self.members, me, None).unwrap();
        }
        change(&self.ready, |ready| *ready -= 1);
        self.lock.unlock(me, false, 1).unwrap();
    }

    fn give(&self, index: usize, cells: usize) {
        let me = tag(index);
        self.lock.lock(&self.members, me, None).unwrap();
        change(&self.ready, |ready| *ready += 1);
        self.lock.unlock(me, false, 1).unwrap();
        self.raw(cells).notify(&self.members, 1);
    }
}

fn condvar(cells: usize, preemptions: usize) {
    undisturbed(preemptions, move || {
        let turn = Turn::new();
        let other = Arc::clone(&turn);
        let thread = thread::spawn(move || other.take(1, cells));
        turn.give(0, cells);
        thread.join().unwrap();
    });
}

#[test]
fn condvar_reaches_its_waiter() {
    condvar(1, 3);
}

#[test]
fn condvar_reaches_the_crowd() {
    condvar(0, 3);
}

#[test]
fn condvar_notices_a_dropped_wake() {
    must_fail(Mutant::NoWake, "condvar_reaches_its_waiter");
}

#[test]
fn condvar_crowd_notices_a_blind_sleep() {
    must_fail(Mutant::SleepBlindly, "condvar_reaches_the_crowd");
}

/// One waiter is told and dies: the other is told in its place. Without the death, each gets one.
fn condvar_with_a_dying_waiter(preemptions: usize) {
    at_every_step(preemptions, |stop| {
        let turn = Turn::new();
        let other = Arc::clone(&turn);
        let survivor = thread::spawn(move || {
            live(&other.members, 1, None, || other.take(1, 2));
        });
        let giver = Arc::clone(&turn);
        let giving = thread::spawn(move || {
            live(&giver.members, 2, None, || {
                giver.give(2, 2);
                giver.give(2, 2);
            });
        });
        live(&turn.members, 0, stop, || turn.take(0, 2));
        survivor.join().unwrap();
        giving.join().unwrap();
    });
}

#[test]
fn condvar_hands_on_what_a_dead_waiter_was_told() {
    condvar_with_a_dying_waiter(2);
}

// ------------------------------------------------------------------------------------------------------------- barrier

#[derive(Debug)]
struct Meeting {
    members: Members,
    state: AtomicU64,
    bell: AtomicU32,
    breach: AtomicU32,
    actor: AtomicU64,
    seats: [AtomicU64; 3],
    /// What each party wrote before it arrived.
    notes: [UnsafeCell<u32>; 3],
}

impl Meeting {
    fn new() -> Arc<Self> {
        share(Meeting {
            members: Members::new(),
            state: AtomicU64::new(0),
            bell: AtomicU32::new(0),
            breach: AtomicU32::new(0),
            actor: AtomicU64::new(0),
            seats: [const { AtomicU64::new(0) }; 3],
            notes: [const { UnsafeCell::new(0) }; 3],
        })
    }

    fn raw(&self, parties: usize) -> RawBarrier<'_> {
        RawBarrier {
            state: &self.state,
            bell: &self.bell,
            breach: &self.breach,
            actor: &self.actor,
            seats: &self.seats[..parties],
        }
    }

    /// Meets the others `rounds` times; false if the barrier broke.
    fn attend(&self, index: usize, parties: usize, rounds: u32) -> bool {
        for round in 1..=rounds {
            change(&self.notes[index], |note| *note = round);
            match self
                .raw(parties)
                .wait(&self.members, tag(index), None, Spin::none(), None)
            {
                Ok(_) => {}
                Err(Unmet::Broken(_)) => return false,
                Err(Unmet::TimedOut) => panic!("nobody set a time"),
            }
            if round == rounds {
                // All have written, and nobody writes any more.
                for note in &self.notes[..parties] {
                    assert_eq!(read(note), rounds);
                }
            }
        }
        true
    }
}

fn barrier(parties: usize, rounds: u32, preemptions: usize) {
    at_every_step(preemptions, move |stop| {
        let meeting = Meeting::new();
        // All are members before one of them can die: nobody misses a stranger.
        for index in 0..parties {
            assert!(meeting.raw(parties).join(tag(index)));
        }
        let threads: Vec<_> = (1..parties)
            .map(|index| {
                let meeting = Arc::clone(&meeting);
                thread::spawn(move || {
                    let mut met = false;
                    live(&meeting.members, index, None, || {
                        met = meeting.attend(index, parties, rounds);
                    });
                    met
                })
            })
            .collect();
        let mut met = false;
        let survived = live(&meeting.members, 0, stop, || met = meeting.attend(0, parties, rounds));
        let others: Vec<bool> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        if survived {
            assert!(met && others.iter().all(|met| *met), "broken, and nobody died");
        }
    });
}

#[test]
fn barrier_of_two() {
    barrier(2, 1, 3);
}

#[test]
fn barrier_of_two_twice() {
    barrier(2, 2, 2);
}

#[test]
fn barrier_of_three() {
    barrier(3, 1, 1);
}

#[test]
fn barrier_notices_a_dropped_wake() {
    must_fail(Mutant::NoWake, "barrier_of_two");
}

#[test]
fn barrier_notices_a_missing_fence() {
    must_fail(Mutant::NoFence, "barrier_of_two");
}

#[test]
fn barrier_notices_a_missing_release() {
    must_fail(Mutant::NoRelease, "barrier_of_two");
}

#[test]
fn barrier_notices_a_blind_sleep() {
    must_fail(Mutant::SleepBlindly, "barrier_of_two");
}

/// A reset under a waiter: it is told, or it meets the next round, and the barrier can be used afterwards.
#[test]
fn barrier_reset_releases_its_waiter() {
    undisturbed(2, || {
        let meeting = Meeting::new();
        let other = Arc::clone(&meeting);
        let waiter = thread::spawn(move || {
            let raw = other.raw(2);
            while raw.wait(&other.members, tag(1), None, Spin::none(), None).is_err() {}
        });
        let raw = meeting.raw(2);
        raw.reset(&meeting.members);
        while raw.wait(&meeting.members, tag(0), None, Spin::none(), None).is_err() {}
        waiter.join().unwrap();
    });
}

// ------------------------------------------------------------------------------------------------------------ refusals

#[test]
fn refusals_change_nothing() {
    undisturbed(1, || {
        let members = Members::new();
        let lock = RawLock::new();
        lock.lock(&members, tag(0), None).unwrap();
        assert_eq!(lock.lock(&members, tag(0), None), Err(Refused::AlreadyHeld));
        assert_eq!(lock.try_lock(&members, tag(1)), Err(Refused::WouldBlock));
        assert!(lock.unlock(tag(1), false, 1).is_err());
        lock.unlock(tag(0), false, 1).unwrap();
    });
}
