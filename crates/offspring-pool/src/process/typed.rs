// UNSAFETY: names the type of a result whose type was forgotten on its way.
#![expect(unsafe_code, reason = "names the type of an erased result")]

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};

use offspring_queue::{Message, decode};
use rkyv::Archived;

use super::builder::ProcessBuilder;
use super::delivery::Delivered;
use super::handle::ProcessHandle;
use crate::error::{Error, Result};
use crate::task::TaskFn;

/// A child process that runs one function.
///
/// ```
/// use offspring_pool::Process;
///
/// fn area(width: u32, height: u32) -> u32 {
///     width * height
/// }
///
/// let process = Process::spawn(area, (3, 4))?;
/// process.join()?;
/// assert_eq!(process.result()?, 12);
/// # Ok::<(), offspring_pool::Error>(())
/// ```
///
/// A panic, a signal and an early exit are errors of [`result`](Self::result) that say what happened:
///
/// ```
/// use offspring_pool::Process;
///
/// fn crash() -> u32 {
///     std::process::abort()
/// }
///
/// let error = Process::spawn(crash, ())?.result().unwrap_err();
/// assert!(error.is_worker_death());
/// assert!(error.to_string().contains("SIGABRT"));
/// # Ok::<(), offspring_pool::Error>(())
/// ```
///
/// Dropping it waits for the child, up to a [grace](ProcessBuilder::grace) after which the child is ended; a
/// [daemon](ProcessBuilder::daemon) is killed at once. Either way nothing stays behind. When the parent dies, however
/// it does, its children are killed by the kernel.
///
/// What does not need the result's type is on [`ProcessHandle`], to which this dereferences.
#[must_use = "dropping it waits for the child"]
pub struct Process<R> {
    handle: ProcessHandle,
    marker: PhantomData<fn() -> R>,
}

impl Process<()> {
    /// Makes a process with settings: name, environment, working directory, limits and more.
    pub fn builder() -> ProcessBuilder {
        ProcessBuilder::new()
    }
}

impl<R: Message> Process<R> {
    /// Starts a process that calls `function` with `argument`: a value, or a tuple for a function of several
    /// arguments, or `()` for one of none. See [`TaskFn`] for what a function can be.
    ///
    /// # Errors
    /// When the argument does not fit into the arena, or the process cannot be started.
    #[doc(alias = "start")]
    pub fn spawn<F, A, K>(function: F, argument: A) -> Result<Self>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        K: 'static,
    {
        ProcessBuilder::new().spawn(function, argument)
    }

    /// Forks this process; the child calls `function`, which may capture whatever it likes, with all of this
    /// process's memory at hand.
    ///
    /// # Errors
    /// When this process has more than one thread: the memory of a forked copy may be locked for ever by threads that
    /// it does not have. The error says how many there are.
    pub fn fork<F: FnOnce() -> R>(function: F) -> Result<Self> {
        ProcessBuilder::new().fork(function)
    }

    pub(super) fn new(handle: ProcessHandle) -> Self {
        Self {
            handle,
            marker: PhantomData,
        }
    }

    /// Waits for the child and gives what its function returned.
    ///
    /// # Errors
    /// When the function panicked ([`Error::is_panic`]), the child ended without a result
    /// ([`Error::is_worker_death`]), or the result did not fit into the arena.
    pub fn result(&self) -> Result<R> {
        Ok(decode(self.result_view()?)?)
    }

    /// As [`result`](Self::result), but reads the result in place, where the child wrote it.
    ///
    /// # Errors
    /// Those of [`result`](Self::result).
    pub fn result_view(&self) -> Result<&Archived<R>> {
        let (status, delivered) = self.handle.delivered()?;
        match delivered {
            // SAFETY: the child ran a function that returns an `R`, and archived that.
            Delivered::Result(parcel) => Ok(unsafe { parcel.view_as::<R>() }?),
            Delivered::Report(report) => Err(report.decode()?.into_error(None)),
            Delivered::NoRoom => Err(Error::no_room(None)),
            Delivered::Nothing => Err(Error::ended(self.handle.pid(), status, None)),
        }
    }

    /// Lets go of a process that has ended.
    ///
    /// # Errors
    /// When it still runs; the error gives it back.
    pub fn close(self) -> std::result::Result<(), StillRunning<R>> {
        if self.handle.is_alive() {
            Err(StillRunning(self))
        } else {
            Ok(())
        }
    }
}

impl<R> Deref for Process<R> {
    type Target = ProcessHandle;

    fn deref(&self) -> &ProcessHandle {
        &self.handle
    }
}

impl<R> AsFd for Process<R> {
    /// The sentinel: a descriptor that becomes readable when the child ends, for
    /// [`wait_any`](offspring_queue::wait_any), `poll`, `epoll` and async runtimes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.handle).finish()
    }
}

/// A process that cannot be closed yet, from [`Process::close`].
pub struct StillRunning<R>(pub Process<R>);

impl<R> fmt::Display for StillRunning<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} still runs: `join` it, or `kill` it first", self.0.pid())
    }
}

impl<R> fmt::Debug for StillRunning<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StillRunning").field(&self.0).finish()
    }
}

impl<R> std::error::Error for StillRunning<R> {}
