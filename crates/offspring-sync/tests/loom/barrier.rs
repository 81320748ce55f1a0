//! Seats and rounds.

use loom::sync::Arc;
use loom::thread;
use offspring_sync::primitive::model::Mutant;
use offspring_sync::primitive::{AtomicU32, AtomicU64, UnsafeCell};
use offspring_sync::raw::{RawBarrier, Spin, Unmet};

use crate::world::{Members, at_every_step, change, live, must_fail, read, share, tag, undisturbed};

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
    must_fail(Mutant::NoWake, "barrier::barrier_of_two");
}

#[test]
fn barrier_notices_a_missing_fence() {
    must_fail(Mutant::NoFence, "barrier::barrier_of_two");
}

#[test]
fn barrier_notices_a_missing_release() {
    must_fail(Mutant::NoRelease, "barrier::barrier_of_two");
}

#[test]
fn barrier_notices_a_blind_sleep() {
    must_fail(Mutant::SleepBlindly, "barrier::barrier_of_two");
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
