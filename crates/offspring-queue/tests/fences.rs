//! Queues where the kernel forbids what makes them fast: membarrier(2), as some sandboxes do.

mod support;

use std::process::ExitCode;

use offspring_queue::Queue;
use offspring_testing::run_single_threaded;
use support::{forbid_membarrier, fork, scene};

const MESSAGES: u64 = 20_000;

/// Sends numbers to and fro; the queues are so small that both sides sleep now and then.
fn exchange(there: &Queue<u64>, back: &Queue<u64>, restrict_one: impl FnOnce()) {
    let echo = fork({
        let (there, back) = (there.clone(), back.clone());
        move || {
            restrict_one();
            for _ in 0..MESSAGES {
                back.send(there.recv().unwrap() + 1).unwrap();
            }
        }
    });
    for batch in 0..MESSAGES / 4 {
        for number in 0..4 {
            there.send(batch * 4 + number).unwrap();
        }
        for number in 0..4 {
            assert_eq!(back.recv().unwrap(), batch * 4 + number + 1);
        }
    }
    echo.join();
}

/// A family that never had it. Must come first: the other makes this process one that has.
fn nobody_may() {
    let scene = scene();
    fork(|| {
        forbid_membarrier();
        exchange(&Queue::new(4).unwrap(), &Queue::new(2).unwrap(), || {});
    })
    .join();
    scene.end();
}

/// One joins who may not interrupt the others: it sends as fast as they do, and sleeps in short naps.
fn one_may_not() {
    let scene = scene();
    let (there, back) = (Queue::new(4).unwrap(), Queue::new(2).unwrap());
    exchange(&there, &back, forbid_membarrier);
    drop((there, back));
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[("nobody_may", nobody_may), ("one_may_not", one_may_not)])
}
