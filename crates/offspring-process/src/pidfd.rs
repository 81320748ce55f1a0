//! A process that cannot be mistaken for another one, see pidfd_open(2).
//!
// UNSAFETY: pidfd_open, pidfd_send_signal and waitid with P_PIDFD, for which nix has no complete wrappers.
#![expect(unsafe_code, reason = "pidfd system calls")]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

use nix::poll::PollFlags;

use crate::{ExitStatus, poll};

/// A descriptor that stands for one process, and still for that one when its pid has been given to another.
///
/// It is readable when the process has ended, so it fits into any poll(2), epoll or async runtime.
///
/// # Examples
///
/// ```
/// use offspring_process::Pidfd;
///
/// let me = Pidfd::open(std::process::id())?;
/// assert!(!me.has_exited()?);
/// me.signal(0)?; // signal 0 only checks
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens the process that has this pid now. That it is the one that is meant is only certain for a child that was
    /// not waited for.
    ///
    /// # Errors
    ///
    /// There is no such process, or no descriptor is left.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
        // SAFETY: no pointers; a successful result is a new descriptor that nobody else owns.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            if fd < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(Self(OwnedFd::from_raw_fd(fd as i32)))
            }
        }
    }

    /// Sends a signal. To a process that has ended it is a no-op.
    ///
    /// # Errors
    ///
    /// There is no such signal (`EINVAL`), or this process may not send it (`EPERM`).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: the null pointer asks for the siginfo that kill(2) would send.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) {
            Ok(())
        } else {
            Err(error)
        }
    }

    /// Whether the process has ended, whether or not it was waited for.
    ///
    /// # Errors
    ///
    /// Those of ppoll(2).
    pub fn has_exited(&self) -> io::Result<bool> {
        self.wait_exit(Some(Instant::now()))
    }

    /// Waits until the process has ended or the deadline has passed; `None` waits for ever. The exit status stays
    /// where it is. Returns whether the process has ended.
    ///
    /// # Errors
    ///
    /// Those of ppoll(2).
    pub fn wait_exit(&self, deadline: Option<Instant>) -> io::Result<bool> {
        Ok(poll::wait(&[(self.as_fd(), PollFlags::POLLIN)], deadline)?[0])
    }

    /// Takes the exit status of a child that has ended; `None` while it runs. A code of 101 is a plain code here.
    pub(crate) fn reap(&self) -> io::Result<Option<ExitStatus>> {
        self.waitid(libc::WEXITED | libc::WNOHANG)
    }

    /// Takes the exit status of a child as soon as it has ended.
    pub(crate) fn reap_blocking(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.waitid(libc::WEXITED)? {
                return Ok(status);
            }
        }
    }

    /// Whether a child is stopped by a signal now.
    pub(crate) fn is_stopped(&self) -> bool {
        self.waitid(libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT)
            .is_ok_and(|status| status.is_some())
    }

    fn waitid(&self, flags: i32) -> io::Result<Option<ExitStatus>> {
        loop {
            // SAFETY: siginfo_t is plain data; the kernel fills it in. The accessors read fields that waitid sets.
            unsafe {
                let mut info: libc::siginfo_t = mem::zeroed();
                if libc::waitid(libc::P_PIDFD, self.0.as_raw_fd() as libc::id_t, &raw mut info, flags) == 0 {
                    if info.si_pid() == 0 {
                        return Ok(None);
                    }
                    let status = info.si_status();
                    return Ok(Some(match info.si_code {
                        libc::CLD_EXITED => ExitStatus::Code(status),
                        code => ExitStatus::from_signal(status, code == libc::CLD_DUMPED),
                    }));
                }
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Pidfd {
    /// Takes a descriptor that came from pidfd_open(2) or clone3(2). With any other, every call is an error.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Pidfd> for OwnedFd {
    fn from(pidfd: Pidfd) -> Self {
        pidfd.0
    }
}
