//! A waiter that waits for nothing costs nothing: its wake-ups are counted, and its processor time is measured.
//!
//! `OFFSPRING_IDLE_SECONDS` sets how long the waiters wait; the bounds follow.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use offspring_shm::Shared;
use offspring_sync::{Barrier, Condvar, CountingSemaphore, Event, Mutex, RwLock, Semaphore};
use offspring_testing::{run_single_threaded, watchdog};
use support::{fork, fork_and_hold, usage};

fn main() -> ExitCode {
    run_single_threaded(&[("idle_waiters_cost_nothing", idle_waiters_cost_nothing)])
}

fn idle_waiters_cost_nothing() {
    let seconds: u64 = std::env::var("OFFSPRING_IDLE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4);
    let time = Duration::from_secs(seconds);
    let _watchdog = watchdog(time + Duration::from_secs(30));
    let mutex = Shared::new(Mutex::new(0_u32)).unwrap();
    let own = Shared::new(Mutex::new(0_u32)).unwrap();
    let lock = Shared::new(RwLock::new(0_u32)).unwrap();
    let semaphore = Shared::new(Semaphore::new(1).unwrap()).unwrap();
    let count = Shared::new(CountingSemaphore::new(0)).unwrap();
    let condvar = Shared::new(Condvar::new()).unwrap();
    let event = Shared::new(Event::new()).unwrap();
    let barrier = Shared::new(Barrier::new(2).unwrap()).unwrap();
    let holder = fork_and_hold(|| {
        std::mem::forget(mutex.lock());
        std::mem::forget(lock.read());
        std::mem::forget(semaphore.acquire());
        assert!(barrier.join().unwrap());
    });
    let waits: [(&str, &dyn Fn()); 7] = [
        ("mutex", &|| assert!(mutex.lock_timeout(time).is_err())),
        ("rwlock", &|| assert!(lock.write_timeout(time).is_err())),
        ("semaphore", &|| assert!(semaphore.acquire_timeout(time).is_err())),
        ("counting semaphore", &|| assert!(count.acquire_timeout(time).is_err())),
        ("condvar", &|| {
            assert!(!condvar.wait_timeout(own.lock().unwrap(), time).unwrap().1);
        }),
        ("event", &|| assert!(!event.wait_timeout(time).unwrap())),
        ("barrier", &|| assert!(barrier.wait_timeout(time).is_err())),
    ];
    // Four naps in the first second, then one a second, and a handful for the start and the end.
    let most_naps = seconds as i64 + 12;
    // 60 s may cost 10 ms; the start costs a part of that however short the wait is.
    let most_time = Duration::from_millis(4) + time / 10_000;
    let waiters: Vec<_> = waits
        .iter()
        .map(|(name, wait)| {
            fork(|| {
                // The registration is no part of the wait.
                offspring_sync::Membership::family().unwrap().me().unwrap();
                let (time_before, naps_before) = usage();
                wait();
                let (time_after, naps_after) = usage();
                let (used, naps) = (time_after - time_before, naps_after - naps_before);
                println!("{name}: {naps} wake-ups, {used:?} of processor time in {time:?}");
                assert!(naps <= most_naps, "{name}: {naps} wake-ups in {time:?}");
                assert!(used <= most_time, "{name}: {used:?} of processor time in {time:?}");
            })
        })
        .collect();
    waiters.into_iter().for_each(|waiter| waiter.join());
    holder.kill();
}
