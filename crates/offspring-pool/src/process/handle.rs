use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use std::{fmt, io, process, thread};

use offspring_process::{Child, ExitStatus};
use offspring_queue::Parcel;
use offspring_shm::{Owner, family};
use parking_lot::Mutex;

use super::delivery::{Delivered, Delivery};
use crate::error::{Error, Result};
use crate::kin::release;
use crate::ours::Ours;

/// How long a process that is dropped has to heed a SIGTERM before it is killed.
const TERMINATION: Duration = Duration::from_secs(2);

/// A child process, whatever its result: what [`Process`](super::Process) and [`active_children`] share.
#[derive(Clone)]
pub struct ProcessHandle(Arc<Inner>);

/// A child that has been started, with all that is its own.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) owner: Owner,
    pub(super) name: String,
    pub(super) daemon: bool,
    pub(super) grace: Duration,
    pub(super) delivery: Ours<Delivery>,
    /// Held while the child may read it.
    pub(super) _argument: Option<Ours<Parcel<()>>>,
}

struct Inner {
    running: Running,
    delivered: OnceLock<Ours<Delivered>>,
    /// The process that made this one: a forked copy of it must not touch the child.
    parent: u32,
}

/// The children of this process that were not dropped.
static CHILDREN: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// The children of this process that are alive, in the order in which they were started. Workers of pools are not
/// among them.
///
/// ```
/// use offspring_pool::{Process, active_children};
///
/// let sleeper = Process::spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)), ())?;
/// assert_eq!(active_children()[0].pid(), sleeper.pid());
/// sleeper.kill()?;
/// sleeper.join()?;
/// assert!(active_children().is_empty());
/// # Ok::<(), offspring_pool::Error>(())
/// ```
pub fn active_children() -> Vec<ProcessHandle> {
    let children: Vec<_> = CHILDREN
        .lock()
        .iter()
        .filter_map(Weak::upgrade)
        .map(ProcessHandle)
        .collect();
    // Outside the lock: the last handle of a child may be dropped here, and waits for it.
    children
        .into_iter()
        .filter(|child| child.0.is_mine() && child.is_alive())
        .collect()
}

impl ProcessHandle {
    pub(super) fn new(running: Running) -> Self {
        let inner = Arc::new(Inner {
            running,
            delivered: OnceLock::new(),
            parent: process::id(),
        });
        let mut children = CHILDREN.lock();
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&inner));
        Self(inner)
    }

    /// The child's process id.
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.0.running.child.pid()
    }

    /// The child's name: what the builder gave it, or `Process-1`, `Process-2`, ... and below one of those
    /// `Process-2:1`, ...
    pub fn name(&self) -> &str {
        &self.0.running.name
    }

    /// True if the child is killed, not waited for, when its [`Process`](super::Process) is dropped.
    pub fn is_daemon(&self) -> bool {
        self.0.running.daemon
    }

    /// True until the child has ended.
    pub fn is_alive(&self) -> bool {
        matches!(self.exit_status(), Ok(None))
    }

    /// Waits until the child has ended, however it did: see [`exit_status`](Self::exit_status).
    ///
    /// # Errors
    /// When the child cannot be waited for, because somebody else reaped it.
    pub fn join(&self) -> Result<()> {
        self.delivered().map(drop)
    }

    /// As [`join`](Self::join), for so long; true if the child has ended. A timeout of zero looks and does not wait.
    ///
    /// # Errors
    /// Those of [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        let child = self.0.child()?;
        let status = child
            .wait_timeout(timeout)
            .map_err(|error| self.0.failed("wait for", error))?;
        if status.is_some() {
            self.0.settle();
        }
        Ok(status.is_some())
    }

    /// How the child ended; `None` while it runs.
    ///
    /// # Errors
    /// Those of [`join`](Self::join).
    #[doc(alias = "exitcode")]
    pub fn exit_status(&self) -> Result<Option<ExitStatus>> {
        let status = self
            .0
            .child()?
            .try_wait()
            .map_err(|error| self.0.failed("wait for", error))?;
        if status.is_some() {
            self.0.settle();
        }
        Ok(status)
    }

    /// Asks the child to end: SIGTERM. Nothing happens if it has ended.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn terminate(&self) -> Result<()> {
        self.signal(libc::SIGTERM)
    }

    /// Ends the child at once: SIGKILL. Nothing happens if it has ended.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Interrupts the child as Ctrl-C does: SIGINT. Nothing happens if it has ended.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn interrupt(&self) -> Result<()> {
        self.signal(libc::SIGINT)
    }

    /// Sends the child a signal. Nothing happens if it has ended.
    ///
    /// # Errors
    /// When there is no such signal, or it cannot be sent.
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.0
            .child()?
            .signal(signal)
            .map_err(|error| self.0.failed("send a signal to", error))
    }

    /// Waits for the child's end, and gives what it has left.
    pub(super) fn delivered(&self) -> Result<(ExitStatus, &Delivered)> {
        let status = self
            .0
            .child()?
            .wait()
            .map_err(|error| self.0.failed("wait for", error))?;
        Ok((status, self.0.settle()))
    }
}

impl Inner {
    fn is_mine(&self) -> bool {
        self.parent == process::id()
    }

    /// The child, in the process that started it.
    fn child(&self) -> Result<&Child> {
        let child = &self.running.child;
        if self.is_mine() {
            return Ok(child);
        }
        Err(Error::invalid(format!(
            "process {} is a child of this process's parent, not of this one",
            child.pid()
        )))
    }

    fn failed(&self, what: &str, error: io::Error) -> Error {
        Error::os(
            format!(
                "cannot {what} process {} ({})",
                self.running.child.pid(),
                self.running.name
            ),
            error,
        )
    }

    /// Takes what the child has left, then gives back all that was its own. The child must be gone.
    fn settle(&self) -> &Delivered {
        self.delivered.get_or_init(|| {
            let delivered = family::me().map_or(Delivered::Nothing, |me| self.running.delivery.take(me));
            release(self.running.owner);
            Ours::new(delivered)
        })
    }
}

impl Drop for Inner {
    /// Waits for the child, or kills it if it is a daemon; then everything that was its own goes back.
    fn drop(&mut self) {
        if !self.is_mine() {
            return;
        }
        let Running {
            child, daemon, grace, ..
        } = &self.running;
        let patient = !daemon && !thread::panicking();
        let mut gone = patient && matches!(child.wait_timeout(*grace), Ok(Some(_)));
        if patient && !gone {
            // A child that cannot be signalled is gone.
            let _ = child.signal(libc::SIGTERM);
            gone = matches!(child.wait_timeout(TERMINATION), Ok(Some(_)));
        }
        if !gone {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.settle();
    }
}

impl AsFd for ProcessHandle {
    /// The sentinel: a descriptor that becomes readable when the child ends, for `poll`, `epoll` and async runtimes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.running.child.as_fd()
    }
}

impl fmt::Debug for ProcessHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessHandle")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .field("daemon", &self.is_daemon())
            .field("exit_status", &self.exit_status().ok().flatten())
            .finish_non_exhaustive()
    }
}
