//! The few system calls that a new process makes before it runs, all through `syscall(2)`.
//!
//! In a fresh clone every page of code that is touched for the first time is a page fault, and the kernel maps its
//! neighbours with it and unmaps them at the exit, for some 5 us in all. The C library's wrappers lie scattered over a
//! dozen such neighbourhoods; this way there is one. For the same reason these functions are inlined where they are used.
//!
// UNSAFETY: system calls by number.
#![expect(unsafe_code, reason = "syscall")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;

fn check(result: libc::c_long) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as libc::c_int)
    }
}

#[inline(always)]
pub(crate) fn process_id() -> libc::pid_t {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_getpid) as libc::pid_t }
}

/// A command of fcntl(2) whose argument is a number.
#[inline(always)]
pub(crate) fn fcntl(fd: RawFd, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: no pointers; a number that is not open is an error.
    check(unsafe { libc::syscall(libc::SYS_fcntl, fd, command, argument) })
}

/// Whether the other end of a socket is closed.
#[inline(always)]
pub(crate) fn has_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one entry and a time that live until the call returns, and no signal mask.
    let ready = unsafe {
        libc::syscall(
            libc::SYS_ppoll,
            &raw mut entry,
            1,
            &raw const now,
            ptr::null::<libc::sigset_t>(),
            0,
        )
    };
    ready > 0 && entry.revents & libc::POLLHUP != 0
}

/// Kills this process; returns only to be killed.
#[inline(always)]
pub(crate) fn kill_this_process() {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_kill, process_id(), libc::SIGKILL) };
}

/// Makes one of the standard streams a duplicate of `fd`, which is none of them.
#[inline(always)]
pub(crate) fn replace_stream(fd: BorrowedFd<'_>, stream: RawFd) -> io::Result<()> {
    // SAFETY: the standard streams are never closed but only replaced, so that nobody's descriptor becomes another's.
    check(unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), stream, 0) }).map(drop)
}

/// Ends this process at once.
#[cfg(feature = "start-hook")]
#[inline(always)]
pub(crate) fn exit(code: libc::c_int) -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { libc::syscall(libc::SYS_exit_group, code) };
    }
}

#[inline(always)]
pub(crate) fn close(fd: OwnedFd) {
    // SAFETY: the descriptor was this function's.
    unsafe { libc::syscall(libc::SYS_close, fd.into_raw_fd()) };
}

/// Names this thread, which names the process if it is the main thread. The kernel keeps 15 bytes.
#[inline(always)]
pub(crate) fn set_name(name: &[u8]) {
    let mut buffer = [0_u8; 16];
    for (to, from) in buffer[..15].iter_mut().zip(name.iter().filter(|&&byte| byte != 0)) {
        *to = *from;
    }
    // SAFETY: the kernel reads a C string, which the last byte ends.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, buffer.as_ptr()) };
}

/// Lets all signals through.
#[inline(always)]
pub(crate) fn empty_signal_mask() {
    let empty = 0_u64;
    let none = ptr::null_mut::<u64>();
    // SAFETY: the kernel's signal set is 64 bits on these architectures; it is read and nothing is written.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            none,
            size_of::<u64>(),
        )
    };
}
