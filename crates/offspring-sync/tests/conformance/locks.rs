//! Rows L: locks and semaphores.

use std::time::Duration;

use offspring_shm::Shared;
use offspring_sync::raw::RawLock;
use offspring_sync::{
    AcquireError, BoundedSemaphore, CountingSemaphore, LockError, Membership, Mutex, ReentrantMutex, ReleaseError,
    Semaphore,
};
use offspring_testing::watchdog;

use crate::support::{Child, fork, panics, timed};
use crate::{LONG, SHORT, about};

pub(crate) fn l1_lock() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u32)).unwrap();
    let guard = mutex.try_lock().unwrap();
    fork(|| assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)))).join();
    assert!(guard.unlock().is_ok());
    // A guard can be given back once only, the compiler says. Beneath it, giving back what one does not hold is an error.
    let family = Membership::family().unwrap();
    let (raw, me) = (RawLock::new(), family.me().unwrap());
    raw.lock(&family, me, None).unwrap();
    assert!(raw.unlock(me, false, 1).is_ok());
    assert!(raw.unlock(me, false, 1).is_err());
}

pub(crate) fn l2_reentrant_lock() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(ReentrantMutex::new(0_u32)).unwrap();
    let guards: Vec<_> = (0..3).map(|_| mutex.lock().unwrap()).collect();
    let others_get_it = || fork(|| assert!(mutex.try_lock().is_ok()));
    for (left, guard) in guards.into_iter().enumerate() {
        fork(|| {
            assert!(
                matches!(mutex.try_lock(), Err(LockError::WouldBlock)),
                "{left} of 3 given back"
            );
        })
        .join();
        guard.unlock().unwrap();
    }
    others_get_it().join();
    assert!(!mutex.is_locked());
}

pub(crate) fn l3_scopes() {
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

pub(crate) fn l4_locked_seen_from_another_process() {
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

pub(crate) fn l5_semaphores() {
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

pub(crate) fn l6_timeouts() {
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
