//! The behaviours of Python's `multiprocessing` locks, written anew: the rows L, C, E and B of the list of conformance.
//!
//! Where Python's test has processes and threads side by side, so has this: a child process, and a child of a child that waits in
//! a second thread.

mod support;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use offspring_shm::{Shared, SharedSlice};
use offspring_sync::{
    AcquireError, Barrier, BarrierError, BoundedSemaphore, Condvar, CountingSemaphore, Event, LockError, Mutex,
    ReentrantMutex, ReleaseError, Semaphore, raw::RawLock,
};
use offspring_testing::{run_single_threaded, wait_until, watchdog};
use support::{Child, fork, panics, timed};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(100);
/// How exact a timeout must be: Python's own tests allow this much.
const EXACT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    run_single_threaded(&[
        ("l1_lock", l1_lock),
        ("l2_reentrant_lock", l2_reentrant_lock),
        ("l3_scopes", l3_scopes),
        (
            "l4_locked_seen_from_another_process",
            l4_locked_seen_from_another_process,
        ),
        ("l5_semaphores", l5_semaphores),
        ("l6_timeouts", l6_timeouts),
        ("c1_notify_wakes_one", c1_notify_wakes_one),
        ("c2_notify_all", c2_notify_all),
        ("c3_notify_n", c3_notify_n),
        ("c4_wait_times_out", c4_wait_times_out),
        ("c5_wait_for_a_predicate", c5_wait_for_a_predicate),
        ("c6_predicate_times_out", c6_predicate_times_out),
        ("c7_signals_are_invisible", c7_signals_are_invisible),
        (
            "c8_reentrant_lock_is_fully_released",
            c8_reentrant_lock_is_fully_released,
        ),
        ("e1_event", e1_event),
        ("b1_lockstep", b1_lockstep),
        ("b2_return_values", b2_return_values),
        ("b3_action", b3_action),
        ("b4_abort", b4_abort),
        ("b5_reset", b5_reset),
        ("b6_abort_and_reset", b6_abort_and_reset),
        ("b7_timeout_breaks_for_all", b7_timeout_breaks_for_all),
        ("b8_default_timeout", b8_default_timeout),
        ("b9_one_party", b9_one_party),
        ("b10_a_thousand_passes", b10_a_thousand_passes),
        ("b11_no_parties", b11_no_parties),
        ("barrier_parties_may_change", barrier_parties_may_change),
    ])
}

fn join(children: Vec<Child>) {
    children.into_iter().for_each(|child| child.join());
}

#[track_caller]
fn about(elapsed: Duration, expected: Duration) {
    assert!(elapsed >= expected, "{elapsed:?} is less than {expected:?}");
    assert!(elapsed < expected + EXACT, "{elapsed:?} is much more than {expected:?}");
}

fn l1_lock() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u32)).unwrap();
    let guard = mutex.try_lock().unwrap();
    fork(|| assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)))).join();
    assert!(guard.unlock().is_ok());
    // A guard can be given back once only, the compiler says. Beneath it, giving back what one does not hold is an error.
    let family = offspring_sync::Membership::family().unwrap();
    let (raw, me) = (RawLock::new(), family.me().unwrap());
    raw.lock(&family, me, None).unwrap();
    assert!(raw.unlock(me, false, 1).is_ok());
    assert!(raw.unlock(me, false, 1).is_err());
}

fn l2_reentrant_lock() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(ReentrantMutex::new(0_u32)).unwrap();
    let guards: Vec<_> = (0..3).map(|_| mutex.lock().unwrap()).collect();
    let others_get_it = || fork(|| assert!(mutex.try_lock().is_ok()));
    for (left, guard) in guards.into_iter().enumerate() {
        fork(|| {
            assert!(
                matches!(mutex.try_lock(), Err(LockError::WouldBlock)),
                "{left} of 3 given back"
            )
        })
        .join();
        guard.unlock().unwrap();
    }
    others_get_it().join();
    assert!(!mutex.is_locked());
}

fn l3_scopes() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u32)).unwrap();
    let reentrant = Shared::new(ReentrantMutex::new(0_u32)).unwrap();
    {
        let _guard = mutex.lock().unwrap();
        let _outer = reentrant.lock().unwrap();
        let _inner = reentrant.lock().unwrap();
    }
    fork(|| assert!(mutex.try_lock().is_ok() && reentrant.try_lock().is_ok())).join();
    assert!(panics(|| {
        let _guard = mutex.lock().unwrap();
        panic!("on purpose: the scope ends all the same");
    }));
    assert!(!mutex.is_locked());
}

fn l4_locked_seen_from_another_process() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u32)).unwrap();
    let reentrant = Shared::new(ReentrantMutex::new(0_u32)).unwrap();
    let seen = |locked: bool| {
        fork(|| {
            assert_eq!((mutex.is_locked(), reentrant.is_locked()), (locked, locked));
            let parent = std::os::unix::process::parent_id();
            assert_eq!(mutex.holder().map(|holder| holder.pid), locked.then_some(parent));
            assert_eq!(reentrant.holder().map(|holder| holder.pid), locked.then_some(parent));
            assert_eq!(
                format!("{:?}", *mutex).contains(&format!("of process {parent}")),
                locked
            );
        })
        .join();
    };
    seen(false);
    let guards = (mutex.lock().unwrap(), reentrant.lock().unwrap());
    seen(true);
    drop(guards);
    seen(false);
}

fn l5_semaphores() {
    let _watchdog = watchdog(LONG);
    let semaphore = Shared::new(Semaphore::new(2).unwrap()).unwrap();
    assert_eq!(semaphore.available().unwrap(), 2);
    let first = semaphore.acquire().unwrap();
    assert_eq!(semaphore.available().unwrap(), 1);
    let second = semaphore.acquire().unwrap();
    assert_eq!(semaphore.available().unwrap(), 0);
    fork(|| assert!(matches!(semaphore.try_acquire(), Err(AcquireError::WouldBlock)))).join();
    drop(first);
    assert_eq!(semaphore.available().unwrap(), 1);
    drop(second);
    assert_eq!(semaphore.available().unwrap(), 2);

    let plain = Shared::new(CountingSemaphore::new(2)).unwrap();
    fork(|| plain.acquire().unwrap()).join();
    plain.acquire().unwrap();
    assert!(matches!(plain.try_acquire(), Err(AcquireError::WouldBlock)));
    for expected in 1..=4 {
        plain.release(1).unwrap();
        assert_eq!(plain.available().unwrap(), expected, "a plain one goes above its start");
    }
    plain.release(u32::MAX - 4).unwrap();
    assert!(matches!(plain.release(1), Err(ReleaseError::TooMany)));

    let bounded = Shared::new(BoundedSemaphore::new(2).unwrap()).unwrap();
    bounded.acquire().unwrap();
    bounded.acquire().unwrap();
    assert!(matches!(bounded.try_acquire(), Err(AcquireError::WouldBlock)));
    bounded.release().unwrap();
    bounded.release().unwrap();
    assert!(matches!(bounded.release(), Err(ReleaseError::NotHeld)));
    assert_eq!(bounded.available().unwrap(), 2);
    assert!(Semaphore::new(65).is_err());
    assert_eq!(Semaphore::<200>::with_capacity(65).unwrap().permits(), 65);
}

fn l6_timeouts() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u32)).unwrap();
    let semaphore = Shared::new(Semaphore::new(1).unwrap()).unwrap();
    let plain = Shared::new(CountingSemaphore::new(0)).unwrap();
    let held = (mutex.lock().unwrap(), semaphore.acquire().unwrap());
    fork(|| {
        for timeout in [Duration::ZERO, SHORT, Duration::from_millis(300)] {
            let (result, elapsed) = timed(|| mutex.lock_timeout(timeout).map(drop));
            assert!(result.unwrap_err().is_timeout());
            about(elapsed, timeout);
            let (result, elapsed) = timed(|| semaphore.acquire_timeout(timeout).map(drop));
            assert!(result.unwrap_err().is_timeout());
            about(elapsed, timeout);
            let (result, elapsed) = timed(|| plain.acquire_timeout(timeout));
            assert!(result.unwrap_err().is_timeout());
            about(elapsed, timeout);
        }
        let (_, elapsed) = timed(|| mutex.try_lock().map(drop).unwrap_err());
        about(elapsed, Duration::ZERO);
        // Without a limit it waits until it gets it.
        drop(mutex.lock_timeout(Duration::MAX).unwrap());
    })
    .tap(|child| {
        std::thread::sleep(Duration::from_millis(1500));
        child.await_sleep();
    })
    .also(|| drop(held))
    .join();
}

/// Steps between the start of a child and its end, in reading order.
trait Steps: Sized {
    fn tap(self, step: impl FnOnce(&Self)) -> Self {
        step(&self);
        self
    }
    fn also(self, step: impl FnOnce()) -> Self {
        step();
        self
    }
}

impl Steps for Child {}

/// A condition, and how many sleep and have woken.
struct Sleepers {
    mutex: Shared<Mutex<u32>>,
    condvar: Shared<Condvar>,
    woken: Shared<AtomicU32>,
}

impl Sleepers {
    fn new() -> Self {
        Sleepers {
            mutex: Shared::new(Mutex::new(0)).unwrap(),
            condvar: Shared::new(Condvar::new()).unwrap(),
            woken: Shared::new(AtomicU32::new(0)).unwrap(),
        }
    }

    /// Waits once, for at most `timeout`; counts if it was told.
    fn sleep(&self, timeout: Option<Duration>) {
        let guard = self.mutex.lock().unwrap();
        let told = match timeout {
            None => {
                drop(self.condvar.wait(guard).unwrap());
                true
            }
            Some(timeout) => self.condvar.wait_timeout(guard, timeout).unwrap().1,
        };
        if told {
            self.woken.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Starts `processes` children that sleep, and one that sleeps in `threads` threads.
    fn start(&self, processes: usize, threads: usize, timeout: Option<Duration>) -> Vec<Child> {
        let before = self.condvar.waiters();
        let mut children: Vec<_> = (0..processes).map(|_| fork(|| self.sleep(timeout))).collect();
        children.push(fork(|| {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| self.sleep(timeout));
                }
            });
        }));
        let all = before + processes + threads;
        assert!(wait_until(LONG, || self.condvar.waiters() >= all || timeout.is_some()));
        children
    }

    #[track_caller]
    fn expect(&self, woken: u32) {
        assert!(wait_until(LONG, || self.woken.load(Ordering::SeqCst) >= woken));
        // Longer than the first naps: nobody wakes up late.
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(self.woken.load(Ordering::SeqCst), woken);
    }
}

fn c1_notify_wakes_one() {
    let _watchdog = watchdog(LONG);
    let sleepers = Sleepers::new();
    let children = sleepers.start(1, 1, None);
    sleepers.expect(0);
    assert!(sleepers.condvar.notify_one().unwrap());
    sleepers.expect(1);
    assert!(sleepers.condvar.notify_one().unwrap());
    sleepers.expect(2);
    assert!(!sleepers.condvar.notify_one().unwrap(), "nobody is left");
    join(children);
}

fn c2_notify_all() {
    let _watchdog = watchdog(LONG);
    let sleepers = Sleepers::new();
    join(sleepers.start(3, 3, Some(SHORT)));
    sleepers.expect(0);
    let children = sleepers.start(3, 3, None);
    sleepers.expect(0);
    assert_eq!(sleepers.condvar.notify_all().unwrap(), 6);
    sleepers.expect(6);
    join(children);
}

fn c3_notify_n() {
    let _watchdog = watchdog(LONG);
    let sleepers = Sleepers::new();
    let children = sleepers.start(3, 3, None);
    assert_eq!(sleepers.condvar.notify(2).unwrap(), 2);
    sleepers.expect(2);
    assert_eq!(sleepers.condvar.notify(4).unwrap(), 4);
    sleepers.expect(6);
    assert_eq!(sleepers.condvar.notify(3).unwrap(), 0);
    sleepers.expect(6);
    join(children);
}

fn c4_wait_times_out() {
    let _watchdog = watchdog(LONG);
    let sleepers = Sleepers::new();
    let guard = sleepers.mutex.lock().unwrap();
    let ((_guard, told), elapsed) = timed(|| sleepers.condvar.wait_timeout(guard, SHORT).unwrap());
    assert!(!told);
    about(elapsed, SHORT);
}

fn c5_wait_for_a_predicate() {
    let _watchdog = watchdog(LONG);
    let sleepers = Sleepers::new();
    let child = fork(|| {
        let guard = sleepers
            .condvar
            .wait_while(sleepers.mutex.lock().unwrap(), |value| *value != 4)
            .unwrap();
        assert_eq!(*guard, 4);
    });
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(10));
        *sleepers.mutex.lock().unwrap() += 1;
        sleepers.condvar.notify_one().unwrap();
    }
    child.join();
}

fn c6_predicate_times_out() {
    let _watchdog = watchdog(LONG);
    let sleepers = Sleepers::new();
    let child = fork(|| {
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(5));
            sleepers.condvar.notify_one().unwrap();
        }
    });
    let guard = sleepers.mutex.lock().unwrap();
    let ((_guard, met), elapsed) = timed(|| sleepers.condvar.wait_timeout_while(guard, SHORT, |_| true).unwrap());
    assert!(!met);
    about(elapsed, SHORT);
    child.join();
}

fn c7_signals_are_invisible() {
    let _watchdog = watchdog(LONG);
    let sleepers = Sleepers::new();
    for timeout in [Duration::ZERO, SHORT] {
        let (_, told) = sleepers
            .condvar
            .wait_timeout(sleepers.mutex.lock().unwrap(), timeout)
            .unwrap();
        assert!(!told);
    }
    let event = Shared::new(Event::new()).unwrap();
    let child = fork(|| {
        support::handle_and_ignore(libc::SIGUSR1);
        let (_, elapsed) = timed(|| event.wait().unwrap());
        assert!(elapsed > SHORT);
        let guard = sleepers.mutex.lock().unwrap();
        let (_guard, told) = sleepers.condvar.wait_timeout(guard, LONG).unwrap();
        assert!(told);
        assert_eq!(support::signals_seen(), 20);
    });
    for round in 0..20 {
        child.await_sleep();
        child.signal(libc::SIGUSR1);
        std::thread::sleep(Duration::from_millis(10));
        if round == 14 {
            event.set().unwrap();
            assert!(wait_until(LONG, || sleepers.condvar.waiters() == 1));
        }
    }
    assert!(sleepers.condvar.notify_one().unwrap());
    child.join();
}

fn c8_reentrant_lock_is_fully_released() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(ReentrantMutex::new(AtomicU32::new(0))).unwrap();
    let condvar = Shared::new(Condvar::new()).unwrap();
    let child = fork(|| {
        let outer = mutex.lock().unwrap();
        let inner = mutex.lock().unwrap();
        let inner = condvar.wait(inner).unwrap();
        assert_eq!(inner.load(Ordering::Relaxed), 7);
        drop(inner);
        fork(|| {
            assert!(
                matches!(mutex.try_lock(), Err(LockError::WouldBlock)),
                "back to the same depth"
            )
        })
        .join();
        drop(outer);
        fork(|| assert!(mutex.try_lock().is_ok())).join();
    });
    assert!(wait_until(LONG, || condvar.waiters() == 1));
    mutex.lock().unwrap().store(7, Ordering::Relaxed);
    condvar.notify_one().unwrap();
    child.join();
}

fn e1_event() {
    let _watchdog = watchdog(LONG);
    let event = Shared::new(Event::new()).unwrap();
    assert!(!event.is_set());
    assert!(!event.wait_timeout(Duration::ZERO).unwrap());
    let (set, elapsed) = timed(|| event.wait_timeout(SHORT).unwrap());
    assert!(!set);
    about(elapsed, SHORT);
    event.set().unwrap();
    assert!(event.is_set());
    let ((), elapsed) = timed(|| event.wait().unwrap());
    about(elapsed, Duration::ZERO);
    assert!(event.wait_timeout(SHORT).unwrap());
    event.clear().unwrap();
    assert!(!event.is_set());
    let child = fork(|| {
        std::thread::sleep(SHORT);
        event.set().unwrap();
    });
    let ((), elapsed) = timed(|| event.wait().unwrap());
    assert!(elapsed >= SHORT / 2);
    child.join();
}

/// Runs `body` in `parties` processes, of which this is one.
fn parties(parties: usize, body: impl Fn()) {
    let children: Vec<_> = (1..parties).map(|_| fork(&body)).collect();
    body();
    join(children);
}

fn b1_lockstep() {
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

fn b2_return_values() {
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

fn b3_action() {
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

fn b4_abort() {
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

fn b5_reset() {
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

fn b6_abort_and_reset() {
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

fn b7_timeout_breaks_for_all() {
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

fn b8_default_timeout() {
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

fn b9_one_party() {
    let barrier = Shared::new(Barrier::new(1).unwrap()).unwrap();
    for _ in 0..100 {
        assert!(barrier.wait().unwrap().is_leader());
    }
}

fn b10_a_thousand_passes() {
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

fn b11_no_parties() {
    let error = Barrier::new(0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(Barrier::new(65).is_err());
    assert_eq!(Barrier::<100>::with_capacity(65).unwrap().parties(), 65);
}

/// As in Python, it does not matter who the parties of a round are.
fn barrier_parties_may_change() {
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
