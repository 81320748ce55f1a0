//! Rows B: barriers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use offspring_shm::{Shared, SharedSlice};
use offspring_sync::{Barrier, BarrierError, Event};
use offspring_testing::{wait_until, watchdog};

use crate::support::{fork, timed};
use crate::{LONG, SHORT, about, join};

/// Runs `body` in `parties` processes, of which this is one.
fn parties(parties: usize, body: impl Fn()) {
    let children: Vec<_> = (1..parties).map(|_| fork(&body)).collect();
    body();
    join(children);
}

pub(crate) fn b1_lockstep() {
    let _watchdog = watchdog(LONG);
    for passes in [1, 10] {
        let barrier = Shared::new(Barrier::new(5).unwrap()).unwrap();
        let arrived = SharedSlice::from_fn(2 * passes, |_| AtomicU32::new(0)).unwrap();
        parties(5, || {
            for pass in 0..2 * passes {
                assert_eq!(arrived[pass].fetch_add(1, Ordering::Relaxed) / 5, 0);
                if pass > 0 {
                    assert_eq!(arrived[pass - 1].load(Ordering::Relaxed), 5, "nobody is a round ahead");
                }
                barrier.wait().unwrap();
                assert_eq!(arrived[pass].load(Ordering::Relaxed), 5);
            }
        });
        assert_eq!(barrier.waiting(), 0);
        assert!(!barrier.is_broken());
        assert_eq!(barrier.parties(), 5);
    }
}

pub(crate) fn b2_return_values() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(5).unwrap()).unwrap();
    let seen = Shared::new(AtomicU32::new(0)).unwrap();
    let leaders = Shared::new(AtomicU32::new(0)).unwrap();
    parties(5, || {
        let result = barrier.wait().unwrap();
        seen.fetch_add(1 << (4 * result.index()), Ordering::Relaxed);
        leaders.fetch_add(u32::from(result.is_leader()), Ordering::Relaxed);
    });
    assert_eq!(seen.load(Ordering::Relaxed), 0x11111, "each number once");
    assert_eq!(leaders.load(Ordering::Relaxed), 1);
}

pub(crate) fn b3_action() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(5).unwrap()).unwrap();
    let runs = Shared::new(AtomicU32::new(0)).unwrap();
    parties(5, || {
        for pass in 1..=50 {
            barrier
                .wait_with(|| {
                    std::thread::yield_now();
                    runs.fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
            assert_eq!(runs.load(Ordering::Relaxed), pass, "run once, before anyone leaves");
            barrier.wait().unwrap();
        }
    });
}

pub(crate) fn b4_abort() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(5).unwrap()).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| fork(|| assert!(matches!(barrier.wait(), Err(BarrierError::Broken)))))
        .collect();
    assert!(wait_until(LONG, || barrier.waiting() == 4));
    barrier.abort().unwrap();
    join(children);
    assert!(barrier.is_broken());
    assert!(matches!(barrier.wait(), Err(BarrierError::Broken)), "it stays broken");
    assert_eq!(barrier.waiting(), 0);
}

pub(crate) fn b5_reset() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(5).unwrap()).unwrap();
    let again = Shared::new(Event::new()).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                assert!(matches!(barrier.wait(), Err(BarrierError::Broken)));
                again.wait().unwrap();
                barrier.wait().unwrap();
            })
        })
        .collect();
    assert!(wait_until(LONG, || barrier.waiting() == 4));
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
    again.set().unwrap();
    barrier.wait().unwrap();
    join(children);
}

pub(crate) fn b6_abort_and_reset() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(3).unwrap()).unwrap();
    let children: Vec<_> = (0..2)
        .map(|_| {
            fork(|| {
                barrier.wait().unwrap();
                assert!(matches!(barrier.wait(), Err(BarrierError::Broken)));
                assert!(wait_until(LONG, || !barrier.is_broken()));
                barrier.wait().unwrap();
            })
        })
        .collect();
    barrier.wait().unwrap();
    assert!(wait_until(LONG, || barrier.waiting() == 2));
    barrier.abort().unwrap();
    std::thread::sleep(SHORT);
    barrier.reset().unwrap();
    barrier.wait().unwrap();
    join(children);
}

pub(crate) fn b7_timeout_breaks_for_all() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(5).unwrap()).unwrap();
    let late = fork(|| {
        std::thread::sleep(Duration::from_millis(800));
        assert!(matches!(barrier.wait_timeout(LONG), Err(BarrierError::Broken)));
    });
    let others: Vec<_> = (0..3)
        .map(|_| fork(|| assert!(matches!(barrier.wait(), Err(BarrierError::Broken)))))
        .collect();
    let (result, elapsed) = timed(|| barrier.wait_timeout(Duration::from_millis(500)));
    assert!(matches!(result, Err(BarrierError::TimedOut)));
    about(elapsed, Duration::from_millis(500));
    join(others);
    late.join();
}

pub(crate) fn b8_default_timeout() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(2).unwrap().timeout(Duration::from_millis(300))).unwrap();
    let other = fork(|| {
        barrier.wait().unwrap();
        assert!(barrier.wait().is_err());
    });
    barrier.wait().unwrap();
    other.await_sleep();
    std::thread::sleep(Duration::from_millis(500));
    assert!(barrier.is_broken());
    other.join();
}

pub(crate) fn b9_one_party() {
    let barrier = Shared::new(Barrier::new(1).unwrap()).unwrap();
    for _ in 0..100 {
        assert!(barrier.wait().unwrap().is_leader());
    }
}

pub(crate) fn b10_a_thousand_passes() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(5).unwrap()).unwrap();
    let messages = Shared::new(AtomicU32::new(0)).unwrap();
    parties(5, || {
        for pass in 0..1000 {
            let message = messages.fetch_add(1, Ordering::Relaxed);
            assert_eq!(message / 5, pass, "messages come strictly in rounds");
            barrier.wait().unwrap();
        }
    });
    assert_eq!(messages.load(Ordering::Relaxed), 5000);
}

pub(crate) fn b11_no_parties() {
    let error = Barrier::new(0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(Barrier::new(65).is_err());
    assert_eq!(Barrier::<100>::with_capacity(65).unwrap().parties(), 65);
}

/// As in Python, it does not matter who the parties of a round are.
pub(crate) fn barrier_parties_may_change() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(2).unwrap()).unwrap();
    let children: Vec<_> = (0..10)
        .map(|_| {
            fork(|| {
                barrier.wait().unwrap();
                barrier.leave().unwrap();
            })
        })
        .collect();
    join(children);
    assert!(!barrier.is_broken());
}
