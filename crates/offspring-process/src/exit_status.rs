//! How a process ended.

use std::fmt;

use nix::sys::signal::Signal;

use crate::Panic;

/// The exit code of a process whose function panicked, as that of a Rust program whose `main` does.
pub(crate) const PANIC_CODE: i32 = 101;

/// How a process ended.
///
/// # Examples
///
/// ```
/// use offspring_process::ExitStatus;
///
/// let status = ExitStatus::Signal { signal: 9, core_dumped: false };
/// assert_eq!(status.to_string(), "killed by SIGKILL");
/// assert!(!status.success());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this code: its function returned it, or something called exit(3).
    Code(i32),
    /// A signal killed it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether a core dump was written.
        core_dumped: bool,
    },
    /// Its function panicked.
    Panic(Panic),
}

impl ExitStatus {
    /// A death by a signal.
    #[must_use]
    pub const fn from_signal(signal: i32, core_dumped: bool) -> Self {
        Self::Signal { signal, core_dumped }
    }

    /// Whether it exited with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        *self == Self::Code(0)
    }

    /// The exit code, unless a signal killed the process. A panic is code 101.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(*code),
            Self::Panic(_) => Some(PANIC_CODE),
            Self::Signal { .. } => None,
        }
    }

    /// The signal that killed the process, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self {
            Self::Signal { signal, .. } => Some(*signal),
            _ => None,
        }
    }

    /// The panic that ended the process, if one did.
    #[must_use]
    pub fn panic(&self) -> Option<&Panic> {
        match self {
            Self::Panic(panic) => Some(panic),
            _ => None,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exited with code {code}"),
            Self::Signal { signal, core_dumped } => {
                match Signal::try_from(*signal) {
                    Ok(signal) => write!(formatter, "killed by {signal}")?,
                    Err(_) => write!(formatter, "killed by signal {signal}")?,
                }
                if *core_dumped {
                    formatter.write_str(" (core dumped)")
                } else {
                    Ok(())
                }
            }
            Self::Panic(panic) => panic.fmt(formatter),
        }
    }
}
