//! Locks, barriers and the words beneath them, for processes that share memory.
//!
//! Everything here works between threads of any process, as the standard library's types of the same names do between the
//! threads of one, and survives that any of them is killed at any instruction: nobody hangs, no lock is lost, and no half-written
//! value passes for a whole one.
//!
//! ```
//! use offspring_shm::Shared;
//! use offspring_sync::Mutex;
//!
//! // The handle is plain data: any process of the family that is given it sees the same counter.
//! let counter = Shared::new(Mutex::new(0_u64))?;
//! *counter.lock()? += 1;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Three ideas
//!
//! - **A lock is a value.** [`Mutex::new`] and its like are `const`, hold no address and no descriptor, and may lie wherever all
//!   their users see them: in [`Shared`](offspring_shm::Shared) for the processes of a family, or in any mapping of your own. Each
//!   begins with a word that says what it is, so that memory in which nobody made a lock is an error, not a lock.
//! - **Whatever is held names its holder.** A thread becomes a *member* at its first lock ([`Membership`]) and gets a
//!   [`Tag`]; every lock word, permit and barrier seat holds the tag of its owner, put there by the same compare-and-swap that took
//!   it. There are no anonymous counts that a dead process could be stuck in.
//! - **The kernel says who is dead.** It marks the member's life word after the thread's last instruction, however the thread ended,
//!   and wakes those who sleep because of it. Whoever meets a dead tag may take over, by a compare-and-swap from exactly that
//!   word; several may try, and may die in it.
//!
//! A program that shares memory with strangers makes a [`Membership`] beside the locks and uses `new_in`.
//!
//! # What a death leaves to the others
//!
//! | type | who dies | what the others see |
//! |---|---|---|
//! | [`Mutex`] | the owner | the next owner, woken at once: [`LockError::OwnerDied`] with the guard, until one calls `mark_consistent` |
//! | | a waiter | nothing |
//! | [`ReentrantMutex`] | the owner, at any depth | as for `Mutex` |
//! | [`RwLock`] | a reader | nothing: the next writer passes over it |
//! | | a writer, inside or waiting for readers | the next, reader or writer: `OwnerDied`, until a writer has repaired the value |
//! | [`Semaphore`], [`BoundedSemaphore`] | a holder | its permits are free; those who wait for one are woken at once |
//! | | a waiter | nothing |
//! | [`CountingSemaphore`] | a taker | nothing, ever: what it took is gone, as nobody knows that it was the one |
//! | [`Condvar`] | a waiter | nothing; if it had been told and not run yet, another is told in its place |
//! | | a notifier | who was told wakes up; who was not, was not |
//! | | the owner of the mutex | the waiter that gets the mutex: `OwnerDied` |
//! | [`Event`] | who set it | the flag stays set |
//! | | a waiter | nothing |
//! | [`Barrier`] | a member, waiting or on its way | all who wait, and all who come: [`BarrierError::MemberDied`], until a reset |
//! | | who runs the action | the same |
//! | [`Once`], [`OnceLock`] | who initialises | it was not done: the next one does it |
//! | [`Value`] | anybody | nothing: it is written as a whole |
//!
//! A thread that panics under a lock leaves [`LockError::Poisoned`]; one that ends with a lock has died inside.
//!
//! "Woken at once" is the kernel's doing and takes no polling. What a kill can swallow is a wake-up that is on its way: the few
//! instructions between a store and the call that wakes, or between waking up and looking. Then another sleeper finds out when
//! its nap ends: naps start at 50 ms and grow to one second, so that a thread that waits for nothing wakes up once a second and
//! costs nothing.
//!
//! # Time
//!
//! Every operation that may wait has a `try_` form, which does not, a `_timeout` and a `_deadline` form. Deadlines are on the
//! monotonic clock. Signals do not end a wait.
//!
//! # Deadlocks
//!
//! A thread that locks what it holds already is told so ([`LockError::AlreadyHeld`]). A wait that runs out of time names the
//! [`Holder`]: process, thread, name, and since when at least. `Debug` shows the same without waiting.
//!
//! # Limits
//!
//! - Who has never touched a lock is not a member: a barrier cannot miss somebody who never came.
//! - A process that is stopped (`SIGSTOP`, a debugger) is not dead: its locks stay its own.
//! - In another PID namespace than ours, the kernel's mark alone tells a death; the second look through `/proc` does not apply.
//! - A child that was forked by any means is a member of its own and holds none of its parent's locks. A raw `clone` of a thread
//!   that had used a lock is refused: libc's list of robust mutexes is not its own there.

mod acquire_error;
mod barrier;
mod bounded_semaphore;
mod condvar;
mod core_lock;
mod counting_semaphore;
mod event;
mod head;
mod holder;
mod lock_error;
mod member;
mod mutex;
mod once;
mod permit_cells;
pub mod primitive;
pub mod raw;
mod reentrant_mutex;
mod rwlock;
mod semaphore;
mod tag;
mod unusable;
mod value;

pub use acquire_error::AcquireError;
pub use barrier::{Barrier, BarrierError, BarrierWaitResult};
pub use bounded_semaphore::{BoundedSemaphore, ReleaseError};
pub use condvar::{Condvar, Suspend};
pub use counting_semaphore::CountingSemaphore;
pub use event::Event;
pub use holder::Holder;
pub use lock_error::LockError;
pub use member::{Member, Membership};
pub use mutex::{Mutex, MutexGuard};
pub use once::{Once, OnceLock};
pub use raw::NotOwner;
pub use reentrant_mutex::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use tag::Tag;
pub use unusable::Unusable;
pub use value::{Value, Word};
