//! A family of processes: pools, processes and shared memory with a thread's ease.
//!
//! Where tasks may crash, hang, leak, be killed, or call C libraries that are not safe for threads, run them in
//! processes. offspring makes that as easy as threads: no macro, no `init()`, no call at the top of `main`.
//!
//! ```
//! use offspring::Pool;
//!
//! fn worker(number: i32) -> i32 {
//!     println!("Process {number} is running");
//!     number * 2
//! }
//!
//! fn main() -> offspring::Result<()> {
//!     let pool = Pool::new(4)?;
//!     let results = pool.map(worker, [1, 2, 3, 4])?;
//!     pool.close();
//!     pool.join()?;
//!     println!("{results:?}"); // [2, 4, 6, 8]
//!     # assert_eq!(results, [2, 4, 6, 8]);
//!     Ok(())
//! }
//! ```
//!
//! | you want | take |
//! |---|---|
//! | a function over many items | [`Pool::map`] |
//! | one function in a process of its own | [`Process::spawn`] |
//! | the same with everything this process has in memory | [`Process::fork`] |
//! | a value or an array that every process sees | [`Shared`], [`SharedSlice`] |
//! | a value that several processes change | [`Shared`] of a [`Mutex`], a [`RwLock`] or a [`Value`] |
//! | processes that wait for each other | [`Barrier`], [`Event`], [`Condvar`], [`Semaphore`] |
//! | messages between any number of processes | [`Queue`] |
//! | work that is known to be done | [`JoinableQueue`] |
//! | messages between processes that run side by side | [`Queue`], [`Sender`], [`Receiver`] |
//! | messages, files and memory to and from a process of another program | [`Listener`], [`Client`], [`Connection`] |
//! | a value read where it lies, not rebuilt | a function of `&Archived<T>`, [`Pool::map_views`] |
//!
//! Each layer is a crate of its own, re-exported here: [`process`] (fork, exec, the zygote, pidfds), [`shm`]
//! (segments, mappings, the arena), [`sync`] (locks that outlive their owners), [`queue`] (messages), [`pool`].
//!
//! # How it works, in short
//!
//! The first process that is needed re-executes the program as a *zygote*: a small process with one thread, in which a
//! function in `.init_array` takes over before `main`. The zygote forks each further process in a fraction of a
//! millisecond, whatever the parent has in memory. All of them map one *arena* of shared memory; a value that is sent
//! is written there once, as [rkyv] bytes, and read there. A function is named by its place in the program's image.

#[cfg(not(target_os = "linux"))]
compile_error!("offspring runs on Linux only: it is built on futexes, memfds and pidfds");

pub use offspring_pool::{
    Calls, CurrentProcess, Error, MAX_WORKERS, ParentProcess, Pool, PoolBuilder, Process, ProcessBuilder,
    ProcessHandle, Result, StillRunning, TaskFn, Views, active_children, current, parent,
};
pub use offspring_process::{ExitStatus, Launcher, Panic, Resource, StartMethod, Stdio};
pub use offspring_queue::{
    Client, Connection, JoinableQueue, Listener, Message, Parcel, Queue, Receiver, Sender, Task, TaskReceiver, View,
    rkyv,
};
pub use offspring_shm::{Shared, SharedSlice, ShmSafe};
pub use offspring_sync::{
    Barrier, BarrierError, BarrierWaitResult, BoundedSemaphore, Condvar, CountingSemaphore, Event, LockError, Mutex,
    MutexGuard, Once, OnceLock, ReentrantMutex, ReentrantMutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    Semaphore, Value,
};

pub use offspring_pool as pool;
pub use offspring_process as process;
pub use offspring_queue as queue;
pub use offspring_queue::connection;
pub use offspring_shm as shm;
pub use offspring_sync as sync;

/// The programs in the README, compiled and run as they stand there.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
