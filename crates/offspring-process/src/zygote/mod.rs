//! The zygote: a small copy of this program that forks new processes on demand.
//!
//! It is made when the first process is started, by executing the program once more, and it stays small and
//! single-threaded, so that its forks cost the same however large this process has become. Its clones are not its own
//! children but this process's (CLONE_PARENT): they are waited for here, and a zygote that is killed takes no exit status
//! with it; another one is made when it is needed.
//!
//! What a process has from the zygote, and not from this process as it is now, are its resource limits, nice value,
//! processor affinity, umask, session, namespaces and root directory: they are those of the moment when the zygote was
//! made. The environment, the current directory, the standard streams and the user are those of the moment of the start.

mod client;
mod server;
mod slot;

pub(crate) use client::start;
pub use client::{describe, pid, preload, shutdown};
pub(crate) use server::{check_not_preloading, serve};
