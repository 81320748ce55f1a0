//! fork(2), with a handle that knows how the child ends and a child that does not outlive its parent.
//!
// UNSAFETY: fork.
#![expect(unsafe_code, reason = "fork")]

use std::io;
use std::process;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;

use crate::failure::While;
use crate::lifeline::{self, Lifeline};
use crate::{Child, PANIC_CODE, Pidfd, zygote};

/// Which of the two processes after a [`fork`] this is.
#[derive(Debug)]
pub enum Forked {
    /// The one that called it, with a handle on the other.
    Parent(Child),
    /// The new one.
    Child,
}

/// Forks this process. The child is killed by the kernel when its parent dies or drops the handle.
///
/// The child goes on where this call returns, with a copy of everything. [`Launcher::fork`](crate::Launcher::fork) is the
/// safe way, which also carries a panic of the child to the parent.
///
/// # Safety
///
/// If this process has several threads, the child may call only async-signal-safe functions (signal-safety(7)) until it
/// executes another program or exits: locks that other threads held at this moment are held in the child for ever, that
/// of the allocator's users included.
///
/// # Errors
///
/// `EAGAIN` (too many processes), `ENOMEM`, or no descriptor is left.
///
/// # Examples
///
/// The child becomes another program:
///
/// ```
/// use std::os::unix::process::CommandExt;
/// use std::process::Command;
///
/// use offspring_process::{ExitStatus, Forked, fork};
///
/// // SAFETY: the child does nothing but execute another program.
/// match unsafe { fork() }? {
///     Forked::Child => {
///         let error = Command::new("true").exec();
///         eprintln!("cannot execute `true`: {error}");
///         std::process::exit(127);
///     }
///     Forked::Parent(child) => assert_eq!(child.wait()?, ExitStatus::Code(0)),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub unsafe fn fork() -> io::Result<Forked> {
    zygote::check_not_preloading()?;
    let (lifeline, end) = Lifeline::new().during("cannot make a socket pair")?;
    // SAFETY: the caller's promise is handed on; `arm` below and what the fork handlers do is async-signal-safe.
    match unsafe { nix::unistd::fork() }.during("cannot fork")? {
        ForkResult::Child => {
            if lifeline::arm(end).is_err() {
                process::exit(PANIC_CODE);
            }
            // The fork handler has replaced the descriptor; taking it off the list again may need a lock.
            std::mem::forget(lifeline);
            Ok(Forked::Child)
        }
        ForkResult::Parent { child: pid } => {
            drop(end);
            match Pidfd::open(pid.as_raw().cast_unsigned()) {
                Ok(pidfd) => Ok(Forked::Parent(Child::new(
                    pid.as_raw().cast_unsigned(),
                    pidfd,
                    lifeline,
                ))),
                Err(error) => {
                    // Not waited for, so that the pid is still the child's.
                    let _ = kill(pid, Signal::SIGKILL);
                    while waitpid(pid, None) == Err(nix::errno::Errno::EINTR) {}
                    Err(error).during("cannot open a pidfd of a forked process")
                }
            }
        }
    }
}
