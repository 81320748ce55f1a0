//! This process's side of its zygote.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{ResGid, ResUid, getresgid, getresuid};
use parking_lot::Mutex;

use super::slot::Slot;
use crate::failure::While;
use crate::lifeline::Lifeline;
use crate::packet::{self, Absent, Kind, Packet};
use crate::private::PrivateFd;
use crate::request::Request;
use crate::spawn::{self, NotReady, Role, answer, error_of};
use crate::wire::{Reader, Writer};
use crate::{Child, ExitStatus, Pidfd, environment, image};

/// A zygote that does not answer for so long is taken to be stuck (stopped, for instance) and is replaced.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many zygotes may die over one request before it is given up.
const ATTEMPTS: u32 = 8;

/// How long a caller stays awake for its answer.
const AWAKE: Duration = Duration::from_micros(200);

static STATE: Mutex<State> = Mutex::new(State {
    preloads: Vec::new(),
    made: 0,
    zygote: None,
    unavailable: None,
});

struct State {
    preloads: Vec<u64>,
    /// How many zygotes this process has made.
    made: u32,
    zygote: Option<Zygote>,
    /// Why there can be none on this system.
    unavailable: Option<String>,
}

struct Zygote {
    /// The process that made it: a forked copy of this handle must not use it.
    creator: u32,
    user: (ResUid, ResGid),
    pid: u32,
    pidfd: Pidfd,
    control: PrivateFd,
    slot: Slot,
    /// The environment and directory it has now, which its next clone will have.
    environment: Option<Vec<(OsString, OsString)>>,
    directory: Option<PathBuf>,
    buffer: Vec<u8>,
}

/// How a request failed.
enum Trouble {
    /// The zygote died or is stuck: `0` says in words how.
    Zygote(String),
    /// The request cannot be carried out.
    Request(io::Error),
}

impl From<NotReady> for Trouble {
    fn from(not_ready: NotReady) -> Self {
        match not_ready {
            NotReady { error, killed: true } => Self::Zygote(error.to_string()),
            NotReady { error, killed: false } => Self::Request(error),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Request(error)
    }
}

/// Registers a function to run in the zygote before it forks anything.
///
/// What it loads, all processes that are started later share, copy-on-write: a model, a table, a warmed-up interpreter.
/// It must not leave threads running or start processes. It runs again in each zygote that has to be made anew.
///
/// # Errors
///
/// The zygote has already been made, or the function is not part of the main program but of a shared library.
///
/// # Examples
///
/// ```
/// use std::sync::OnceLock;
///
/// use offspring_process::{Arguments, EntryPoint, Launcher, zygote};
///
/// static TABLE: OnceLock<Vec<u32>> = OnceLock::new();
/// static LOOK_UP: EntryPoint = EntryPoint::new("look-up", |_: Arguments| TABLE.get().unwrap()[3] as i32);
///
/// zygote::preload(|| drop(TABLE.set((0..10).map(|n| n * n).collect())))?;
/// let child = Launcher::new().start(&LOOK_UP, &[], &[])?;
/// assert_eq!(child.wait()?.code(), Some(9));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn preload(function: fn()) -> io::Result<()> {
    let offset = image::offset_of_function(function)?;
    let mut state = STATE.lock();
    state.forget_inherited();
    if state.zygote.is_some() {
        return Err(io::Error::other(
            "the zygote has already been made: register functions before the first process",
        ));
    }
    if !state.preloads.contains(&offset) {
        state.preloads.push(offset);
    }
    Ok(())
}

/// Tells in words how processes are started by [`StartMethod::Zygote`](crate::StartMethod::Zygote) now.
#[must_use]
pub fn describe() -> String {
    let mut state = STATE.lock();
    state.forget_inherited();
    match (&state.zygote, &state.unavailable) {
        (Some(zygote), _) => format!("zygote {} (made {} so far)", zygote.pid, state.made),
        (None, Some(reason)) => format!("no zygote, every process executes the program again: {reason}"),
        (None, None) => format!("no zygote yet (made {} so far)", state.made),
    }
}

/// The pid of this process's zygote, if it has one now.
#[must_use]
pub fn pid() -> Option<u32> {
    let mut state = STATE.lock();
    state.forget_inherited();
    state.zygote.as_ref().map(|zygote| zygote.pid)
}

/// Ends this process's zygote, if it has one, and waits for it. The next start makes another.
///
/// The zygote ends by itself when this process ends. This is for a program that must have no child at some moment: a
/// check for leaks, or after heavy use. Processes that are running are not affected.
///
/// # Errors
///
/// Foreign code took the zygote's exit status.
pub fn shutdown() -> io::Result<()> {
    let mut state = STATE.lock();
    state.forget_inherited();
    match state.zygote.take() {
        Some(zygote) => zygote.end().map(drop),
        None => Ok(()),
    }
}

/// Starts a process. `None` if there can be no zygote on this system.
pub(crate) fn start(request: &Request<'_>) -> io::Result<Option<Child>> {
    let mut state = STATE.lock();
    state.forget_inherited();
    let mut deaths = Vec::new();
    while deaths.len() < ATTEMPTS as usize {
        let zygote = match state.zygote() {
            Ok(Some(zygote)) => zygote,
            Ok(None) => return Ok(None),
            Err(Trouble::Request(error)) => return Err(error),
            Err(Trouble::Zygote(how)) => {
                deaths.push(how);
                continue;
            }
        };
        // Before anything is made: a request that cannot be told from the next one must not be left in the slot.
        zygote.slot.clear();
        let (lifeline, end) = Lifeline::new().during("cannot make a socket pair")?;
        match zygote.request(request, end) {
            Ok(started) => return Ok(Some(Child::new(started.0, started.1, lifeline))),
            Err(Trouble::Request(error)) => return Err(error),
            Err(Trouble::Zygote(how)) => {
                let zygote = state.zygote.take();
                let Some(zygote) = zygote else { continue };
                let slot = zygote.end_and_keep_slot()?;
                // From here on the word does not change any more.
                if let Some(pid) = slot.pid() {
                    let pidfd = Pidfd::open(pid).during("cannot open a pidfd of a new process");
                    return match pidfd {
                        Ok(pidfd) => Ok(Some(Child::new(pid, pidfd, lifeline))),
                        Err(error) => {
                            abandon(pid, lifeline);
                            Err(error)
                        }
                    };
                }
                deaths.push(how);
            }
        }
    }
    Err(io::Error::other(format!(
        "{ATTEMPTS} zygotes died over the start of one process, the last one because it {}",
        deaths.pop().unwrap_or_default()
    )))
}

impl State {
    /// Lets go of a zygote that belongs to the process this one was forked from.
    fn forget_inherited(&mut self) {
        if self
            .zygote
            .as_ref()
            .is_some_and(|zygote| zygote.creator != std::process::id())
        {
            self.zygote = None;
            self.made = 0;
        }
    }

    /// The zygote, made now if there is none; `None` if there cannot be one.
    fn zygote(&mut self) -> Result<Option<&mut Zygote>, Trouble> {
        if self.unavailable.is_some() {
            return Ok(None);
        }
        let user = (
            getresuid().map_err(io::Error::from)?,
            getresgid().map_err(io::Error::from)?,
        );
        // Clones of a zygote that was made as root would be root's.
        if let Some(zygote) = self.zygote.take_if(|zygote| zygote.user != user) {
            zygote.end()?;
        }
        if self.zygote.is_none() {
            match Zygote::make(&self.preloads, user) {
                Ok(zygote) => {
                    self.made += 1;
                    self.zygote = Some(zygote);
                }
                Err(Trouble::Request(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    self.unavailable = Some(error.to_string());
                    return Ok(None);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(self.zygote.as_mut())
    }
}

impl Zygote {
    fn make(preloads: &[u64], user: (ResUid, ResGid)) -> Result<Self, Trouble> {
        let (control, theirs) = PrivateFd::pair().during("cannot make a socket pair")?;
        let (slot, memfd) = Slot::new().during("cannot make shared memory for the zygote")?;
        let copy = spawn::execute(Role::Zygote, &control, theirs, preloads, Some(&memfd))?;
        let mut zygote = Self {
            creator: std::process::id(),
            user,
            pid: copy.pid,
            pidfd: copy.pidfd,
            control,
            slot,
            environment: None,
            directory: None,
            buffer: packet::buffer(),
        };
        if !preloads.is_empty() {
            // A model may take its time to load: only a death ends this.
            let error = match answer(&zygote.control, &zygote.pidfd, &mut zygote.buffer, None) {
                Ok(packet) if packet.kind == Kind::Done => return Ok(zygote),
                Ok(packet) => error_of(packet, &zygote.buffer),
                Err(Absent::End) => {
                    return Err(NotReady::ended(&zygote.end()?, "in a preload function").into());
                }
                Err(absent) => absent.into(),
            };
            zygote.end()?;
            return Err(error.into());
        }
        Ok(zygote)
    }

    /// Has the zygote carry out a request. `end` is the child's end of its lifeline.
    fn request(&mut self, request: &Request<'_>, end: OwnedFd) -> Result<(u32, Pidfd), Trouble> {
        self.synchronise()?;
        match request.send(self.control.as_fd(), end.as_fd()) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => {
                return Err(self.trouble());
            }
            Err(error) => {
                return Err(error)
                    .during("cannot send the zygote a request")
                    .map_err(Trouble::Request);
            }
        }
        // Also makes room for the pidfd that comes back.
        drop(end);
        let mut packet = match self.answer() {
            Ok(packet) => packet,
            Err(Absent::NoRoom) => {
                // The process runs, but this one has no room for its pidfd.
                return Err(Trouble::Zygote("could not hand over a pidfd (RLIMIT_NOFILE)".into()));
            }
            Err(_) => return Err(self.trouble()),
        };
        if packet.kind != Kind::Done {
            return Err(Trouble::Request(error_of(packet, &self.buffer)));
        }
        let pidfd = packet.descriptors.pop();
        let mut long = Vec::new();
        let pid = Reader::new(packet.body(&self.buffer, &mut long)?).u32()?;
        match pidfd {
            Some(pidfd) => Ok((pid, Pidfd::from(pidfd))),
            None => Err(Trouble::Zygote("answered without a pidfd".into())),
        }
    }

    /// Waits for an answer: awake for about as long as a clone takes, since to be woken takes as long again, then asleep.
    fn answer(&mut self) -> Result<Packet, Absent> {
        let since = Instant::now();
        while since.elapsed() < AWAKE {
            match Packet::receive(self.control.as_fd(), &mut self.buffer, false) {
                Err(Absent::NotYet) => thread::yield_now(),
                received => return received,
            }
        }
        answer(&self.control, &self.pidfd, &mut self.buffer, Some(PATIENCE))
    }

    /// Gives the zygote this process's environment and current directory if it has others.
    fn synchronise(&mut self) -> Result<(), Trouble> {
        let directory = env::current_dir().ok();
        let environment: Vec<_> = env::vars_os().collect();
        let new_environment = self.environment.as_ref() != Some(&environment);
        // A directory that was deleted has no path: then it is passed as a descriptor, each time.
        let new_directory = directory.is_none() || directory != self.directory;
        if !new_environment && !new_directory {
            return Ok(());
        }
        let mut body = Writer::new();
        let mut descriptor = None;
        body.option(directory.as_ref().filter(|_| new_directory), |body, path| {
            body.bytes(path.as_os_str().as_bytes());
        });
        if directory.is_none() {
            let opened = open(
                ".",
                OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
                Mode::empty(),
            );
            descriptor = Some(opened.during("cannot open the current directory")?);
        }
        body.option(new_environment.then_some(()), |body, ()| {
            environment::encode(&environment, body);
        });
        let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
        match packet::send(self.control.as_fd(), Kind::Adopt, &body, &[], &descriptors) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => {
                return Err(self.trouble());
            }
            Err(error) => {
                return Err(error)
                    .during("cannot send the zygote the environment")
                    .map_err(Trouble::Request);
            }
        }
        match self.answer() {
            Ok(packet) if packet.kind == Kind::Done => {}
            Ok(packet) => return Err(Trouble::Request(error_of(packet, &self.buffer))),
            Err(_) => return Err(self.trouble()),
        }
        self.environment = Some(environment);
        self.directory = directory;
        Ok(())
    }

    fn trouble(&self) -> Trouble {
        // The end of the connection comes a moment before the end of the process.
        let deadline = Instant::now().checked_add(Duration::from_secs(1));
        match self.pidfd.wait_exit(deadline) {
            Ok(true) => Trouble::Zygote("died".into()),
            _ => Trouble::Zygote("did not answer".into()),
        }
    }

    /// Ends the zygote and reaps it. One that works leaves as soon as the connection ends; one that is stopped or stuck
    /// is killed, which is all the same to it.
    fn end(self) -> io::Result<ExitStatus> {
        let Self { pidfd, control, .. } = self;
        drop(control);
        end(&pidfd)
    }

    fn end_and_keep_slot(self) -> io::Result<Slot> {
        let Self {
            pidfd, control, slot, ..
        } = self;
        drop(control);
        end(&pidfd)?;
        Ok(slot)
    }
}

fn end(pidfd: &Pidfd) -> io::Result<ExitStatus> {
    let deadline = Instant::now().checked_add(Duration::from_secs(1));
    if !pidfd.wait_exit(deadline)? {
        pidfd.signal(libc::SIGKILL)?;
    }
    pidfd.reap_blocking().map_err(|error| match error.raw_os_error() {
        Some(libc::ECHILD) => io::Error::other(
            "the exit status of the zygote was taken by other code: something calls waitpid(-1) or ignores SIGCHLD",
        ),
        _ => error,
    })
}

/// Reaps a child for which there is no pidfd. The lifeline's end kills it; it is this process's own child and was not
/// waited for, so that the pid is still its.
fn abandon(pid: u32, lifeline: Lifeline) {
    drop(lifeline);
    if let Ok(pid) = i32::try_from(pid) {
        let pid = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        while nix::sys::wait::waitpid(pid, None) == Err(nix::errno::Errno::EINTR) {}
    }
}

impl fmt::Debug for Zygote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Zygote")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}
