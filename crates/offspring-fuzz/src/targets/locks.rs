//! Locks whose words are overwritten while they are in use.

// UNSAFETY: puts values into memory in which their words can be overwritten.
#![expect(unsafe_code, reason = "values whose words are overwritten")]

use std::fmt::{Debug, Display};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use offspring_shm::{Mapping, Segment};
use offspring_sync::{
    Barrier, BoundedSemaphore, Condvar, CountingSemaphore, Event, Membership, Mutex, Once, ReentrantMutex, RwLock,
    Semaphore, Tag, Value,
};

use crate::input::Input;
use crate::memory::arena;

/// The most operations of one run.
const STEPS: usize = 24;

/// Long enough to go to sleep, and to wake up.
const MOMENT: Duration = Duration::from_micros(20);

pub(super) fn run(data: &[u8]) {
    arena();
    let mut input = Input::new(data);
    let input = &mut input;
    match input.byte() % 10 {
        0 => exercise(
            input,
            Mutex::new(5_u64),
            &[
                |lock| said(lock.try_lock().map(|mut guard| *guard += 1)),
                |lock| said(lock.lock_timeout(MOMENT)),
                |lock| seen((lock.holder(), lock.is_locked(), lock.is_poisoned())),
            ],
        ),
        1 => exercise(
            input,
            ReentrantMutex::new(5_u64),
            &[
                |lock| said(lock.try_lock()),
                |lock| {
                    let guard = lock.lock_timeout(MOMENT);
                    said(lock.try_lock());
                    said(guard);
                },
                |lock| seen((lock.holder(), lock.is_locked(), lock.is_poisoned())),
            ],
        ),
        2 => exercise(
            input,
            RwLock::new(5_u64),
            &[
                |lock| said(lock.try_read()),
                |lock| said(lock.read_timeout(MOMENT)),
                |lock| said(lock.try_write()),
                |lock| said(lock.write_timeout(MOMENT)),
                |lock| seen((lock.holder(), lock.readers(), lock.is_poisoned())),
            ],
        ),
        3 => exercise(
            input,
            Semaphore::new(3).expect("few permits"),
            &[
                |semaphore| said(semaphore.try_acquire()),
                |semaphore| said(semaphore.acquire_timeout(MOMENT)),
                |semaphore| said(semaphore.available()),
                |semaphore| seen(semaphore.permits()),
            ],
        ),
        4 => exercise(
            input,
            BoundedSemaphore::new(3).expect("few permits"),
            &[
                |semaphore| said(semaphore.try_acquire()),
                |semaphore| said(semaphore.acquire_timeout(MOMENT)),
                |semaphore| said(semaphore.release()),
                |semaphore| said(semaphore.available()),
            ],
        ),
        5 => exercise(
            input,
            CountingSemaphore::new(3),
            &[
                |semaphore| said(semaphore.try_acquire()),
                |semaphore| said(semaphore.acquire_timeout(MOMENT)),
                |semaphore| said(semaphore.release(3)),
                |semaphore| said(semaphore.available()),
            ],
        ),
        6 => exercise(
            input,
            Event::new(),
            &[
                |event| said(event.set()),
                |event| said(event.clear()),
                |event| said(event.wait_timeout(MOMENT)),
                |event| seen(event.is_set()),
            ],
        ),
        7 => exercise(
            input,
            Barrier::new(2).expect("two parties"),
            &[
                |barrier| said(barrier.join()),
                |barrier| said(barrier.leave()),
                |barrier| said(barrier.wait_timeout(MOMENT)),
                |barrier| said(barrier.reset()),
                |barrier| said(barrier.abort()),
                |barrier| seen((barrier.is_broken(), barrier.waiting(), barrier.parties())),
            ],
        ),
        8 => exercise(
            input,
            Condvar::new(),
            &[
                |condvar| said(condvar.notify_one()),
                |condvar| said(condvar.notify_all()),
                |condvar| {
                    let mutex = Mutex::new(0_u64);
                    let guard = mutex.lock().expect("a lock of this thread's own");
                    said(condvar.wait_timeout(guard, MOMENT));
                    assert!(mutex.try_lock().is_ok(), "the lock was given back");
                },
                |condvar| seen(condvar.waiters()),
            ],
        ),
        _ => exercise(
            input,
            (Once::new(), Value::new('7'), Value::new(true)),
            &[
                |(once, ..)| seen(once.is_done()),
                |(once, ..)| said(once.try_call_once(|| Err::<(), _>(()))),
                |(_, letter, flag)| seen((letter.load(), flag.load())),
                |(_, letter, _)| letter.store('x'),
                |(_, _, flag)| seen(flag.update(|old| !old)),
            ],
        ),
    }
}

/// What cannot be done is told in words.
fn said<T, E: Display>(outcome: Result<T, E>) {
    if let Err(error) = outcome {
        assert!(error.to_string().len() > 8);
    }
}

/// What can be looked at can be printed.
fn seen(what: impl Debug) {
    assert!(!format!("{what:?}").is_empty());
}

/// Memory for one lock.
fn place() -> &'static Mapping {
    static PLACE: OnceLock<Mapping> = OnceLock::new();
    PLACE.get_or_init(|| {
        let segment = Segment::anonymous("fuzz-locks", 1 << 16).expect("a memfd");
        segment.map().expect("address space")
    })
}

fn exercise<T: Debug>(input: &mut Input<'_>, value: T, calls: &[fn(&T)]) {
    assert!(size_of::<T>() <= place().len() && !std::mem::needs_drop::<T>());
    let at = place().as_ptr().cast::<T>();
    // SAFETY: the mapping is large enough, aligned to a page, and used by this target alone, from one thread.
    unsafe { at.write(value) };
    // SAFETY: as above; the words are atomics or data of which every bit pattern is a value.
    let value = unsafe { at.as_ref() };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let operation = usize::from(input.byte());
        match operation % 8 {
            0..=2 => {
                let offset = match operation >> 3 & 1 {
                    // The head, the owner and its notes.
                    0 => usize::from(input.byte() % 16) * 4,
                    _ => input.below(size_of::<T>() / 4) * 4,
                };
                if offset < size_of::<T>() {
                    // SAFETY: inside of the value and aligned; this is the only thread that looks at it.
                    let word = unsafe { at.cast::<u8>().add(offset).cast::<AtomicU32>().as_ref() };
                    word.store(state(input), Relaxed);
                }
            }
            3 => assert!(!format!("{value:?}").is_empty()),
            _ => calls[(operation >> 3) % calls.len()](value),
        }
    }
}

/// A lock's word: a tag and flags, or any number.
fn state(input: &mut Input<'_>) -> u32 {
    let kind = input.byte();
    let tag = match kind % 4 {
        0 => return input.number() as u32,
        1 => return u32::from(input.byte()),
        2 => Membership::family().and_then(|members| members.me()).ok(),
        // Never given out, beyond the table, or long gone.
        _ => Tag::new(1 + input.below(Tag::MAX_INDEX), u32::from(input.byte())),
    };
    tag.map_or(0, Tag::bits) | u32::from(kind >> 2 & 3) << 30
}
