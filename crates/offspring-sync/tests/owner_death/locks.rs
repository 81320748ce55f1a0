//! Who dies with a lock, or while it waits for one.

use std::sync::atomic::{AtomicU32, Ordering};

use offspring_shm::Shared;
use offspring_sync::{Event, LockError, Mutex, ReentrantMutex, RwLock};
use offspring_testing::{wait_until, watchdog};

use crate::support::{self, fork, fork_and_hold, panics, timed};
use crate::{LONG, NAP, PROMPT};

pub(crate) fn mutex_owner() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let owner = fork_and_hold(|| {
        let mut guard = mutex.lock().unwrap();
        *guard = 1;
        std::mem::forget(guard);
    });
    assert!(mutex.is_locked());
    assert_eq!(mutex.holder().unwrap().pid, owner.pid());
    let asleep = Shared::new(Event::new()).unwrap();
    let waiter = fork(|| {
        asleep.set().unwrap();
        let Err(LockError::OwnerDied(mut guard)) = mutex.lock() else {
            panic!("not told of the death")
        };
        assert_eq!(*guard, 1, "what the dead owner wrote is visible");
        *guard = 2;
        guard.mark_consistent();
    });
    asleep.wait().unwrap();
    waiter.await_sleep();
    let ((), elapsed) = timed(|| {
        owner.kill();
        waiter.join();
    });
    assert!(elapsed < PROMPT, "the waiter took {elapsed:?} to notice");
    assert_eq!(*mutex.lock().unwrap(), 2, "repaired: nobody is told any more");
}

pub(crate) fn mutex_owner_with_many_sleepers() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let other = Shared::new(Mutex::new(0_u64)).unwrap();
    let owner = fork_and_hold(|| {
        std::mem::forget(mutex.lock());
        std::mem::forget(other.lock());
    });
    let died = Shared::new(AtomicU32::new(0)).unwrap();
    // The kernel wakes one sleeper of the dead: it has to wake those of the other lock.
    let waiters: Vec<_> = (0..6)
        .map(|number| {
            let lock = if number % 2 == 0 { &mutex } else { &other };
            fork(|| match lock.lock() {
                Ok(mut guard) => *guard += 1,
                Err(LockError::OwnerDied(mut guard)) => {
                    died.fetch_add(1, Ordering::Relaxed);
                    *guard += 1;
                    guard.mark_consistent();
                }
                Err(error) => panic!("{error}"),
            })
        })
        .collect();
    for waiter in &waiters {
        waiter.await_sleep();
    }
    let ((), elapsed) = timed(|| {
        owner.kill();
        for waiter in waiters {
            waiter.join();
        }
    });
    assert!(elapsed < PROMPT, "the waiters took {elapsed:?}");
    assert_eq!(died.load(Ordering::Relaxed), 2, "one is told for each lock");
    assert_eq!((*mutex.lock().unwrap(), *other.lock().unwrap()), (3, 3));
}

pub(crate) fn mutex_unrepaired() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    fork_and_hold(|| std::mem::forget(mutex.lock())).kill();
    for _ in 0..3 {
        let Err(LockError::OwnerDied(guard)) = mutex.lock() else {
            panic!("the mark was lost")
        };
        drop(guard);
        assert!(mutex.is_poisoned());
    }
    // Dying while the mark is there keeps it, too.
    fork_and_hold(|| {
        let Err(LockError::OwnerDied(guard)) = mutex.lock() else {
            panic!("the mark was lost")
        };
        std::mem::forget(guard);
    })
    .kill();
    assert!(matches!(mutex.try_lock(), Err(LockError::OwnerDied(_))));
    assert_eq!(*mutex.lock_recovered().unwrap(), 0);
    assert!(mutex.try_lock().is_ok());
}

pub(crate) fn mutex_owner_panics() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    assert!(panics(|| {
        let _guard = mutex.lock().unwrap();
        panic!("on purpose");
    }));
    let Err(LockError::Poisoned(mut guard)) = mutex.lock() else {
        panic!("not told of the panic")
    };
    guard.mark_consistent();
    drop(guard);
    assert!(mutex.lock().is_ok());
    fork_and_hold(|| std::mem::forget(mutex.lock())).kill();
    assert!(
        matches!(mutex.lock(), Err(LockError::OwnerDied(_))),
        "a death after a panic is a death"
    );
}

pub(crate) fn mutex_owner_thread_ends() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    fork(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| std::mem::forget(mutex.lock()));
        });
        assert!(
            matches!(mutex.lock(), Err(LockError::OwnerDied(_))),
            "a thread that ends with the lock has died inside"
        );
    })
    .join();
}

pub(crate) fn mutex_owner_execs() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let owner = fork(|| {
        use std::os::unix::process::CommandExt;
        std::mem::forget(mutex.lock());
        let error = std::process::Command::new("/bin/sleep").arg("100").exec();
        panic!("exec failed: {error}");
    });
    assert!(wait_until(LONG, || mutex.is_locked()));
    assert!(
        matches!(mutex.lock(), Err(LockError::OwnerDied(_))),
        "a new program does not hold the old one's locks"
    );
    owner.kill();
}

/// The kernel gives up on a thread's robust list after 2048 entries, and the token is the oldest: then /proc tells.
pub(crate) fn mutex_owner_that_the_kernel_missed() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let owner = fork_and_hold(|| {
        std::mem::forget(mutex.lock());
        support::hold_robust_mutexes(2100);
    });
    let waiter = fork(|| {
        assert!(matches!(mutex.lock(), Err(LockError::OwnerDied(_))));
    });
    waiter.await_sleep();
    owner.kill();
    let holder = mutex.holder().unwrap();
    assert!(!holder.dead, "the kernel was not to mark it: this test tests nothing");
    let ((), elapsed) = timed(|| waiter.join());
    assert!(elapsed < NAP, "took {elapsed:?}");
    assert!(elapsed > PROMPT, "too fast for /proc: this test tests nothing");
}

pub(crate) fn mutex_waiter() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let guard = mutex.lock().unwrap();
    let victims: Vec<_> = (0..3).map(|_| fork(|| *mutex.lock().unwrap() += 100)).collect();
    let survivor = fork(|| *mutex.lock().unwrap() += 1);
    for victim in &victims {
        victim.await_sleep();
    }
    survivor.await_sleep();
    victims.into_iter().for_each(|victim| victim.kill());
    let ((), elapsed) = timed(|| {
        drop(guard);
        survivor.join();
    });
    assert!(elapsed < PROMPT, "the survivor took {elapsed:?}");
    assert_eq!(*mutex.lock().unwrap(), 1);
}

pub(crate) fn mutex_woken_waiter() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let guard = mutex.lock().unwrap();
    let victim = fork(|| *mutex.lock().unwrap() += 100);
    victim.await_sleep();
    // First in the queue, but stopped: it is woken and cannot run.
    victim.signal(libc::SIGSTOP);
    let survivor = fork(|| *mutex.lock().unwrap() += 1);
    survivor.await_sleep();
    let ((), elapsed) = timed(|| {
        drop(guard);
        victim.kill();
        survivor.join();
    });
    assert!(
        elapsed < NAP,
        "a wake that died with its receiver costs a nap, not {elapsed:?}"
    );
    assert_eq!(*mutex.lock().unwrap(), 1);
}

pub(crate) fn reentrant_owner() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(ReentrantMutex::new(AtomicU32::new(0))).unwrap();
    let owner = fork_and_hold(|| {
        for _ in 0..3 {
            std::mem::forget(mutex.lock().unwrap());
        }
    });
    assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
    owner.kill();
    let Err(LockError::OwnerDied(guard)) = mutex.lock() else {
        panic!("not told of the death")
    };
    assert!(
        matches!(mutex.lock(), Err(LockError::OwnerDied(_))),
        "told again inside, until it is repaired"
    );
    guard.mark_consistent();
    assert!(mutex.lock().is_ok());
    drop(guard);
    fork(|| drop(mutex.lock().unwrap())).join();
}

pub(crate) fn rwlock_reader() {
    let _watchdog = watchdog(LONG);
    let lock = Shared::new(RwLock::new(0_u64)).unwrap();
    let reader = fork_and_hold(|| std::mem::forget(lock.read()));
    assert_eq!(lock.readers(), 1);
    let other = lock.read().unwrap();
    assert!(matches!(lock.try_write(), Err(LockError::AlreadyHeld)));
    drop(other);
    assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
    let writer = fork(|| *lock.write().unwrap() = 1);
    writer.await_sleep();
    let ((), elapsed) = timed(|| {
        reader.kill();
        writer.join();
    });
    assert!(elapsed < PROMPT, "the writer took {elapsed:?}");
    assert_eq!(*lock.read().unwrap(), 1, "a dead reader leaves no mark");
}

pub(crate) fn rwlock_writer() {
    let _watchdog = watchdog(LONG);
    let lock = Shared::new(RwLock::new(0_u64)).unwrap();
    let writer = fork_and_hold(|| std::mem::forget(lock.write()));
    assert!(matches!(lock.try_read(), Err(LockError::WouldBlock)));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            fork(|| {
                let Err(LockError::OwnerDied(guard)) = lock.read() else {
                    panic!("a reader was not told")
                };
                assert_eq!(*guard, 0);
            })
        })
        .collect();
    for reader in &readers {
        reader.await_sleep();
    }
    let ((), elapsed) = timed(|| {
        writer.kill();
        readers.into_iter().for_each(|reader| reader.join());
    });
    assert!(elapsed < PROMPT, "the readers took {elapsed:?}");
    let Err(LockError::OwnerDied(mut guard)) = lock.write() else {
        panic!("a writer was not told")
    };
    guard.mark_consistent();
    drop(guard);
    assert!(lock.read().is_ok());
}

pub(crate) fn rwlock_waiting_writer() {
    let _watchdog = watchdog(LONG);
    let lock = Shared::new(RwLock::new(0_u64)).unwrap();
    let guard = lock.read().unwrap();
    let writer = fork(|| drop(lock.write()));
    writer.await_sleep();
    assert!(lock.holder().is_some_and(|holder| holder.pid == writer.pid()));
    writer.kill();
    assert!(
        matches!(lock.read(), Err(LockError::OwnerDied(_))),
        "it may have been inside"
    );
    drop(guard);
    assert!(matches!(lock.write(), Err(LockError::OwnerDied(_))));
}
