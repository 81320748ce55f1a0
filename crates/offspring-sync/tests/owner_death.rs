//! One test for each line of the crate's table of deaths: who is killed, and what the others see.

mod support;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use offspring_shm::Shared;
use offspring_sync::{
    Barrier, BarrierError, Condvar, CountingSemaphore, Event, LockError, Mutex, Once, OnceLock, ReentrantMutex, RwLock,
    Semaphore,
};
use offspring_testing::{run_single_threaded, wait_until, watchdog};
use support::{fork, fork_and_hold, panics, sleep_for_ever, timed};

/// Longer than any wake by the kernel, shorter than a nap: who is this fast was not polling.
const PROMPT: Duration = Duration::from_millis(45);
/// Longer than the longest nap.
const NAP: Duration = Duration::from_millis(2500);
const LONG: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    run_single_threaded(&[
        ("mutex_owner_that_the_kernel_missed", mutex_owner_that_the_kernel_missed),
        ("mutex_owner", mutex_owner),
        ("mutex_owner_with_many_sleepers", mutex_owner_with_many_sleepers),
        ("mutex_unrepaired", mutex_unrepaired),
        ("mutex_owner_panics", mutex_owner_panics),
        ("mutex_owner_thread_ends", mutex_owner_thread_ends),
        ("mutex_owner_execs", mutex_owner_execs),
        ("mutex_waiter", mutex_waiter),
        ("mutex_woken_waiter", mutex_woken_waiter),
        ("reentrant_owner", reentrant_owner),
        ("rwlock_reader", rwlock_reader),
        ("rwlock_writer", rwlock_writer),
        ("rwlock_waiting_writer", rwlock_waiting_writer),
        ("semaphore_holder", semaphore_holder),
        ("semaphore_waiter", semaphore_waiter),
        ("counting_semaphore_taker", counting_semaphore_taker),
        ("condvar_waiter", condvar_waiter),
        ("condvar_told_waiter", condvar_told_waiter),
        ("condvar_owner_of_the_mutex", condvar_owner_of_the_mutex),
        ("event_setter_and_waiter", event_setter_and_waiter),
        ("barrier_waiting_member", barrier_waiting_member),
        ("barrier_member_on_its_way", barrier_member_on_its_way),
        ("barrier_member_with_many_parties", barrier_member_with_many_parties),
        ("barrier_actor", barrier_actor),
        ("once_initialiser", once_initialiser),
    ])
}

fn mutex_owner() {
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

fn mutex_owner_with_many_sleepers() {
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

fn mutex_unrepaired() {
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

fn mutex_owner_panics() {
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

fn mutex_owner_thread_ends() {
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

fn mutex_owner_execs() {
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
fn mutex_owner_that_the_kernel_missed() {
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

fn mutex_waiter() {
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

fn mutex_woken_waiter() {
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

fn reentrant_owner() {
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

fn rwlock_reader() {
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

fn rwlock_writer() {
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

fn rwlock_waiting_writer() {
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

fn semaphore_holder() {
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

fn semaphore_waiter() {
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

fn counting_semaphore_taker() {
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

fn condvar_waiter() {
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

fn condvar_told_waiter() {
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

fn condvar_owner_of_the_mutex() {
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

fn event_setter_and_waiter() {
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

fn barrier_waiting_member() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(3).unwrap()).unwrap();
    let victim = fork(|| drop(barrier.wait()));
    victim.await_sleep();
    let pid = victim.pid();
    let survivor = fork(|| match barrier.wait() {
        Err(BarrierError::MemberDied(Some(member))) => assert_eq!(member.pid, pid),
        other => panic!("{other:?}"),
    });
    survivor.await_sleep();
    let ((), elapsed) = timed(|| {
        victim.kill();
        survivor.join();
    });
    assert!(elapsed < PROMPT, "the survivor took {elapsed:?}");
    assert!(barrier.is_broken());
    assert!(
        matches!(barrier.wait(), Err(BarrierError::MemberDied(_))),
        "broken until it is reset"
    );
    barrier.reset().unwrap();
    assert!(!barrier.is_broken());
    let others: Vec<_> = (0..2).map(|_| fork(|| assert!(barrier.wait().is_ok()))).collect();
    barrier.wait().unwrap();
    others.into_iter().for_each(|other| other.join());
}

fn barrier_member_on_its_way() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(2).unwrap()).unwrap();
    let victim = fork(|| {
        barrier.wait().unwrap();
        sleep_for_ever();
    });
    barrier.wait().unwrap();
    let survivor_waits = fork(|| {
        std::thread::sleep(Duration::from_millis(50));
        victim.signal(libc::SIGKILL);
    });
    assert!(
        matches!(barrier.wait(), Err(BarrierError::MemberDied(_))),
        "a member that arrived once is missed"
    );
    survivor_waits.join();

    // And one that has only joined.
    let barrier = Shared::new(Barrier::new(2).unwrap()).unwrap();
    let victim = fork_and_hold(|| assert!(barrier.join().unwrap()));
    let killer = fork(|| {
        std::thread::sleep(Duration::from_millis(50));
        victim.signal(libc::SIGKILL);
    });
    assert!(matches!(barrier.wait(), Err(BarrierError::MemberDied(_))));
    killer.join();

    // One that has left is not missed; another takes its place.
    let barrier = Shared::new(Barrier::new(2).unwrap()).unwrap();
    fork_and_hold(|| {
        assert!(barrier.join().unwrap());
        barrier.leave().unwrap();
    })
    .kill();
    let other = fork(|| {
        std::thread::sleep(Duration::from_millis(50));
        barrier.wait().unwrap();
    });
    barrier.wait().unwrap();
    other.join();
}

fn barrier_member_with_many_parties() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::<300>::with_capacity(200).unwrap()).unwrap();
    let victim = fork_and_hold(|| assert!(barrier.join().unwrap()));
    let waiters: Vec<_> = (0..150)
        .map(|_| fork(|| assert!(matches!(barrier.wait(), Err(BarrierError::MemberDied(_))))))
        .collect();
    assert!(wait_until(LONG, || barrier.waiting() == 150));
    let ((), elapsed) = timed(|| {
        victim.kill();
        waiters.into_iter().for_each(|waiter| waiter.join());
    });
    assert!(elapsed < NAP, "150 waiters took {elapsed:?}");
}

fn barrier_actor() {
    let _watchdog = watchdog(LONG);
    let barrier = Shared::new(Barrier::new(2).unwrap()).unwrap();
    let acting = Shared::new(Event::new()).unwrap();
    let action = || {
        acting.set().unwrap();
        sleep_for_ever();
    };
    let waiter = fork(|| {
        assert!(matches!(
            barrier.wait_with(|| panic!("not the last")),
            Err(BarrierError::MemberDied(_))
        ));
    });
    waiter.await_sleep();
    let actor = fork(|| drop(barrier.wait_with(action)));
    acting.wait().unwrap();
    actor.kill();
    waiter.join();

    barrier.reset().unwrap();
    let waiter = fork(|| assert!(matches!(barrier.wait_with(|| {}), Err(BarrierError::Broken))));
    waiter.await_sleep();
    assert!(panics(|| drop(barrier.wait_with(|| panic!("on purpose")))));
    waiter.join();
}

fn once_initialiser() {
    let _watchdog = watchdog(LONG);
    let once = Shared::new(Once::new()).unwrap();
    let inside = Shared::new(Event::new()).unwrap();
    let victim = fork(|| {
        once.call_once(|| {
            inside.set().unwrap();
            sleep_for_ever();
        })
        .unwrap();
    });
    inside.wait().unwrap();
    let waiter = fork(|| once.call_once(|| {}).unwrap());
    waiter.await_sleep();
    assert!(!once.is_done());
    let ((), elapsed) = timed(|| {
        victim.kill();
        waiter.join();
    });
    assert!(elapsed < PROMPT, "the waiter took {elapsed:?}");
    assert!(once.is_done());
    once.call_once(|| panic!("twice")).unwrap();

    let lock = Shared::new(OnceLock::new()).unwrap();
    fork(|| assert_eq!(*lock.get_or_init(|| 7_u64).unwrap(), 7)).join();
    assert_eq!(lock.get(), Some(&7));
    assert_eq!(lock.set(8).unwrap(), Err(8));
}
