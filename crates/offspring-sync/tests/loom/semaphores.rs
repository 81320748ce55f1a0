//! Permits that name their holders, and plain counts.

use loom::sync::Arc;
use loom::thread;
use offspring_sync::primitive::model::{self, Mutant};
use offspring_sync::primitive::{AtomicU32, Ordering, UnsafeCell};
use offspring_sync::raw::{EventCount, RawCount, RawPermits};

use crate::world::{Members, at_every_step, change, live, must_fail, share, tag, undisturbed};

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
    must_fail(Mutant::NoWake, "semaphores::permits_of_two");
}

#[test]
fn permits_notice_a_missing_fence() {
    must_fail(Mutant::NoFence, "semaphores::permits_of_two");
}

#[test]
fn permits_notice_a_missing_release() {
    must_fail(Mutant::NoRelease, "semaphores::permits_of_two");
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
    must_fail(Mutant::NoFence, "semaphores::counts_reach_both");
}

#[test]
fn counts_notice_a_dropped_wake() {
    must_fail(Mutant::NoWake, "semaphores::counts_reach_both");
}
