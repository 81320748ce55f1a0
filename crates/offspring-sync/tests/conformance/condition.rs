//! Rows C: condition variables.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use offspring_shm::Shared;
use offspring_sync::{Condvar, Event, LockError, Mutex, ReentrantMutex};
use offspring_testing::{wait_until, watchdog};

use crate::support::{self, Child, fork, timed};
use crate::{LONG, SHORT, about, join};

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

pub(crate) fn c1_notify_wakes_one() {
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

pub(crate) fn c2_notify_all() {
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

pub(crate) fn c3_notify_n() {
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

pub(crate) fn c4_wait_times_out() {
    let _watchdog = watchdog(LONG);
    let sleepers = Sleepers::new();
    let guard = sleepers.mutex.lock().unwrap();
    let ((_guard, told), elapsed) = timed(|| sleepers.condvar.wait_timeout(guard, SHORT).unwrap());
    assert!(!told);
    about(elapsed, SHORT);
}

pub(crate) fn c5_wait_for_a_predicate() {
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

pub(crate) fn c6_predicate_times_out() {
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

pub(crate) fn c7_signals_are_invisible() {
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

pub(crate) fn c8_reentrant_lock_is_fully_released() {
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
            );
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
