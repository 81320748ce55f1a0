//! Side by side in one run: this library, its peers, and the physical limit.
//!
//! A suite is a list of cases, a case a list of implementations that do the same work. The program of a suite starts itself anew for
//! every measurement (`--measure CASE IMPLEMENTATION`), so that each begins in a fresh process with one thread, may fork, and
//! inherits nothing from the one before; it goes round the implementations, A B C A B C, several times, and compares the
//! medians of the rounds. A measurement checks the results of what it measures, and fails if they are wrong.

mod cli;
mod copy;
mod forked;
mod futex;
mod machine;
mod measure;
mod parties;
mod pthread;
mod python;
mod report;
mod sampling;
mod shared;
mod suite;
mod work;

pub use copy::{BIG, PLACE, copy_big};
pub use forked::{Forked, fork};
pub use futex::{futex_wait, futex_wake};
pub use machine::{cpus, now_ns, pin, pss_of, thread_number, touch, unpin, wait_until_asleep};
pub use parties::{Child, Kind, side_by_side};
pub use pthread::{PthreadBarrier, PthreadEvent, PthreadMutex, PthreadRwLock};
pub use sampling::{Setting, median};
pub use shared::SharedPage;
pub use suite::{Better, Case, Implementation, run};
pub use work::{loops_for, spin};
