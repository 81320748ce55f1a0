//! Waiting for a change of what a mutex guards.

// UNSAFETY: declares that the type may live in shared memory.
#![expect(unsafe_code, reason = "implements ShmSafe")]

use std::fmt;
use std::time::{Duration, Instant};

use offspring_shm::ShmSafe;

use crate::head::{Head, Kind};
use crate::lock_error::LockError;
use crate::member::Membership;
use crate::member::current::Me;
use crate::mutex::MutexGuard;
use crate::primitive::AtomicU32;
use crate::raw::RawCondvar;
use crate::reentrant_mutex::ReentrantMutexGuard;
use crate::unusable::Unusable;

/// Lets threads sleep until another says that something has changed.
///
/// As [`std::sync::Condvar`], between processes. Waiters are told one by one, about in the order they came, and only those that
/// were told wake up, as long as no more than `WAITERS` wait at once (4 bytes each); beyond that number, and after a death, a wait
/// may end without cause, so put the condition into [`wait_while`](Condvar::wait_while) or a loop.
///
/// # When a thread dies
///
/// - A waiter dies: its place is free. If it had been told and not woken yet, another is told in its place, at most a second later.
/// - A notifier dies in the middle: who was told wakes up when its nap ends, at most a second later; who was not told was not told.
/// - The owner of the mutex dies: the waiter that gets the mutex next is handed [`LockError::OwnerDied`].
///
/// ```
/// use offspring_sync::{Condvar, Mutex};
///
/// let (ready, turn) = (Mutex::new(false), Condvar::new());
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         *ready.lock().unwrap() = true;
///         turn.notify_one().unwrap();
///     });
///     let guard = turn.wait_while(ready.lock()?, |ready| !*ready)?;
///     assert!(*guard);
///     Ok(())
/// })
/// # .map_err(|error: offspring_sync::LockError<_>| std::io::Error::from(error)).map(|()| ())?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[repr(C)]
#[doc(alias = "Condition")]
pub struct Condvar<const WAITERS: usize = 64> {
    head: Head,
    crowd: AtomicU32,
    rotors: [AtomicU32; 2],
    cells: [AtomicU32; WAITERS],
}

// SAFETY: words without addresses, checked before they are used.
unsafe impl<const WAITERS: usize> ShmSafe for Condvar<WAITERS> {}

/// A mutex guard that a [`Condvar`] can give back and take again.
///
/// Implemented by [`MutexGuard`] and [`ReentrantMutexGuard`] (which is left and entered to the same depth), and by nothing else.
pub trait Suspend: Sized + sealed::Sealed {
    /// What is kept while the lock is not held.
    type Suspended;

    /// Gives the lock back.
    #[doc(hidden)]
    fn suspend(self) -> Result<Self::Suspended, LockError<Self>>;

    /// Takes it again.
    #[doc(hidden)]
    fn resume(suspended: Self::Suspended) -> Result<Self, LockError<Self>>;
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for super::MutexGuard<'_, T> {}
    impl<T> Sealed for super::ReentrantMutexGuard<'_, T> {}
}

impl Condvar {
    /// A condition variable for the family's threads.
    pub const fn new() -> Self {
        Condvar::with_waiters()
    }

    /// A condition variable for the threads of `membership`.
    pub fn new_in(membership: &Membership) -> Self {
        Condvar::with_head(Head::bound(Kind::Condvar, membership))
    }
}

impl<const WAITERS: usize> Condvar<WAITERS> {
    /// A condition variable for the family's threads with a number of places of your choice.
    pub const fn with_waiters() -> Self {
        Condvar::with_head(Head::unbound(Kind::Condvar))
    }

    const fn with_head(head: Head) -> Self {
        const { assert!(WAITERS > 0, "a Condvar needs at least one place") };
        Condvar {
            head,
            crowd: AtomicU32::new(0),
            rotors: [const { AtomicU32::new(0) }; 2],
            cells: [const { AtomicU32::new(0) }; WAITERS],
        }
    }

    fn raw(&self) -> RawCondvar<'_> {
        RawCondvar {
            cells: &self.cells,
            crowd: &self.crowd,
            rotors: &self.rotors,
        }
    }

    /// Gives the lock back, waits until told, and takes the lock again.
    ///
    /// # Errors
    ///
    /// What the mutex says when it is taken again; or the memory is no usable condition variable, and the lock was given back.
    pub fn wait<G: Suspend>(&self, guard: G) -> Result<G, LockError<G>> {
        self.wait_within(guard, None).map(|(guard, _)| guard)
    }

    /// As [`wait`](Self::wait), for at most `timeout`; says whether the caller was told.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait). Running out of time is no error.
    pub fn wait_timeout<G: Suspend>(&self, guard: G, timeout: Duration) -> Result<(G, bool), LockError<G>> {
        self.wait_within(guard, Instant::now().checked_add(timeout))
    }

    /// As [`wait`](Self::wait), until `deadline` at most; says whether the caller was told.
    ///
    /// # Errors
    ///
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_deadline<G: Suspend>(&self, guard: G, deadline: Instant) -> Result<(G, bool), LockError<G>> {
        self.wait_within(guard, Some(deadline))
    }

    /// Waits for as long as `condition` holds.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>> {
        while condition(&mut guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits for as long as `condition` holds, for at most `timeout`; says whether it has ceased to hold.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait). Running out of time is no error.
    #[doc(alias = "wait_for")]
    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, bool), LockError<MutexGuard<'a, T>>> {
        let deadline = Instant::now().checked_add(timeout);
        while condition(&mut guard) {
            let (again, told) = self.wait_within(guard, deadline)?;
            guard = again;
            if !told {
                let met = !condition(&mut guard);
                return Ok((guard, met));
            }
        }
        Ok((guard, true))
    }

    fn wait_within<G: Suspend>(&self, guard: G, deadline: Option<Instant>) -> Result<(G, bool), LockError<G>> {
        let me: Me<'_> = self.head.me(Kind::Condvar)?;
        let raw = self.raw();
        // First the place, then the lock: whoever changes the condition under the lock afterwards finds the waiter.
        let place = raw.sit_down(me.table(), me.tag);
        let suspended = guard.suspend().inspect_err(|_| raw.leave(me.table(), me.tag, place))?;
        let told = raw.wait(me.table(), me.tag, place, deadline);
        Ok((G::resume(suspended)?, told))
    }

    /// Tells one waiter; says whether there was any.
    ///
    /// # Errors
    ///
    /// The memory is no usable condition variable.
    pub fn notify_one(&self) -> Result<bool, Unusable> {
        Ok(self.notify(1)? != 0)
    }

    /// Tells up to `count` waiters, and says how many were told.
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Self::notify_one).
    pub fn notify(&self, count: u32) -> Result<u32, Unusable> {
        let me: Me<'_> = self.head.me(Kind::Condvar)?;
        Ok(self.raw().notify(me.table(), count))
    }

    /// Tells all who wait, and says how many were told.
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Self::notify_one).
    pub fn notify_all(&self) -> Result<u32, Unusable> {
        self.notify(u32::MAX)
    }

    /// How many wait at this moment, as far as there are places.
    pub fn waiters(&self) -> usize {
        self.raw().waiters()
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Condvar::new()
    }
}

impl<const WAITERS: usize> fmt::Debug for Condvar<WAITERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Condvar");
        match self.head.check(Kind::Condvar) {
            Ok(()) => out.field("waiters", &self.waiters()).finish_non_exhaustive(),
            Err(unusable) => out.field("unusable", &format_args!("{unusable}")).finish(),
        }
    }
}
