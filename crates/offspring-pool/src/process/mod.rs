//! A function in a process of its own.

mod builder;
mod current;
mod delivery;
mod handle;
mod typed;

#[cfg(feature = "fuzzing")]
pub(crate) use delivery::{Delivered, Delivery};

pub use builder::ProcessBuilder;
pub use current::{CurrentProcess, ParentProcess, current, parent};
pub use handle::{ProcessHandle, active_children};
pub use typed::{Process, StillRunning};
