//! What the tests of this workspace share: a watchdog, a leak check, and a harness with one thread.
//!
//! A test of processes can fail in three ways that an assertion does not see: it hangs, it leaves something behind
//! (a descriptor, a child, a name in `/dev/shm`, a mapping), or it forks where a second thread runs. Each has its
//! answer here:
//!
//! - [`watchdog`] aborts a test that hangs and names it. It uses a kernel timer, not a thread, so that a test with a
//!   watchdog may still fork.
//! - [`LeakCheck`] compares what the process holds before and after a test.
//! - [`run_single_threaded`] is the `main` of a `harness = false` test binary. libtest runs every test on a second
//!   thread, even with `--test-threads=1`, and a process with two threads must not fork.
//!
//! ```
//! use std::time::Duration;
//! use offspring_testing::{LeakCheck, watchdog};
//!
//! let _leaks = LeakCheck::new(); // first, so that it is dropped, and compares, last
//! let _watchdog = watchdog(Duration::from_secs(30));
//! let file = std::fs::File::open("/dev/null")?;
//! drop(file);
//! # Ok::<(), std::io::Error>(())
//! ```

mod leak_check;
mod single_threaded;
mod snapshot;
mod temp_dir;
mod wait;
mod watchdog;

pub use leak_check::LeakCheck;
pub use single_threaded::{run_single_threaded, test_name};
pub use snapshot::Snapshot;
pub use temp_dir::{TempDir, temp_dir};
pub use wait::{process_gone, wait_until};
pub use watchdog::{Watchdog, watchdog};
