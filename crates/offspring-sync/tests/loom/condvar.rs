//! Waiters in cells and in the crowd.

use loom::sync::Arc;
use loom::thread;
use offspring_sync::primitive::model::Mutant;
use offspring_sync::primitive::{AtomicU32, UnsafeCell};
use offspring_sync::raw::{RawCondvar, RawLock};

use crate::world::{Members, at_every_step, change, live, must_fail, read, share, tag, undisturbed};

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
    must_fail(Mutant::NoWake, "condvar::condvar_reaches_its_waiter");
}

#[test]
fn condvar_crowd_notices_a_blind_sleep() {
    must_fail(Mutant::SleepBlindly, "condvar::condvar_reaches_the_crowd");
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
