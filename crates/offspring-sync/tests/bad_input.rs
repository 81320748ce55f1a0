//! Memory that is not what it should be, and callers who are not who they should be: errors in words, no more and no less.

// UNSAFETY: writes garbage into shared memory on purpose, and makes memberships in mappings of its own.
#![expect(unsafe_code, reason = "damages shared memory on purpose")]

mod support;

use std::process::ExitCode;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use offspring_shm::{Mapping, Segment, Shared, ShmSafe};
use offspring_sync::{
    AcquireError, Barrier, BarrierError, BoundedSemaphore, Condvar, CountingSemaphore, Event, LockError, Membership,
    Mutex, Once, OnceLock, ReentrantMutex, RwLock, Semaphore, Unusable,
};
use offspring_testing::{run_single_threaded, wait_until, watchdog};
use support::{fork, fork_and_hold};

const LONG: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    run_single_threaded(&[
        ("zeroed_memory", zeroed_memory),
        ("something_else", something_else),
        ("impossible_words", impossible_words),
        ("any_word_at_all", any_word_at_all),
        ("foreign_membership", foreign_membership),
        ("no_membership_there", no_membership_there),
        ("locked_twice", locked_twice),
        ("unlock_by_a_fork", unlock_by_a_fork),
        ("lock_in_a_fork", lock_in_a_fork),
        ("lock_in_a_raw_clone", lock_in_a_raw_clone),
        ("too_many_members", too_many_members),
        ("holder_is_named", holder_is_named),
        ("debug_does_not_wait", debug_does_not_wait),
    ])
}

/// Memory for a `T` in which nothing was made yet.
struct Raw<T> {
    mapping: Mapping,
    of: std::marker::PhantomData<T>,
}

impl<T: ShmSafe> Raw<T> {
    fn zeroed() -> Self {
        let segment = Segment::anonymous("bad-input", size_of::<T>().next_multiple_of(4096)).unwrap();
        Raw {
            mapping: segment.map().unwrap(),
            of: std::marker::PhantomData,
        }
    }

    fn holding(value: T) -> Self {
        let raw = Raw::zeroed();
        // SAFETY: the mapping is large enough, aligned to a page, and nobody else has it.
        unsafe { raw.mapping.as_ptr().cast::<T>().write(value) };
        raw
    }

    fn get(&self) -> &T {
        // SAFETY: `ShmSafe`: every bit pattern is a value, and what changes are atomics.
        unsafe { self.mapping.as_ptr().cast::<T>().as_ref() }
    }

    /// The 32-bit word at `offset`.
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset < size_of::<T>());
        // SAFETY: inside the mapping, aligned, and accessed atomically by everybody.
        unsafe { self.mapping.as_ptr().add(offset).cast::<AtomicU32>().as_ref() }
    }

    fn head(&self) -> &AtomicU64 {
        // SAFETY: as for `word`.
        unsafe { self.mapping.as_ptr().cast::<AtomicU64>().as_ref() }
    }
}

/// Where the owner word lies in every lock: behind the head.
const WORD: usize = 8;

fn zeroed_memory() {
    let _watchdog = watchdog(LONG);
    fn never<G>(result: Result<G, LockError<G>>) {
        let error = result.err().expect("zeroed memory is no lock");
        assert!(
            matches!(error, LockError::Unusable(Unusable::NeverInitialised { .. })),
            "{error}"
        );
        assert!(error.to_string().contains("never initialised"), "{error}");
    }
    never(Raw::<Mutex<u64>>::zeroed().get().lock());
    never(Raw::<Mutex<u64>>::zeroed().get().try_lock());
    never(Raw::<ReentrantMutex<u64>>::zeroed().get().lock());
    never(Raw::<RwLock<u64>>::zeroed().get().read());
    never(Raw::<RwLock<u64>>::zeroed().get().write());
    never(Raw::<Once>::zeroed().get().call_once(|| ()));
    assert!(Raw::<OnceLock<u64>>::zeroed().get().get().is_none());
    let mutex = Mutex::new(0);
    never(Raw::<Condvar>::zeroed().get().wait(mutex.lock().unwrap()));
    assert!(mutex.try_lock().is_ok(), "the lock was given back");
    let is_never = |unusable: &Unusable| matches!(unusable, Unusable::NeverInitialised { .. });
    assert!(
        Raw::<Condvar>::zeroed()
            .get()
            .notify_all()
            .is_err_and(|error| is_never(&error))
    );
    assert!(Raw::<Event>::zeroed().get().set().is_err_and(|error| is_never(&error)));
    assert!(Raw::<Event>::zeroed().get().wait().is_err_and(|error| is_never(&error)));
    assert!(!Raw::<Event>::zeroed().get().is_set());
    assert!(
        matches!(Raw::<Semaphore>::zeroed().get().acquire(), Err(AcquireError::Unusable(error)) if is_never(&error))
    );
    assert!(matches!(
        Raw::<BoundedSemaphore>::zeroed().get().acquire(),
        Err(AcquireError::Unusable(_))
    ));
    assert!(Raw::<BoundedSemaphore>::zeroed().get().release().is_err());
    assert!(matches!(
        Raw::<CountingSemaphore>::zeroed().get().acquire(),
        Err(AcquireError::Unusable(_))
    ));
    assert!(Raw::<CountingSemaphore>::zeroed().get().release(1).is_err());
    assert!(matches!(Raw::<Barrier>::zeroed().get().wait(), Err(BarrierError::Unusable(error)) if is_never(&error)));
}

fn something_else() {
    let _watchdog = watchdog(LONG);
    let event = Raw::holding(Event::new());
    // SAFETY: the page is large enough for a mutex, and both are words of which every bit pattern is a value.
    let mutex = unsafe { event.mapping.as_ptr().cast::<Mutex<u64>>().as_ref() };
    let error = mutex.lock().unwrap_err();
    assert!(
        matches!(error, LockError::Unusable(Unusable::NotOne { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains("does not hold a Mutex"), "{error}");
    for garbage in [1, u64::MAX, 0x4d75_0000_0000_0000, 0x4d75_0000_0000_0000 | 1 << 47] {
        let mutex = Raw::holding(Mutex::new(0_u64));
        mutex.head().store(garbage, Ordering::Relaxed);
        let error = mutex.get().lock().unwrap_err();
        assert!(matches!(error, LockError::Unusable(_)), "{garbage:#x} gave {error:?}");
    }
}

fn impossible_words() {
    let _watchdog = watchdog(LONG);
    // A generation without an index; an index beyond the table.
    for garbage in [1, 17, (4095 << 18) | 1, (4094 << 18) | 3, (4095 << 18) | 1 << 31] {
        let mutex = Raw::holding(Mutex::new(0_u64));
        drop(mutex.get().lock().unwrap());
        mutex.word(WORD).store(garbage, Ordering::Relaxed);
        for error in [
            mutex.get().lock().unwrap_err(),
            mutex.get().try_lock().unwrap_err(),
            mutex.get().lock_timeout(LONG).unwrap_err(),
        ] {
            assert!(
                matches!(error, LockError::Unusable(Unusable::Corrupted { .. })),
                "{garbage:#x} gave {error:?}"
            );
            assert!(error.to_string().contains("damaged"), "{error}");
        }
        assert_eq!(
            mutex.word(WORD).load(Ordering::Relaxed),
            garbage,
            "nobody wrote over the evidence"
        );
    }
    let semaphore = Raw::holding(Semaphore::new(1).unwrap());
    drop(semaphore.get().acquire().unwrap());
    semaphore
        .word(size_of::<Semaphore>() - 64 * 4)
        .store(17, Ordering::Relaxed);
    assert!(matches!(
        semaphore.get().acquire(),
        Err(AcquireError::Unusable(Unusable::Corrupted { word: 17 }))
    ));
    let lock = Raw::holding(RwLock::new(0_u64));
    drop(lock.get().read().unwrap());
    lock.word(64).store(17, Ordering::Relaxed);
    assert!(matches!(
        lock.get().write(),
        Err(LockError::Unusable(Unusable::Corrupted { word: 17 }))
    ));
    assert!(
        lock.get().read().is_ok(),
        "the other cells are sound, and the writer has left"
    );
}

/// Whatever the words of an object hold, every call returns in time and within the memory.
fn any_word_at_all() {
    let _watchdog = watchdog(Duration::from_secs(60));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u32
    };
    let moment = Duration::from_micros(200);
    for _ in 0..300 {
        let mutex = Raw::holding(Mutex::new(0_u64));
        drop(mutex.get().lock().unwrap());
        let lock = Raw::holding(RwLock::new(0_u64));
        drop(lock.get().write().unwrap());
        let semaphore = Raw::holding(Semaphore::new(3).unwrap());
        drop(semaphore.get().acquire().unwrap());
        let barrier = Raw::holding(Barrier::new(3).unwrap());
        barrier.get().join().unwrap();
        let condvar = Raw::holding(Condvar::new());
        condvar.get().notify_one().unwrap();
        let event = Raw::holding(Event::new());
        let reentrant = Raw::holding(ReentrantMutex::new(0_u64));
        drop(reentrant.get().lock().unwrap());
        // The head stays: what lies behind it becomes garbage, half of it small numbers.
        let mut spoil = |len: usize, word: &dyn Fn(usize) -> &'static AtomicU32| {
            for offset in (WORD..len).step_by(4) {
                let garbage = next();
                word(offset).store(
                    if garbage & 1 == 0 { garbage } else { garbage >> 20 },
                    Ordering::Relaxed,
                );
            }
        };
        macro_rules! spoil {
            ($raw:expr, $type:ty) => {
                // SAFETY: the mapping outlives the closure's use.
                spoil(size_of::<$type>(), &|offset| unsafe {
                    &*std::ptr::from_ref($raw.word(offset))
                })
            };
        }
        spoil!(mutex, Mutex<u64>);
        spoil!(lock, RwLock<u64>);
        spoil!(semaphore, Semaphore);
        spoil!(barrier, Barrier);
        spoil!(condvar, Condvar);
        spoil!(event, Event);
        spoil!(reentrant, ReentrantMutex<u64>);
        let started = Instant::now();
        drop(mutex.get().lock_timeout(moment));
        drop(lock.get().read_timeout(moment));
        drop(lock.get().write_timeout(moment));
        drop(semaphore.get().acquire_timeout(moment));
        let _ = semaphore.get().available();
        let _ = barrier.get().wait_timeout(moment);
        let _ = barrier.get().reset();
        let _ = barrier.get().abort();
        let _ = condvar.get().notify_one();
        let own = Mutex::new(0_u64);
        drop(condvar.get().wait_timeout(own.lock().unwrap(), moment));
        let _ = event.get().wait_timeout(moment);
        let _ = event.get().set();
        drop(reentrant.get().lock_timeout(moment));
        let _ = format!("{:?} {:?} {:?}", mutex.get(), lock.get(), semaphore.get());
        let _ = format!(
            "{:?} {:?} {:?} {:?}",
            barrier.get(),
            condvar.get(),
            event.get(),
            reentrant.get()
        );
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "took {:?}",
            started.elapsed()
        );
    }
}

/// A membership in a mapping of its own.
fn own_membership(members: usize) -> (Membership, Arc<Mapping>) {
    let len = Membership::bytes_for(members);
    let mapping = Arc::new(Segment::anonymous("membership", len).unwrap().map().unwrap());
    let base: NonNull<u8> = mapping.as_ptr();
    // SAFETY: nobody else uses the mapping, and the Arc keeps it.
    let membership = unsafe { Membership::init_at(base, len, members, Arc::<Mapping>::clone(&mapping)) }.unwrap();
    (membership, mapping)
}

fn foreign_membership() {
    let _watchdog = watchdog(LONG);
    let (membership, mapping) = own_membership(10);
    let mutex = Raw::holding(Mutex::new_in(&membership, 0_u64));
    let id = membership.id();
    *mutex.get().lock().unwrap() += 1;
    std::thread::scope(|scope| {
        // Known to the process as long as somebody holds the handle.
        scope.spawn(|| *mutex.get().lock().unwrap() += 1);
    });
    drop(membership);
    std::thread::scope(|scope| {
        scope.spawn(|| *mutex.get().lock().unwrap() += 1);
        // This thread is registered, and keeps it.
    });
    assert_eq!(*mutex.get().lock().unwrap(), 3);
    // A process that never heard of it: made by a thread that has ended.
    let stranger = std::thread::spawn(|| {
        let (membership, _mapping) = own_membership(10);
        let mutex = Raw::holding(Mutex::new_in(&membership, 0_u64));
        drop(mutex.get().lock().unwrap());
        mutex
    })
    .join()
    .unwrap();
    let error = stranger.get().lock().unwrap_err();
    assert!(
        matches!(error, LockError::Unusable(Unusable::ForeignMembership { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains("has not attached"), "{error}");
    // SAFETY: everybody who writes there goes through the crate.
    let again =
        unsafe { Membership::attach_at(mapping.as_ptr(), mapping.len(), Arc::<Mapping>::clone(&mapping)) }.unwrap();
    assert_eq!(again.id(), id);
}

fn no_membership_there() {
    let _watchdog = watchdog(LONG);
    let mapping = Arc::new(Segment::anonymous("empty", 8192).unwrap().map().unwrap());
    let attach = |base: NonNull<u8>, len| {
        // SAFETY: nobody else uses the mapping.
        unsafe { Membership::attach_at(base, len, Arc::<Mapping>::clone(&mapping)) }
    };
    let error = attach(mapping.as_ptr(), 8192).unwrap_err();
    assert!(error.to_string().contains("no membership in this memory"), "{error}");
    assert!(
        attach(mapping.as_ptr(), 16)
            .unwrap_err()
            .to_string()
            .contains("too few")
    );
    // SAFETY: still inside the mapping.
    let crooked = unsafe { mapping.as_ptr().add(8) };
    assert!(attach(crooked, 4096).unwrap_err().to_string().contains("aligned"));
    // SAFETY: nobody else uses the mapping.
    let init =
        |members| unsafe { Membership::init_at(mapping.as_ptr(), 8192, members, Arc::<Mapping>::clone(&mapping)) };
    assert!(init(0).is_err());
    assert!(init(5000).is_err());
    assert!(init(1000).unwrap_err().to_string().contains("bytes"));
    let membership = init(20).unwrap();
    // A header that lies about its size.
    // SAFETY: inside the mapping, aligned, and atomic for everybody.
    let capacity = unsafe { mapping.as_ptr().add(20).cast::<AtomicU32>().as_ref() };
    assert_eq!(
        capacity.load(Ordering::Relaxed),
        20,
        "the capacity is where this test thinks"
    );
    capacity.store(4000, Ordering::Relaxed);
    assert!(attach(mapping.as_ptr(), 8192).is_err());
    drop(membership);
}

fn locked_twice() {
    let _watchdog = watchdog(LONG);
    let mutex = Mutex::new(0_u64);
    let guard = mutex.lock().unwrap();
    assert!(
        matches!(mutex.lock(), Err(LockError::AlreadyHeld)),
        "waiting for oneself never ends"
    );
    drop(guard);
    let lock = RwLock::new(0_u64);
    let guard = lock.write().unwrap();
    assert!(matches!(lock.read(), Err(LockError::AlreadyHeld)));
    assert!(matches!(lock.write(), Err(LockError::AlreadyHeld)));
    drop(guard);
    let guard = lock.read().unwrap();
    assert!(
        matches!(lock.write(), Err(LockError::AlreadyHeld)),
        "nobody can wait for himself to stop reading"
    );
    drop(guard);
    assert!(lock.write().is_ok());
    let once = Once::new();
    once.call_once(|| assert!(matches!(once.call_once(|| ()), Err(LockError::AlreadyHeld))))
        .unwrap();
}

fn unlock_by_a_fork() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let reentrant = Shared::new(ReentrantMutex::new(0_u64)).unwrap();
    let lock = Shared::new(RwLock::new(0_u64)).unwrap();
    let semaphore = Shared::new(Semaphore::new(1).unwrap()).unwrap();
    let bounded = Shared::new(BoundedSemaphore::new(1).unwrap()).unwrap();
    let guards = (
        mutex.lock().unwrap(),
        reentrant.lock().unwrap(),
        lock.read().unwrap(),
        semaphore.acquire().unwrap(),
    );
    bounded.acquire().unwrap();
    let mut copies = Some(guards);
    let child = fork(|| {
        // SAFETY: the parent's guards, copied as the fork copied everything else; the parent goes on using its own.
        let (mutex_guard, reentrant_guard, read_guard, permit) = copies.take().unwrap();
        assert!(mutex_guard.unlock().unwrap_err().to_string().contains("does not hold"));
        assert!(reentrant_guard.unlock().is_err());
        drop(read_guard);
        assert!(permit.release().is_err());
        assert!(bounded.release().is_err());
        assert!(matches!(mutex.try_lock(), Err(LockError::WouldBlock)));
        assert!(matches!(reentrant.try_lock(), Err(LockError::WouldBlock)));
        assert!(matches!(lock.try_write(), Err(LockError::WouldBlock)));
        assert!(matches!(semaphore.try_acquire(), Err(AcquireError::WouldBlock)));
    });
    child.join();
    assert!(copies.is_some(), "the parent has its guards still");
    assert!(matches!(mutex.lock(), Err(LockError::AlreadyHeld)));
    drop(copies);
    assert!(mutex.try_lock().is_ok() && lock.try_write().is_ok() && semaphore.try_acquire().is_ok());
    bounded.release().unwrap();
}

fn lock_in_a_fork() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let me = Membership::family().unwrap().me().unwrap();
    let guard = mutex.lock().unwrap();
    let child = fork(|| {
        assert_ne!(
            Membership::family().unwrap().me().unwrap(),
            me,
            "a child is a member of its own"
        );
        assert!(
            matches!(mutex.try_lock(), Err(LockError::WouldBlock)),
            "and does not hold its parent's locks"
        );
        let holder = mutex.holder().unwrap();
        assert_eq!(i64::from(holder.pid), std::os::unix::process::parent_id() as i64);
        *mutex.lock().unwrap() += 1;
        // A grandchild, as well.
        fork(|| *mutex.lock().unwrap() += 1).join();
    });
    child.await_sleep();
    drop(guard);
    child.join();
    assert_eq!(*mutex.lock().unwrap(), 2);
    assert_eq!(
        Membership::family().unwrap().me().unwrap(),
        me,
        "the parent is who it was"
    );
}

/// A clone that libc knows nothing of: its robust list is its parent's, or none at all.
fn lock_in_a_raw_clone() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    *mutex.lock().unwrap() += 1;
    // SAFETY: a fork without libc; the child only locks, compares and exits.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as i32;
    assert!(pid >= 0);
    if pid == 0 {
        let refused = match mutex.lock() {
            Err(LockError::Unusable(Unusable::NoMembership(error))) => {
                let words = error.to_string();
                words.contains("raw clone") || words.contains("robust list")
            }
            _ => false,
        };
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: a place for the status of our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the clone was not refused in words");
    *mutex.lock().unwrap() += 1;
}

fn too_many_members() {
    let _watchdog = watchdog(LONG);
    let (membership, _mapping) = own_membership(2);
    let mutex = Mutex::new_in(&membership, 0_u64);
    drop(mutex.lock().unwrap());
    let (go, gone) = (Event::new(), Event::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(mutex.lock().unwrap());
            go.set().unwrap();
            gone.wait().unwrap();
        });
        go.wait().unwrap();
        scope.spawn(|| {
            let error = mutex.lock().unwrap_err();
            assert!(
                error.to_string().contains("places of the membership are taken"),
                "{error}"
            );
            gone.set().unwrap();
        });
    });
    // The other thread's place is free when it is gone for good, which is later than the scope's end.
    assert!(wait_until(LONG, || membership.members().len() == 1));
    std::thread::scope(|scope| {
        scope.spawn(|| drop(mutex.lock().unwrap()));
    });
}

fn holder_is_named() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    assert_eq!(mutex.holder(), None);
    let owner = fork_and_hold(|| {
        // SAFETY: a name of less than 16 bytes with its zero.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"hog".as_ptr()) };
        std::mem::forget(mutex.lock());
    });
    let Err(LockError::TimedOut(Some(holder))) = mutex.lock_timeout(Duration::from_millis(120)) else {
        panic!("the lock is held")
    };
    assert_eq!(
        (holder.pid, holder.tid, &*holder.name),
        (owner.pid(), owner.pid(), "hog")
    );
    let held = holder.held_for.expect("somebody has slept for it");
    assert!(held >= Duration::from_millis(80) && held < LONG, "held for {held:?}");
    assert!(!holder.dead);
    let words = LockError::<()>::TimedOut(Some(holder)).to_string();
    assert!(words.contains("\"hog\"") && words.contains("held by thread"), "{words}");
    owner.kill();
    assert!(mutex.holder().unwrap().dead);
    drop(mutex.lock_recovered().unwrap());
    assert_eq!(mutex.holder(), None);
}

fn debug_does_not_wait() {
    let _watchdog = watchdog(LONG);
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let lock = Shared::new(RwLock::new(0_u64)).unwrap();
    let owner = fork_and_hold(|| {
        std::mem::forget(mutex.lock());
        std::mem::forget(lock.read());
    });
    let shown = format!("{:?}", *mutex);
    assert!(shown.contains(&format!("of process {}", owner.pid())), "{shown}");
    let shown = format!("{:?}", *lock);
    assert!(shown.contains("readers: 1"), "{shown}");
    let shown = format!("{:?}", Raw::<Mutex<u64>>::zeroed().get());
    assert!(shown.contains("never initialised"), "{shown}");
}
