//! Child processes on Linux: fork, exec, a zygote, pidfds and typed exit statuses.
//!
//! A [`Launcher`] starts a process at an [`EntryPoint`], a function in a static of the program, and returns a [`Child`]:
//!
//! ```
//! use offspring_process::{Arguments, EntryPoint, ExitStatus, Launcher};
//!
//! static LENGTH: EntryPoint = EntryPoint::new("length", length);
//!
//! fn length(arguments: Arguments) -> i32 {
//!     arguments.payload.len() as i32
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     let child = Launcher::new().start(&LENGTH, b"hello", &[])?;
//!     assert_eq!(child.wait()?, ExitStatus::Code(5));
//!     Ok(())
//! }
//! ```
//!
//! - **No call in `main`.** A copy of the program that is started to be such a process finds out before `main` runs, with
//!   the feature `start-hook`, which is on by default. Without it, call [`init`] first thing in `main`.
//! - **Fast, whatever the size of this process.** A small [`zygote`] forks; [`StartMethod::Spawn`] executes the program
//!   afresh; [`Launcher::fork`] and [`fork()`] copy this very process.
//! - **A child is held by a pidfd.** It is waited for, with timeouts, and signalled without any doubt which process is
//!   meant, and fits into poll and epoll ([`Child`] is `AsFd`).
//! - **Its end is told in full**: an exit code, a signal and whether a core was dumped, or a [`Panic`] with its message,
//!   location and backtrace ([`ExitStatus`]).
//! - **Nothing is left behind.** A child is killed when its handle is dropped, and by the kernel when its parent dies,
//!   however that dies; it is always reaped. This tie ends where a child executes another program.
//!
//! Needs Linux 5.9 or later (5.4 with slower starts), on x86-64 or aarch64.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!(
    "offspring-process works on Linux on x86-64 and aarch64 only: its processes are made by Linux system calls"
);

mod catch;
mod child;
mod clone;
mod descriptors;
#[cfg(feature = "start-hook")]
mod ending;
mod entry_point;
mod environment;
mod executable;
mod exit_status;
mod failure;
mod fork;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hook;
pub mod image;
mod kernel;
mod launcher;
mod lifeline;
mod packet;
mod pidfd;
mod poll;
mod private;
mod request;
mod resource;
mod settings;
mod socket;
mod spawn;
mod stdio;
mod wire;
pub mod zygote;

pub use catch::{Panic, catch_panic};
pub use child::Child;
pub use entry_point::{Arguments, EntryPoint};
pub use exit_status::ExitStatus;
pub(crate) use exit_status::PANIC_CODE;
pub use fork::{Forked, fork};
pub use hook::init;
pub use launcher::{Launcher, StartMethod};
pub use pidfd::Pidfd;
pub use resource::Resource;
pub use stdio::Stdio;
