//! The owner-word lock.

use loom::sync::Arc;
use loom::thread;
use offspring_sync::primitive::UnsafeCell;
use offspring_sync::primitive::model::{self, Mutant};
use offspring_sync::raw::{Acquired, RawLock};

use crate::world::{Members, at_every_step, change, live, must_fail, read, share, tag};

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
    must_fail(Mutant::NoWake, "lock::lock_of_two");
}

#[test]
fn lock_notices_a_blind_sleep() {
    must_fail(Mutant::SleepBlindly, "lock::lock_of_two");
}

#[test]
fn lock_notices_a_missing_release() {
    must_fail(Mutant::NoRelease, "lock::lock_of_two");
}

/// A waiter that dies after it was woken takes the wake with it: here the nap is needed.
#[test]
fn lock_of_three_notices_missing_naps() {
    must_fail(Mutant::NoNaps, "lock::lock_of_three");
}
