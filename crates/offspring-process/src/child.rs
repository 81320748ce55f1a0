//! A child process and how it ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::lifeline::Lifeline;
use crate::packet::{self, Absent, Kind};
use crate::wire::Reader;
use crate::{ExitStatus, PANIC_CODE, Panic, Pidfd};

/// How long a drop waits for a killed child. Only a process that is stuck in the kernel (a dead network file system)
/// needs more than milliseconds; it must not take its parent with it.
const DROP_PATIENCE: Duration = Duration::from_secs(10);

/// How long after its start a child is waited for awake. One that has next to nothing to do ends within this time, and
/// to fall asleep and be woken by it would take a good part of it again.
const AWAKE: Duration = Duration::from_micros(200);

/// A child process, started by a [`Launcher`](crate::Launcher) or a fork.
///
/// Dropping a child that was not waited for kills it: no process outlives its handle, and none stays behind as a
/// zombie. All methods take `&self` and may be called from several threads; all callers get the same status.
///
/// # Examples
///
/// ```
/// use offspring_process::{Arguments, EntryPoint, ExitStatus, Launcher};
///
/// static ANSWER: EntryPoint = EntryPoint::new("answer", |arguments: Arguments| i32::from(arguments.payload[0]));
///
/// let child = Launcher::new().start(&ANSWER, &[42], &[])?;
/// assert_eq!(child.wait()?, ExitStatus::Code(42));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Child {
    pid: u32,
    /// The process that made this handle: a forked copy of the handle is not the parent.
    creator: u32,
    started: Instant,
    pub(crate) pidfd: Pidfd,
    lifeline: Lifeline,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Running,
    Ended(ExitStatus),
    /// Somebody else took the status.
    Lost,
}

impl Child {
    pub(crate) fn new(pid: u32, pidfd: Pidfd, lifeline: Lifeline) -> Self {
        Self {
            pid,
            creator: std::process::id(),
            started: Instant::now(),
            pidfd,
            lifeline,
            state: Mutex::new(State::Running),
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the child has ended.
    ///
    /// # Errors
    ///
    /// Foreign code took the exit status: it called `waitpid(-1)`, or SIGCHLD is ignored in this process. Or this
    /// process is a forked copy of the child's parent.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        self.check_ours()?;
        if let Some(status) = self.wait_awake(None)? {
            return Ok(status);
        }
        loop {
            self.pidfd.wait_exit(None)?;
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            self.tracer_first();
        }
    }

    /// The child's exit status if it has ended, without waiting.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        let mut state = self.state.lock();
        self.check_ours()?;
        match &*state {
            State::Ended(status) => return Ok(Some(status.clone())),
            State::Lost => return Err(self.lost()),
            State::Running => {}
        }
        match self.pidfd.reap() {
            Ok(None) => Ok(None),
            Ok(Some(status)) => {
                let status = self.with_panic(status);
                *state = State::Ended(status.clone());
                Ok(Some(status))
            }
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                *state = State::Lost;
                Err(self.lost())
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until the child has ended, but no longer than `timeout`; `None` if it still runs then.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        match Instant::now().checked_add(timeout) {
            Some(deadline) => self.wait_deadline(deadline),
            None => self.wait().map(Some),
        }
    }

    /// Waits until the child has ended, but not beyond `deadline`; `None` if it still runs then.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_deadline(&self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        self.check_ours()?;
        if let Some(status) = self.wait_awake(Some(deadline))? {
            return Ok(Some(status));
        }
        loop {
            let exited = self.pidfd.wait_exit(Some(deadline))?;
            let status = self.try_wait()?;
            if status.is_some() || !exited || Instant::now() >= deadline {
                return Ok(status);
            }
            self.tracer_first();
        }
    }

    /// Sends a signal. To a child that has ended it is a no-op.
    ///
    /// # Errors
    ///
    /// There is no such signal, or the child changed its user and may not be signalled any more.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.pidfd.signal(signal)
    }

    /// Kills the child with SIGKILL. On a child that has ended it is a no-op.
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal).
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Waits for a child that has only just been started, see [`AWAKE`].
    fn wait_awake(&self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        while self.started.elapsed() < AWAKE && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            thread::yield_now();
        }
        Ok(None)
    }

    /// The pidfd says "ended" while waitid(2) says "not yet": a tracer (a debugger) gets the status first. There is
    /// nothing to wait on for that.
    fn tracer_first(&self) {
        thread::sleep(Duration::from_millis(1));
    }

    /// Turns the code of a panic into the panic, if the child sent a report. A program that merely exits with that code
    /// sends none.
    fn with_panic(&self, status: ExitStatus) -> ExitStatus {
        if status != ExitStatus::Code(PANIC_CODE) {
            return status;
        }
        let mut buffer = packet::buffer();
        // At most two messages are there: the outcome of the settings, if nobody read it, and the report.
        while let Ok(mut packet) = self.lifeline.receive(&mut buffer) {
            if packet.kind == Kind::Panicked {
                let mut long = Vec::new();
                let panic = packet
                    .body(&buffer, &mut long)
                    .and_then(|body| Panic::decode(&mut Reader::new(body)));
                if let Ok(panic) = panic {
                    return ExitStatus::Panic(panic);
                }
            }
        }
        status
    }

    /// Waits until the child says that its settings are in force.
    ///
    /// # Errors
    ///
    /// The setting that failed; the child has ended then, and its status is taken.
    pub(crate) fn confirm(&self) -> io::Result<()> {
        let mut buffer = packet::buffer();
        match self.lifeline.wait(self.pidfd.as_fd(), &mut buffer) {
            Ok(packet) if packet.kind == Kind::Done => Ok(()),
            Ok(mut packet) if packet.kind == Kind::Failed => {
                let mut long = Vec::new();
                let error = crate::failure::Failure::decode(&mut Reader::new(packet.body(&buffer, &mut long)?))?;
                self.wait()?;
                Err(error)
            }
            Ok(_) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "unexpected answer of a child",
            )),
            Err(Absent::End) => {
                let status = self.wait()?;
                Err(io::Error::other(format!(
                    "the process ended while its settings were applied: {status}"
                )))
            }
            Err(absent) => Err(absent.into()),
        }
    }

    fn lost(&self) -> io::Error {
        io::Error::other(format!(
            "the exit status of process {} was taken by other code: something calls waitpid(-1) or ignores SIGCHLD",
            self.pid
        ))
    }

    /// A process that is waited for by a copy of its parent would be waited for in vain.
    fn check_ours(&self) -> io::Result<()> {
        if self.creator == std::process::id() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "process {} is a child of process {}, of which this process is a forked copy",
            self.pid, self.creator
        )))
    }
}

impl AsFd for Child {
    /// The pidfd: readable when the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(self.state.get_mut(), State::Running) || self.creator != std::process::id() {
            return;
        }
        if self.kill().is_ok() {
            // An error means that the status is already gone, so there is no zombie.
            let _ = self.wait_timeout(DROP_PATIENCE);
        }
    }
}
