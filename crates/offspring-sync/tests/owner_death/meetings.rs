//! Who dies at a barrier, or in an initialisation.

use std::time::Duration;

use offspring_shm::Shared;
use offspring_sync::{Barrier, BarrierError, Event, Once, OnceLock};
use offspring_testing::{wait_until, watchdog};

use crate::support::{fork, fork_and_hold, panics, sleep_for_ever, timed};
use crate::{LONG, NAP, PROMPT};

pub(crate) fn barrier_waiting_member() {
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

pub(crate) fn barrier_member_on_its_way() {
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

pub(crate) fn barrier_member_with_many_parties() {
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

pub(crate) fn barrier_actor() {
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

pub(crate) fn once_initialiser() {
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
