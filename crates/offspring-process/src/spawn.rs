//! Executing this program once more, as a zygote or as a single process.

use std::env;
use std::ffi::{CStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::executable::Executable;
use crate::failure::{Failure, While};
use crate::lifeline::Lifeline;
use crate::packet::{self, Absent, Kind, Packet};
use crate::request::Request;
use crate::wire::{Reader, Writer};
use crate::{ExitStatus, Pidfd, hook, image, socket};

/// How long a copy of this program may take until it says hello. What takes time is the loader.
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_secs(1);

/// What a copy of this program is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Zygote,
    Process,
}

impl Role {
    fn token(self) -> &'static str {
        match self {
            Self::Zygote => "zygote",
            Self::Process => "process",
        }
    }

    pub(crate) fn from_token(token: &CStr) -> Option<Self> {
        [Self::Zygote, Self::Process]
            .into_iter()
            .find(|role| role.token().as_bytes() == token.to_bytes())
    }
}

/// The first message to a copy.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The program is to have this fingerprint.
    fingerprint: u64,
    thorough: bool,
    /// Functions for the zygote to run, as offsets.
    pub(crate) preloads: Vec<u64>,
    /// The memory in which the zygote notes its clones.
    pub(crate) slot: Option<OwnedFd>,
}

impl Configuration {
    pub(crate) fn decode(mut packet: Packet, buffer: &[u8]) -> io::Result<Self> {
        let slot = packet.descriptors.pop();
        let mut long = Vec::new();
        let mut reader = Reader::new(packet.body(buffer, &mut long)?);
        let version = reader.text()?;
        if version != env!("CARGO_PKG_VERSION") {
            return Err(other_program());
        }
        Ok(Self {
            fingerprint: reader.u64()?,
            thorough: reader.flag()?,
            preloads: (0..reader.count(8)?).map(|_| reader.u64()).collect::<io::Result<_>>()?,
            slot,
        })
    }

    /// Whether this program is the one that the other process runs.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.fingerprint == image::fingerprint(self.thorough) {
            Ok(())
        } else {
            Err(other_program())
        }
    }
}

fn other_program() -> io::Error {
    io::Error::other("the executable was replaced by another program since this process was started")
}

/// A copy of this program that has said hello.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) pid: u32,
    pub(crate) pidfd: Pidfd,
}

/// Why there is no copy.
#[derive(Debug)]
pub(crate) struct NotReady {
    pub(crate) error: io::Error,
    /// Something killed it, from outside as it seems: another attempt is worth while.
    pub(crate) killed: bool,
}

impl From<io::Error> for NotReady {
    fn from(error: io::Error) -> Self {
        Self { error, killed: false }
    }
}

impl NotReady {
    /// A copy that ended while it should not have.
    pub(crate) fn ended(status: &ExitStatus, when: &str) -> Self {
        let error = match status {
            ExitStatus::Signal { .. } => io::Error::other(format!("it was {status} {when}")),
            _ => io::Error::other(format!("it {status} {when}")),
        };
        Self {
            error: Failure::new("a copy of this program did not become a process of the family", error).into(),
            killed: matches!(status.signal(), Some(libc::SIGKILL | libc::SIGTERM)),
        }
    }
}

/// Ends a copy that is of no use and tells how it ended.
pub(crate) fn dispose(pidfd: &Pidfd) -> io::Result<ExitStatus> {
    pidfd.signal(libc::SIGKILL)?;
    pidfd.reap_blocking()
}

/// Executes this program with `control` as its standard input, and configures it. `ours` is the other end.
pub(crate) fn execute(
    role: Role,
    ours: impl AsFd,
    control: OwnedFd,
    preloads: &[u64],
    slot: Option<&OwnedFd>,
) -> Result<Copy, NotReady> {
    socket::set_receive_timeout(ours.as_fd(), STEP)?;
    let mut executable = Executable::by_link();
    let child = loop {
        let mut command = Command::new(executable.path());
        let mut arguments = arguments();
        if !arguments.is_empty() {
            command.arg0(arguments.remove(0));
        }
        command
            .args(arguments)
            .env(hook::TOKEN.to_str().unwrap_or_default(), role.token());
        // Standard input is the one descriptor that an exec passes on without being told so in advance.
        command
            .stdin(Stdio::from(control.try_clone()?))
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit());
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !executable.needs_check() => {
                executable = Executable::by_path()?;
            }
            result => break result.during(format!("cannot execute {}", executable.path().display()))?,
        }
    };
    drop(control);
    let pid = child.id();
    let pidfd = Pidfd::open(pid)
        .during("cannot open a pidfd of a copy of this program")
        .inspect_err(|_| {
            let mut child = child;
            // The copy is this process's own child and was not waited for, so that the pid is still its.
            let _ = child.kill().and_then(|()| child.wait());
        })?;
    let mut configuration = Writer::new();
    configuration.bytes(env!("CARGO_PKG_VERSION").as_bytes());
    configuration.u64(image::fingerprint(executable.needs_check()));
    configuration.flag(executable.needs_check());
    configuration.length(preloads.len());
    preloads.iter().for_each(|&offset| configuration.u64(offset));
    let slot: Vec<_> = slot.iter().map(|slot| slot.as_fd()).collect();
    let sent = packet::send(ours.as_fd(), Kind::Configure, &configuration, &[], &slot);
    let mut buffer = packet::buffer();
    let answer = match sent {
        Ok(()) => answer(&ours, &pidfd, &mut buffer, Some(PATIENCE)),
        Err(_) => Err(Absent::End),
    };
    match answer {
        Ok(packet) if packet.kind == Kind::Done => Ok(Copy { pid, pidfd }),
        Err(Absent::End) => {
            // It closed its end, but may still be about to exit: its own status says more than our signal.
            pidfd.wait_exit(std::time::Instant::now().checked_add(STEP))?;
            Err(NotReady::ended(&dispose(&pidfd)?, "before it said hello"))
        }
        answer => {
            let error = answer.map_or_else(io::Error::from, |packet| error_of(packet, &buffer));
            dispose(&pidfd)?;
            let unsupported = error.kind() == io::ErrorKind::Unsupported;
            let failed = "a copy of this program did not become a process of the family";
            Err(if unsupported {
                error
            } else {
                Failure::new(failed, error).into()
            }
            .into())
        }
    }
}

/// Waits for a message on a socket with a receive timeout, as long as the process lives and for `patience`.
pub(crate) fn answer(
    socket: impl AsFd,
    pidfd: &Pidfd,
    buffer: &mut [u8],
    patience: Option<Duration>,
) -> Result<Packet, Absent> {
    let started = std::time::Instant::now();
    loop {
        // First whether it lives, then whether it has written: what it wrote before it died is not missed. Looked at only
        // when the first step has passed without an answer: an exchange that works costs nothing more than its two
        // calls. As a rule a death is noticed by the end of the connection; a process that inherited the socket hides
        // that.
        let late = started.elapsed() >= STEP;
        let exited = late && pidfd.has_exited().unwrap_or(false);
        match Packet::receive(socket.as_fd(), buffer, !exited) {
            Err(Absent::NotYet) if exited => return Err(Absent::End),
            Err(Absent::NotYet) if patience.is_some_and(|patience| started.elapsed() >= patience) => {
                return Err(Absent::NotYet);
            }
            // A user's Ctrl-Z stops this process as well, so that this is another stop.
            Err(Absent::NotYet) if late && patience.is_some() && pidfd.is_stopped() => return Err(Absent::NotYet),
            Err(Absent::NotYet) => {}
            result => return result,
        }
    }
}

/// The error that a packet of kind `Failed` carries.
pub(crate) fn error_of(mut packet: Packet, buffer: &[u8]) -> io::Error {
    let mut long = Vec::new();
    let kind = packet.kind;
    if kind != Kind::Failed && kind != Kind::Unsupported {
        return io::Error::new(io::ErrorKind::InvalidData, "an unexpected answer");
    }
    let decoded = packet
        .body(buffer, &mut long)
        .and_then(|body| Failure::decode(&mut Reader::new(body)));
    let error = decoded.unwrap_or_else(|error| error);
    if kind == Kind::Unsupported {
        io::Error::new(io::ErrorKind::Unsupported, error)
    } else {
        error
    }
}

/// This process's arguments. Before `main` the standard library has them with glibc only.
fn arguments() -> Vec<OsString> {
    let arguments: Vec<OsString> = env::args_os().collect();
    if !arguments.is_empty() {
        return arguments;
    }
    let block = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let block = block.strip_suffix(&[0]).unwrap_or(&block);
    block
        .split(|&byte| byte == 0)
        .map(|argument| OsString::from_vec(argument.to_vec()))
        .collect()
}

/// Starts a single process.
pub(crate) fn start(request: &Request<'_>) -> io::Result<crate::Child> {
    let (ours, control) = socket::pair().during("cannot make a socket pair")?;
    let (lifeline, end) = Lifeline::new().during("cannot make a socket pair")?;
    let copy = execute(Role::Process, &ours, control, &[], None).map_err(|not_ready| not_ready.error)?;
    // From here on dropping the child kills and reaps it.
    let child = crate::Child::new(copy.pid, copy.pidfd, lifeline);
    request
        .send(ours.as_fd(), end.as_fd())
        .during("cannot send a process its task")?;
    drop(end);
    // It lets go of the control socket when it has taken the request.
    let mut buffer = packet::buffer();
    match answer(&ours, &child.pidfd, &mut buffer, None) {
        Err(Absent::End) => Ok(child),
        Ok(packet) => Err(error_of(packet, &buffer)),
        Err(absent) => Err(absent.into()),
    }
}
