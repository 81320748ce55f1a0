//! The model checker's atomics and futexes (`--cfg loom`).
//!
//! A futex is a list of sleepers under one loom lock, with one condition variable per sleeper: a lost wake-up is a sleeper that
//! nobody wakes, which loom reports as a deadlock (a yield loop would not see it). Three additions serve the models of crashes:
//!
//! - **A fuse.** [`stop_at_step`] makes the calling thread stop for ever at its n-th access through the door. Nothing of it runs
//!   afterwards, no destructor either: the thread unwinds by [`Stopped`], and the raw algorithms hold no guards.
//! - **Naps.** A wait with a deadline never times out by itself, so that no protocol may lean on its nap while everybody lives.
//!   [`expire_naps`], called when a thread was declared dead, ends them all, now and later: that is what a nap is for.
//! - **Mutants.** [`sabotage`] breaks the door itself (no wake, no fence, a sleep that does not compare, ...), to show that the
//!   models would notice.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::OnceLock;
use std::time::Instant;

use loom::sync::{Arc, Condvar, Mutex};

use super::{Ordering, Waited};

/// What a thread unwinds with when its fuse has burnt down.
#[derive(Clone, Copy, Debug)]
pub struct Stopped;

/// A fault put into the door, to be caught by the models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// None: the door works.
    None,
    /// [`futex_wake`] wakes nobody.
    NoWake,
    /// [`futex_wake`] for more than one wakes only one.
    WakeOne,
    /// A wait sleeps without comparing the word first: look and sleep are two steps.
    SleepBlindly,
    /// [`full_fence_after_rmw`], [`light_fence`] and [`heavy_fence`] order nothing.
    NoFence,
    /// Every release is a relaxed store.
    NoRelease,
    /// Naps never end, not even after a death.
    NoNaps,
}

std::thread_local! {
    // loom runs all threads of a model on one thread of the system: this is one value per model run.
    static MUTANT: Cell<Mutant> = const { Cell::new(Mutant::None) };
}

/// Breaks the door for the models that this thread runs from now on.
pub fn sabotage(mutant: Mutant) {
    MUTANT.set(mutant);
}

fn sabotaged(mutant: Mutant) -> bool {
    MUTANT.get() == mutant
}

loom::thread_local! {
    static FUSE: Cell<Option<usize>> = Cell::new(None);
}

/// Makes the calling thread of the model stop for ever just before its `step`-th access through the door, counted from now, from 0.
pub fn stop_at_step(step: usize) {
    FUSE.with(|fuse| fuse.set(Some(step)));
}

/// Takes the fuse out, and says whether it had not burnt down yet.
pub fn defuse() -> bool {
    FUSE.with(|fuse| fuse.take()).is_some()
}

fn step() {
    let burnt = FUSE.with(|fuse| match fuse.get() {
        Some(0) => {
            fuse.set(None);
            true
        }
        Some(left) => {
            fuse.set(Some(left - 1));
            false
        }
        None => false,
    });
    if burnt {
        std::panic::resume_unwind(Box::new(Stopped));
    }
}

fn weaken(order: Ordering) -> Ordering {
    if !sabotaged(Mutant::NoRelease) {
        return order;
    }
    match order {
        Ordering::Release => Ordering::Relaxed,
        Ordering::AcqRel | Ordering::SeqCst => Ordering::Acquire,
        other => other,
    }
}

fn weaken_store(order: Ordering) -> Ordering {
    if sabotaged(Mutant::NoRelease) {
        Ordering::Relaxed
    } else {
        order
    }
}

macro_rules! word {
    ($name:ident, $value:ty, $model:ty, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Made in a `const` context as the real one is; the model's own atomic is made at the first access, which must happen
        /// before the threads part: format a model's words with `{:?}` for that.
        pub struct $name {
            initial: $value,
            word: OnceLock<$model>,
        }

        impl $name {
            /// A word that holds `value`.
            pub const fn new(value: $value) -> Self {
                $name {
                    initial: value,
                    word: OnceLock::new(),
                }
            }

            fn word(&self) -> &$model {
                self.word.get_or_init(|| <$model>::new(self.initial))
            }

            /// Loads the value.
            pub fn load(&self, order: Ordering) -> $value {
                step();
                self.word().load(order)
            }

            /// Stores `value`.
            pub fn store(&self, value: $value, order: Ordering) {
                step();
                self.word().store(value, weaken_store(order));
            }

            /// Stores `value` and returns the previous one.
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                step();
                self.word().swap(value, weaken(order))
            }

            /// Stores `new` if the value is `current`.
            ///
            /// # Errors
            ///
            /// The value that was found instead.
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                step();
                self.word()
                    .compare_exchange(current, new, weaken(success), failure)
            }

            /// As [`compare_exchange`](Self::compare_exchange); the model never fails without a reason.
            ///
            /// # Errors
            ///
            /// The value that was found instead.
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, success, failure)
            }

            /// Adds, wrapping, and returns the previous value.
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                step();
                self.word().fetch_add(value, weaken(order))
            }

            /// Subtracts, wrapping, and returns the previous value.
            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                step();
                self.word().fetch_sub(value, weaken(order))
            }

            /// Sets bits and returns the previous value.
            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                step();
                self.word().fetch_or(value, weaken(order))
            }

            /// Clears the bits that `value` lacks and returns the previous value.
            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                step();
                self.word().fetch_and(value, weaken(order))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.load(Ordering::Relaxed), f)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $name::new(0)
            }
        }
    };
}

word!(
    AtomicU32,
    u32,
    loom::sync::atomic::AtomicU32,
    "A 32-bit atomic word; also a futex."
);
word!(AtomicU64, u64, loom::sync::atomic::AtomicU64, "A 64-bit atomic word.");

impl AtomicU32 {
    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl AtomicU64 {
    /// The current value, of a word that nobody else can reach.
    pub fn into_inner(self) -> u64 {
        self.load(Ordering::Relaxed)
    }
}

/// A cell whose contents are guarded by a protocol over atomics; the model reports each access that is not.
#[derive(Default)]
pub struct UnsafeCell<T> {
    watched: OnceLock<loom::cell::UnsafeCell<()>>,
    value: core::cell::UnsafeCell<T>,
}

impl<T> fmt::Debug for UnsafeCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.watched();
        f.debug_struct("UnsafeCell").finish_non_exhaustive()
    }
}

impl<T> UnsafeCell<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        UnsafeCell {
            watched: OnceLock::new(),
            value: core::cell::UnsafeCell::new(value),
        }
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    fn watched(&self) -> &loom::cell::UnsafeCell<()> {
        self.watched.get_or_init(|| loom::cell::UnsafeCell::new(()))
    }

    /// Calls `read` with a pointer that is good for reading while the protocol grants shared access.
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        self.watched().with(|_| read(self.value.get()))
    }

    /// Calls `write` with a pointer that is good for writing while the protocol grants exclusive access.
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        self.watched().with_mut(|_| write(self.value.get()))
    }

    /// The pointer itself, for a guard that keeps it; not watched.
    pub const fn get(&self) -> *mut T {
        self.value.get()
    }
}

/// How many words [`futex_wait_many`] can watch at once.
pub const FUTEX_WAIT_MANY_MAX: usize = 128;

struct Sleeper {
    id: usize,
    keys: Vec<usize>,
    napping: bool,
    bell: Arc<Condvar>,
}

struct Futexes {
    sleepers: VecDeque<Sleeper>,
    next_id: usize,
    naps_expire: bool,
}

loom::lazy_static! {
    static ref FUTEXES: Mutex<Futexes> = Mutex::new(Futexes { sleepers: VecDeque::new(), next_id: 0, naps_expire: false });
}

/// Ends every wait that has a deadline, now and from now on: somebody died, and a wake may have died with it.
pub fn expire_naps() {
    if sabotaged(Mutant::NoNaps) {
        return;
    }
    let mut futexes = FUTEXES.lock().unwrap();
    futexes.naps_expire = true;
    futexes.sleepers.retain(|sleeper| {
        if sleeper.napping {
            sleeper.bell.notify_one();
        }
        !sleeper.napping
    });
}

/// Sleeps while `word` holds `expected`, until somebody wakes it, or [`expire_naps`] if there is a deadline.
pub fn futex_wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Waited {
    futex_wait_many(&[(word, expected)], deadline)
}

/// Sleeps while every one of `words` holds the value beside it.
pub fn futex_wait_many(words: &[(&AtomicU32, u32)], deadline: Option<Instant>) -> Waited {
    step();
    if sabotaged(Mutant::SleepBlindly) {
        for (word, expected) in words {
            if word.word().load(Ordering::SeqCst) != *expected {
                return Waited::Woken;
            }
        }
    }
    let mut futexes = FUTEXES.lock().unwrap();
    if !sabotaged(Mutant::SleepBlindly) {
        for (word, expected) in words {
            // Whoever changed the word and has woken its sleepers before has released this lock since: its value is seen here.
            // Whoever has not will find this sleeper.
            if word.word().load(Ordering::SeqCst) != *expected {
                return Waited::Woken;
            }
        }
    }
    if deadline.is_some() && futexes.naps_expire {
        drop(futexes);
        loom::thread::yield_now();
        return Waited::TimedOut;
    }
    let id = futexes.next_id;
    futexes.next_id += 1;
    let bell = Arc::new(Condvar::new());
    futexes.sleepers.push_back(Sleeper {
        id,
        keys: words.iter().map(|(word, _)| word.key()).collect(),
        napping: deadline.is_some(),
        bell: Arc::clone(&bell),
    });
    while futexes.sleepers.iter().any(|sleeper| sleeper.id == id) {
        futexes = bell.wait(futexes).unwrap();
    }
    Waited::Woken
}

/// Wakes up to `count` sleepers of `word` and says how many there were.
pub fn futex_wake(word: &AtomicU32, count: u32) -> usize {
    step();
    let count = match MUTANT.get() {
        Mutant::NoWake => 0,
        Mutant::WakeOne => count.min(1),
        _ => count,
    };
    wake(word, count)
}

/// The kernel's own wake on a word, at a death: no step of the program, and beyond sabotage.
pub fn kernel_wake(word: &AtomicU32) {
    wake(word, 1);
}

fn wake(word: &AtomicU32, count: u32) -> usize {
    let key = word.key();
    let mut woken = 0;
    let mut futexes = FUTEXES.lock().unwrap();
    futexes.sleepers.retain(|sleeper| {
        if woken < count as usize && sleeper.keys.contains(&key) {
            woken += 1;
            sleeper.bell.notify_one();
            return false;
        }
        true
    });
    woken
}

/// Time stands still in the model.
pub fn monotonic_nanoseconds() -> u64 {
    1 << 40
}

/// As many as you like; the model never spins.
pub(crate) fn online_processors() -> usize {
    2
}

/// Lets another thread of the model run.
pub fn spin_loop() {
    loom::hint::spin_loop();
}

/// Lets another thread of the model run.
pub fn yield_now() {
    loom::thread::yield_now();
}

/// An ordinary fence.
pub fn fence(order: Ordering) {
    step();
    if !sabotaged(Mutant::NoFence) {
        loom::sync::atomic::fence(order);
    }
}

/// Stands between a `SeqCst` read-modify-write and a `SeqCst` load of another word: loom takes both for acquire-release.
pub fn full_fence_after_rmw() {
    if !sabotaged(Mutant::NoFence) {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// How the two sides of a store-then-load protocol keep their order; the model has full fences for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Stands for a full fence here.
    Asymmetric,
    /// Both sides pay for a full fence.
    Full,
}

/// Does nothing.
///
/// # Errors
///
/// None in the model.
pub fn register_asymmetric() -> io::Result<()> {
    Ok(())
}

/// The frequent side's fence.
pub fn light_fence(_mode: Mode) {
    fence(Ordering::SeqCst);
}

/// The rare side's fence.
///
/// # Errors
///
/// None in the model.
pub fn heavy_fence(_mode: Mode) -> io::Result<()> {
    fence(Ordering::SeqCst);
    Ok(())
}
