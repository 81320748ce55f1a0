// UNSAFETY: the peers are glibc's own locks, which are C structures in shared memory.
#![expect(
    unsafe_code,
    reason = "pthread_mutex, pthread_rwlock, pthread_cond and pthread_barrier"
)]
//! glibc's process-shared locks, in memory that forked children share.

use std::mem::zeroed;

use crate::SharedPage;
use crate::shared::Zeroed;

// SAFETY: each is made by its own `init` before use; glibc keeps no pointer in it when it is process-shared (a robust mutex's list
// holds addresses of one process, which only its owner follows), and its functions synchronise.
unsafe impl Zeroed for Cell<libc::pthread_mutex_t> {}
// SAFETY: as for the mutex.
unsafe impl Zeroed for Cell<libc::pthread_rwlock_t> {}
// SAFETY: as for the mutex.
unsafe impl Zeroed for Cell<libc::pthread_barrier_t> {}
// SAFETY: as for the mutex; `raised` is guarded by it.
unsafe impl Zeroed for Cell<EventParts> {}

/// Lets a C structure be shared; only its C functions look inside.
#[derive(Debug)]
#[repr(transparent)]
struct Cell<T>(T);

// SAFETY: the functions of the structures synchronise.
unsafe impl<T> Sync for Cell<T> {}

#[track_caller]
fn check(result: i32) {
    assert_eq!(result, 0, "{}", std::io::Error::from_raw_os_error(result));
}

/// `pthread_mutex_t`, process-shared, robust or not.
#[derive(Debug)]
pub struct PthreadMutex(SharedPage<Cell<libc::pthread_mutex_t>>);

impl PthreadMutex {
    /// Makes one.
    ///
    /// # Panics
    ///
    /// When glibc refuses.
    pub fn new(robust: bool) -> Self {
        let page = SharedPage::<Cell<libc::pthread_mutex_t>>::new();
        // SAFETY: the page is shared memory of the right size that nobody uses yet.
        unsafe { init_mutex(page.as_ptr().cast(), robust) };
        Self(page)
    }

    /// Locks. `true` when the owner died; the lock is then made consistent.
    ///
    /// # Panics
    ///
    /// When glibc reports anything else.
    pub fn lock(&self) -> bool {
        let mutex: *mut libc::pthread_mutex_t = self.0.as_ptr().cast();
        // SAFETY: the mutex was initialised in `new`.
        match unsafe { libc::pthread_mutex_lock(mutex) } {
            libc::EOWNERDEAD => {
                // SAFETY: this thread holds the robust mutex, whose owner died.
                check(unsafe { libc::pthread_mutex_consistent(mutex) });
                true
            }
            result => {
                check(result);
                false
            }
        }
    }

    /// Unlocks.
    ///
    /// # Panics
    ///
    /// When the calling thread does not hold it.
    pub fn unlock(&self) {
        // SAFETY: the mutex was initialised in `new`; a stranger's unlock of a process-shared normal mutex is checked by no one, and the
        // benches lock before they unlock.
        check(unsafe { libc::pthread_mutex_unlock(self.0.as_ptr().cast()) });
    }
}

/// # Safety
///
/// The address is valid for a mutex that nobody uses.
unsafe fn init_mutex(mutex: *mut libc::pthread_mutex_t, robust: bool) {
    // SAFETY: all zeros are a valid place for attributes, which `init` then writes.
    let mut attributes: libc::pthread_mutexattr_t = unsafe { zeroed() };
    // SAFETY: the attributes are a valid place.
    check(unsafe { libc::pthread_mutexattr_init(&mut attributes) });
    // SAFETY: the attributes were initialised.
    check(unsafe { libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED) });
    if robust {
        // SAFETY: the attributes were initialised.
        check(unsafe { libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST) });
    }
    // SAFETY: the caller gives a valid place, and the attributes were initialised.
    check(unsafe { libc::pthread_mutex_init(mutex, &attributes) });
}

/// `pthread_rwlock_t`, process-shared.
#[derive(Debug)]
pub struct PthreadRwLock(SharedPage<Cell<libc::pthread_rwlock_t>>);

impl PthreadRwLock {
    /// Makes one.
    ///
    /// # Panics
    ///
    /// When glibc refuses.
    #[expect(clippy::new_without_default, reason = "a lock is made on purpose")]
    pub fn new() -> Self {
        let page = SharedPage::<Cell<libc::pthread_rwlock_t>>::new();
        // SAFETY: all zeros are a valid place for attributes, which `init` then writes.
        let mut attributes: libc::pthread_rwlockattr_t = unsafe { zeroed() };
        // SAFETY: the attributes are a valid place.
        check(unsafe { libc::pthread_rwlockattr_init(&mut attributes) });
        // SAFETY: the attributes were initialised.
        check(unsafe { libc::pthread_rwlockattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED) });
        // SAFETY: the page is shared memory of the right size that nobody uses yet.
        check(unsafe { libc::pthread_rwlock_init(page.as_ptr().cast(), &attributes) });
        Self(page)
    }

    /// Locks for reading.
    ///
    /// # Panics
    ///
    /// When glibc refuses.
    pub fn read(&self) {
        // SAFETY: the lock was initialised in `new`.
        check(unsafe { libc::pthread_rwlock_rdlock(self.0.as_ptr().cast()) });
    }

    /// Unlocks.
    ///
    /// # Panics
    ///
    /// When glibc refuses.
    pub fn unlock(&self) {
        // SAFETY: the lock was initialised in `new` and is held.
        check(unsafe { libc::pthread_rwlock_unlock(self.0.as_ptr().cast()) });
    }
}

/// `pthread_barrier_t`, process-shared.
#[derive(Debug)]
pub struct PthreadBarrier(SharedPage<Cell<libc::pthread_barrier_t>>);

impl PthreadBarrier {
    /// Makes one.
    ///
    /// # Panics
    ///
    /// When glibc refuses.
    pub fn new(parties: usize) -> Self {
        let parties = u32::try_from(parties).expect("there are few parties");
        let page = SharedPage::<Cell<libc::pthread_barrier_t>>::new();
        // SAFETY: all zeros are a valid place for attributes, which `init` then writes.
        let mut attributes: libc::pthread_barrierattr_t = unsafe { zeroed() };
        // SAFETY: the attributes are a valid place.
        check(unsafe { libc::pthread_barrierattr_init(&mut attributes) });
        // SAFETY: the attributes were initialised.
        check(unsafe { libc::pthread_barrierattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED) });
        // SAFETY: the page is shared memory of the right size that nobody uses yet.
        check(unsafe { libc::pthread_barrier_init(page.as_ptr().cast(), &attributes, parties) });
        Self(page)
    }

    /// Waits for the others.
    ///
    /// # Panics
    ///
    /// When glibc refuses.
    pub fn wait(&self) {
        // SAFETY: the barrier was initialised in `new`.
        match unsafe { libc::pthread_barrier_wait(self.0.as_ptr().cast()) } {
            libc::PTHREAD_BARRIER_SERIAL_THREAD => {}
            result => check(result),
        }
    }
}

#[derive(Debug)]
struct EventParts {
    mutex: libc::pthread_mutex_t,
    condition: libc::pthread_cond_t,
    raised: bool,
}

/// A flag under a process-shared mutex and condition variable, as glibc offers no event.
#[derive(Debug)]
pub struct PthreadEvent(SharedPage<Cell<EventParts>>);

impl PthreadEvent {
    /// Makes one that is not raised.
    ///
    /// # Panics
    ///
    /// When glibc refuses.
    #[expect(clippy::new_without_default, reason = "an event is made on purpose")]
    pub fn new() -> Self {
        let page: SharedPage<Cell<EventParts>> = SharedPage::new();
        let event = Self(page);
        // SAFETY: the page is shared memory of the right size that nobody uses yet.
        unsafe { init_mutex(event.mutex(), false) };
        // SAFETY: all zeros are a valid place for attributes, which `init` then writes.
        let mut attributes: libc::pthread_condattr_t = unsafe { zeroed() };
        // SAFETY: the attributes are a valid place.
        check(unsafe { libc::pthread_condattr_init(&mut attributes) });
        // SAFETY: the attributes were initialised.
        check(unsafe { libc::pthread_condattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED) });
        // SAFETY: the page is shared memory that nobody uses yet.
        check(unsafe { libc::pthread_cond_init(event.condition(), &attributes) });
        event
    }

    fn parts(&self) -> *mut EventParts {
        self.0.as_ptr().cast()
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        // SAFETY: the address of a field of the mapping; nothing is read.
        unsafe { &raw mut (*self.parts()).mutex }
    }

    fn condition(&self) -> *mut libc::pthread_cond_t {
        // SAFETY: the address of a field of the mapping; nothing is read.
        unsafe { &raw mut (*self.parts()).condition }
    }

    /// Runs a function with the flag while the mutex is held.
    fn locked<R>(&self, with: impl FnOnce(*mut bool) -> R) -> R {
        // SAFETY: the mutex was initialised in `new`.
        check(unsafe { libc::pthread_mutex_lock(self.mutex()) });
        // SAFETY: the address of a field of the mapping; nothing is read.
        let result = with(unsafe { &raw mut (*self.parts()).raised });
        // SAFETY: the mutex is held since above.
        check(unsafe { libc::pthread_mutex_unlock(self.mutex()) });
        result
    }

    /// Raises the flag and wakes the sleeper.
    ///
    /// # Panics
    ///
    /// When glibc refuses.
    pub fn set(&self) {
        // SAFETY: the mutex is held, which every access to the flag takes.
        self.locked(|raised| unsafe { raised.write(true) });
        // SAFETY: the condition was initialised in `new`.
        check(unsafe { libc::pthread_cond_broadcast(self.condition()) });
    }

    /// Sleeps until the flag is raised, and lowers it.
    ///
    /// # Panics
    ///
    /// When glibc refuses.
    pub fn wait(&self) {
        self.locked(|raised| {
            // SAFETY: the mutex is held, which every access to the flag takes.
            while !unsafe { raised.read() } {
                // SAFETY: both were initialised in `new`, and the mutex is held.
                check(unsafe { libc::pthread_cond_wait(self.condition(), self.mutex()) });
            }
            // SAFETY: the mutex is held again.
            unsafe { raised.write(false) };
        });
    }
}
