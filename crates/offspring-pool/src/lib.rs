//! Typed child processes and a pool of workers over shared memory.
//!
//! [`Process`] runs one function in a child and gives back what it returned; [`Pool`] runs a function over many items
//! in processes that are kept. Arguments and results travel through the family's arena, written once and read in
//! place or rebuilt; no helper thread and no second copy is between the caller and a worker.
//!
//! Any `fn` and any closure that captures nothing can be sent ([`TaskFn`]); it needs no registration, and the program
//! needs no call in `main`: a copy of the program becomes a child before its `main` runs.
//!
//! ```
//! use offspring_pool::Process;
//!
//! let words = vec!["hello".to_string(), "child".to_string()];
//! let process = Process::spawn(|words: Vec<String>| words.join(" "), words)?;
//! assert_eq!(process.result()?, "hello child");
//! # Ok::<(), offspring_pool::Error>(())
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!("offspring runs on Linux only: it is built on futexes, memfds and pidfds");

mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod kin;
mod ours;
mod pool;
mod process;
#[doc(hidden)]
pub mod protocol;
mod start;
mod task;

pub use error::{Error, Result};
pub use pool::{Calls, MAX_WORKERS, Pool, PoolBuilder, Views};
pub use process::{
    CurrentProcess, ParentProcess, Process, ProcessBuilder, ProcessHandle, StillRunning, active_children, current,
    parent,
};
pub use task::{ByValue, ByView, Spread, SpreadKind, TaskFn};
