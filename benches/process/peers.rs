// UNSAFETY: the peers are the C library's own calls.
#![expect(unsafe_code, reason = "fork, waitpid and posix_spawn")]
//! What the C library and procspawn need for a child.

use std::io::Error;
use std::ptr::{null, null_mut};

/// The least a fork can cost: the child ends at once.
pub(crate) fn fork_wait() -> Result<(), String> {
    // SAFETY: a measuring process has one thread, and the child only exits.
    match unsafe { libc::fork() } {
        -1 => Err(format!("fork: {}", Error::last_os_error())),
        // SAFETY: _exit ends the child without running the parent's exit handlers.
        0 => unsafe { libc::_exit(7) },
        pid => wait_for(pid, 7),
    }
}

/// Another program without a copy of this one's memory: `true`, from the path.
pub(crate) fn posix_spawn() -> Result<(), String> {
    let mut pid = 0;
    let arguments = [c"true".as_ptr().cast_mut(), null_mut()];
    let environment = [null_mut()];
    // SAFETY: the strings end in zero, the lists in a null pointer, and `pid` is valid for the length of the call.
    let result = unsafe {
        libc::posix_spawnp(
            &mut pid,
            c"true".as_ptr(),
            null(),
            null(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    if result == 0 {
        wait_for(pid, 0)
    } else {
        Err(format!("posix_spawnp: {}", Error::from_raw_os_error(result)))
    }
}

/// A function in a fresh copy of this program, its result carried home.
pub(crate) fn procspawn() -> Result<(), String> {
    let result = procspawn::spawn(6_u64, |number| number + 1)
        .join()
        .map_err(|error| error.to_string())?;
    if result == 7 {
        Ok(())
    } else {
        Err(format!("the child returned {result}, not 7"))
    }
}

fn wait_for(pid: libc::pid_t, code: i32) -> Result<(), String> {
    let mut status = 0;
    // SAFETY: `status` is valid for the length of the call.
    let reaped = unsafe { libc::waitpid(pid, &mut status, 0) };
    if reaped == pid && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == code {
        Ok(())
    } else {
        Err(format!("waitpid returned {reaped} and the status {status:#x}"))
    }
}
