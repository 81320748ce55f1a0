//! The flag.

use loom::sync::Arc;
use loom::thread;
use offspring_sync::primitive::UnsafeCell;
use offspring_sync::primitive::model::Mutant;
use offspring_sync::raw::RawEvent;

use crate::world::{Members, at_every_step, change, live, must_fail, read, share, undisturbed};

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
    must_fail(Mutant::NoWake, "event::event_with_one_waiter");
}

#[test]
fn event_notices_a_single_wake() {
    must_fail(Mutant::WakeOne, "event::event_with_two_waiters");
}

#[test]
fn event_notices_a_blind_sleep() {
    must_fail(Mutant::SleepBlindly, "event::event_with_one_waiter");
}

#[test]
fn event_notices_a_missing_release() {
    must_fail(Mutant::NoRelease, "event::event_with_one_waiter");
}

/// The setter dies between the store and the wake.
#[test]
fn event_notices_missing_naps() {
    must_fail(Mutant::NoNaps, "event::event_with_one_waiter");
}
