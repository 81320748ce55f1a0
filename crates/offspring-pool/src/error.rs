use std::{error, fmt, io};

use offspring_process::{ExitStatus, Panic};
use offspring_queue::{DecodeError, EncodeError};

/// What a call of this crate gives.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a process, a pool or one of its tasks failed.
///
/// The kind is asked for with predicates ([`is_panic`](Self::is_panic), [`is_worker_death`](Self::is_worker_death),
/// ...), the details with [`panic`](Self::panic), [`exit_status`](Self::exit_status), [`pid`](Self::pid) and
/// [`item`](Self::item).
pub struct Error(Box<Kind>);

pub(crate) enum Kind {
    /// A call of the operating system failed.
    Os { doing: String, source: io::Error },
    /// What the caller asked for makes no sense.
    Invalid(String),
    /// The function panicked.
    Panic { panic: Panic, item: Option<usize> },
    /// The process that ran the function ended without a result.
    Died {
        pid: u32,
        status: ExitStatus,
        item: Option<usize>,
    },
    /// An argument could not be written into shared memory.
    Encode(EncodeError),
    /// The worker could not rebuild its argument, or not write its result into shared memory.
    Transfer {
        reason: String,
        out_of_memory: bool,
        item: Option<usize>,
    },
    /// An argument or a result could not be read back.
    Decode(DecodeError),
    /// The pool is closed or terminated.
    Closed(&'static str),
    /// The pool cannot keep its workers alive.
    Broken(String),
}

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Self(Box::new(kind))
    }

    pub(crate) fn os(doing: impl Into<String>, source: io::Error) -> Self {
        Self::new(Kind::Os {
            doing: doing.into(),
            source,
        })
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::new(Kind::Invalid(what.into()))
    }

    /// What it means for a task that its process ended before it was done.
    pub(crate) fn ended(pid: u32, status: ExitStatus, item: Option<usize>) -> Self {
        Self::new(match status {
            ExitStatus::Panic(panic) => Kind::Panic { panic, item },
            status => Kind::Died { pid, status, item },
        })
    }

    /// What it means for a task that the arena had no room for its result.
    pub(crate) fn no_room(item: Option<usize>) -> Self {
        let reason = "the arena has no room for it".into();
        Self::new(Kind::Transfer {
            reason,
            out_of_memory: true,
            item,
        })
    }

    /// True if the function panicked; [`panic`](Self::panic) has the message.
    pub fn is_panic(&self) -> bool {
        matches!(*self.0, Kind::Panic { .. })
    }

    /// True if the process that ran the function ended before it had a result: killed, aborted, or by calling `exit`.
    pub fn is_worker_death(&self) -> bool {
        matches!(*self.0, Kind::Died { .. })
    }

    /// True if the pool takes no calls any more.
    pub fn is_closed(&self) -> bool {
        matches!(*self.0, Kind::Closed(_))
    }

    /// True if the pool gave up: its workers die before they do anything.
    pub fn is_broken(&self) -> bool {
        matches!(*self.0, Kind::Broken(_))
    }

    /// True if memory ran out: the arena's, or the system's.
    pub fn is_out_of_memory(&self) -> bool {
        match &*self.0 {
            Kind::Encode(EncodeError::OutOfMemory(_)) => true,
            Kind::Os { source, .. } => {
                source.kind() == io::ErrorKind::OutOfMemory || source.raw_os_error() == Some(libc::ENOMEM)
            }
            Kind::Transfer { out_of_memory, .. } => *out_of_memory,
            _ => false,
        }
    }

    /// The panic of the function, if that is what happened.
    pub fn panic(&self) -> Option<&Panic> {
        match &*self.0 {
            Kind::Panic { panic, .. } => Some(panic),
            _ => None,
        }
    }

    /// How the process ended, if its end is what happened.
    pub fn exit_status(&self) -> Option<&ExitStatus> {
        match &*self.0 {
            Kind::Died { status, .. } => Some(status),
            _ => None,
        }
    }

    /// The process that died, if that is what happened.
    pub fn pid(&self) -> Option<u32> {
        match *self.0 {
            Kind::Died { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// The index of the item of a `map` whose task failed.
    pub fn item(&self) -> Option<usize> {
        match *self.0 {
            Kind::Panic { item, .. } | Kind::Died { item, .. } | Kind::Transfer { item, .. } => item,
            _ => None,
        }
    }
}

/// " (item 3)", or nothing.
struct Item(Option<usize>);

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |item| write!(f, " (item {item})"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Os { doing, source } => write!(f, "{doing}: {source}"),
            Kind::Invalid(what) | Kind::Broken(what) => f.write_str(what),
            Kind::Panic { panic, item } => write!(f, "the task{} {panic}", Item(*item)),
            Kind::Died { pid, status, item } => {
                write!(f, "process {pid} {status} before its task{} was done", Item(*item))
            }
            Kind::Encode(source) => write!(f, "the arguments cannot be sent: {source}"),
            Kind::Transfer { reason, item, .. } => {
                write!(
                    f,
                    "the task{} did not get its argument, or its result was lost: {reason}",
                    Item(*item)
                )
            }
            Kind::Decode(source) => write!(f, "{source}"),
            Kind::Closed(what) => f.write_str(what),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `main` prints an error with `Debug`: the words are what its reader needs.
        write!(f, "Error({self})")?;
        match self.panic() {
            Some(panic) if !panic.backtrace().is_empty() => write!(f, "\n{}", panic.backtrace()),
            _ => Ok(()),
        }
    }
}

impl error::Error for Error {}

impl From<EncodeError> for Error {
    fn from(source: EncodeError) -> Self {
        Self::new(Kind::Encode(source))
    }
}

impl From<DecodeError> for Error {
    fn from(source: DecodeError) -> Self {
        Self::new(Kind::Decode(source))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}
