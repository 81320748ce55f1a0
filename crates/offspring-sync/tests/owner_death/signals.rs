//! Who dies with a permit, or on either side of a condition variable or an event.

use offspring_shm::Shared;
use offspring_sync::{Condvar, CountingSemaphore, Event, LockError, Mutex, Semaphore};
use offspring_testing::{wait_until, watchdog};

use crate::support::{fork, fork_and_hold, timed};
use crate::{LONG, NAP, PROMPT};

pub(crate) fn semaphore_holder() {
    let _watchdog = watchdog(LONG);
    let semaphore = Shared::new(Semaphore::new(2).unwrap()).unwrap();
    let holder = fork_and_hold(|| {
        std::mem::forget(semaphore.acquire().unwrap());
        std::mem::forget(semaphore.acquire().unwrap());
    });
    assert_eq!(semaphore.available().unwrap(), 0);
    let waiters: Vec<_> = (0..2)
        .map(|_| fork(|| std::mem::forget(semaphore.acquire().unwrap())))
        .collect();
    for waiter in &waiters {
        waiter.await_sleep();
    }
    let ((), elapsed) = timed(|| {
        holder.kill();
        waiters.into_iter().for_each(|waiter| waiter.join());
    });
    assert!(elapsed < PROMPT, "the waiters took {elapsed:?}");
    // They ended with their permits: those are back as well.
    assert_eq!(semaphore.available().unwrap(), 2);
}

pub(crate) fn semaphore_waiter() {
    let _watchdog = watchdog(LONG);
    let semaphore = Shared::new(Semaphore::new(1).unwrap()).unwrap();
    let permit = semaphore.acquire().unwrap();
    let victim = fork(|| drop(semaphore.acquire().unwrap()));
    victim.await_sleep();
    victim.signal(libc::SIGSTOP);
    let survivor = fork(|| drop(semaphore.acquire().unwrap()));
    survivor.await_sleep();
    let ((), elapsed) = timed(|| {
        drop(permit);
        victim.kill();
        survivor.join();
    });
    assert!(
        elapsed < NAP,
        "a wake that died with its receiver costs a nap, not {elapsed:?}"
    );
}

pub(crate) fn counting_semaphore_taker() {
    let _watchdog = watchdog(LONG);
    let semaphore = Shared::new(CountingSemaphore::new(1)).unwrap();
    fork_and_hold(|| semaphore.acquire().unwrap()).kill();
    assert_eq!(
        semaphore.available().unwrap(),
        0,
        "a counted permit dies with its taker, as documented"
    );
    semaphore.release(1).unwrap();
    semaphore.acquire().unwrap();
}

pub(crate) fn condvar_waiter() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let condvar = Shared::new(Condvar::new()).unwrap();
    let victim = fork(|| drop(condvar.wait(mutex.lock().unwrap())));
    assert!(wait_until(LONG, || condvar.waiters() == 1));
    victim.kill();
    let survivor = fork(|| {
        let guard = condvar.wait_while(mutex.lock().unwrap(), |value| *value == 0).unwrap();
        assert_eq!(*guard, 1);
    });
    assert!(wait_until(LONG, || condvar.waiters() == 2 || survivor.is_asleep()));
    survivor.await_sleep();
    let ((), elapsed) = timed(|| {
        *mutex.lock().unwrap() = 1;
        assert!(condvar.notify_one().unwrap(), "the dead waiter must not count");
        survivor.join();
    });
    assert!(elapsed < PROMPT, "the survivor took {elapsed:?}");
}

pub(crate) fn condvar_told_waiter() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let condvar = Shared::new(Condvar::new()).unwrap();
    let victim = fork(|| drop(condvar.wait(mutex.lock().unwrap())));
    victim.await_sleep();
    let survivor = fork(|| drop(condvar.wait(mutex.lock().unwrap())));
    survivor.await_sleep();
    // Told, but it never gets to know.
    victim.signal(libc::SIGSTOP);
    assert!(condvar.notify_one().unwrap());
    let ((), elapsed) = timed(|| {
        victim.kill();
        survivor.join();
    });
    assert!(elapsed < NAP, "the notification was handed on after {elapsed:?}");
}

pub(crate) fn condvar_owner_of_the_mutex() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let condvar = Shared::new(Condvar::new()).unwrap();
    let waiter = fork(|| {
        assert!(matches!(
            condvar.wait(mutex.lock().unwrap()),
            Err(LockError::OwnerDied(_))
        ));
    });
    waiter.await_sleep();
    let owner = fork_and_hold(|| {
        std::mem::forget(mutex.lock());
        condvar.notify_one().unwrap();
    });
    owner.kill();
    waiter.join();
}

pub(crate) fn event_setter_and_waiter() {
    let _watchdog = watchdog(LONG);
    let event = Shared::new(Event::new()).unwrap();
    let victim = fork(|| event.wait().unwrap());
    victim.await_sleep();
    let survivor = fork(|| event.wait().unwrap());
    survivor.await_sleep();
    victim.kill();
    fork_and_hold(|| assert!(event.set().unwrap())).kill();
    survivor.join();
    assert!(event.is_set(), "the flag outlives who set it");
}
