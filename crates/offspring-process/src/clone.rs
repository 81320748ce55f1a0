//! Children for the parent: clone3(2) with CLONE_PARENT, done so that the C library does not notice.
//!
//! A raw clone bypasses what fork(3) does for the C library. In a single-threaded process three things are missing: the
//! cached thread id (the kernel writes it, CLONE_CHILD_SETTID, at the address where the library registered it), the
//! notice that joining threads wait for (CLONE_CHILD_CLEARTID at the same address), and the list of robust mutexes (a
//! clone starts without; the copy registers the same head again).
//!
// UNSAFETY: clone3, clone and the system calls that restore what they drop.
#![expect(unsafe_code, reason = "clone3 and the thread's registrations with the kernel")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::AtomicU32;

use crate::Pidfd;

const FLAGS: libc::c_int =
    libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;

/// The argument of clone3(2), as of its first version.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// What this thread registered with the kernel, and where the kernel is to note the pid of each clone.
#[derive(Debug)]
pub(crate) struct Cloner {
    tid_address: u64,
    robust_list: *mut libc::c_void,
    robust_list_size: usize,
    slot: *const AtomicU32,
    /// Whether clone3 may be used; some sandboxes allow only the older clone(2).
    clone3: bool,
}

/// The two sides of a clone.
#[derive(Debug)]
pub(crate) enum Cloned {
    Child,
    Parent { pid: u32, pidfd: Pidfd },
}

impl Cloner {
    /// Looks up what is needed to clone this process. The kernel will write the pid of each clone to `slot` before it
    /// lets the clone run, so that whoever shares that memory knows of the clone even if this process is killed in the
    /// same instant.
    ///
    /// # Errors
    ///
    /// Why this system cannot do it.
    pub(crate) fn new(slot: &'static AtomicU32) -> io::Result<Self> {
        let unsupported = |why: &str| io::Error::new(io::ErrorKind::Unsupported, why.to_owned());
        let mut tid_address: *mut libc::c_int = ptr::null_mut();
        // SAFETY: the kernel writes one pointer to `tid_address`.
        if unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut tid_address, 0, 0, 0) } != 0 {
            return Err(unsupported(
                "the kernel has no PR_GET_TID_ADDRESS (CONFIG_CHECKPOINT_RESTORE)",
            ));
        }
        // Another C library may have registered an address that is not the one of its cached id (musl does).
        // SAFETY: the address was registered by the C library for an int of its own; null is not read.
        if tid_address.is_null() || unsafe { tid_address.read_volatile() != libc::gettid() } {
            return Err(unsupported(
                "the C library does not keep its thread id where the kernel could set it",
            ));
        }
        let mut robust_list = ptr::null_mut();
        let mut robust_list_size = 0_usize;
        // SAFETY: the kernel writes a pointer and a size.
        let result = unsafe {
            libc::syscall(
                libc::SYS_get_robust_list,
                0,
                &raw mut robust_list,
                &raw mut robust_list_size,
            )
        };
        if result != 0 {
            return Err(unsupported("get_robust_list is not available"));
        }
        // A size of 0 is invalid: a kernel that knows clone3 says so, a sandbox that forbids it says something else.
        // SAFETY: nothing is read through the null pointer.
        let clone3 = unsafe {
            libc::syscall(libc::SYS_clone3, ptr::null::<CloneArguments>(), 0) == -1
                && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
        };
        Ok(Self {
            tid_address: tid_address as u64,
            robust_list,
            robust_list_size,
            slot,
            clone3,
        })
    }

    /// Clones this process into a child of its parent.
    ///
    /// # Safety
    ///
    /// This process has one thread, so that no lock is held in the copy by a thread that does not exist there, and it
    /// is the process and the thread that made `self`.
    ///
    /// # Errors
    ///
    /// Those of clone(2): `EAGAIN` (too many processes), `ENOMEM`.
    pub(crate) unsafe fn clone(&self) -> io::Result<Cloned> {
        // SAFETY: the caller's promise is handed on.
        let (pid, pidfd) = unsafe {
            if self.clone3 {
                self.clone3()
            } else {
                self.clone_before_3()
            }
        };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                // SAFETY: the same head and size that this thread had registered before it was copied.
                unsafe { libc::syscall(libc::SYS_set_robust_list, self.robust_list, self.robust_list_size) };
                Ok(Cloned::Child)
            }
            pid => {
                let pid = pid as u32;
                let pidfd = match pidfd {
                    // SAFETY: the kernel opened this descriptor for this process, and nobody else knows it.
                    Some(fd) => Pidfd::from(unsafe { OwnedFd::from_raw_fd(fd) }),
                    None => Pidfd::open(pid)?,
                };
                Ok(Cloned::Parent { pid, pidfd })
            }
        }
    }

    unsafe fn clone3(&self) -> (libc::c_long, Option<i32>) {
        let mut pidfd: libc::c_int = -1;
        let arguments = CloneArguments {
            flags: (FLAGS | libc::CLONE_PIDFD) as u64,
            pidfd: (&raw mut pidfd) as u64,
            child_tid: self.tid_address,
            parent_tid: self.slot as u64,
            ..CloneArguments::default()
        };
        // SAFETY: without CLONE_VM and with no stack of its own the copy continues here like a fork; all addresses are
        // those of live variables.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
        (pid, Some(pidfd))
    }

    unsafe fn clone_before_3(&self) -> (libc::c_long, Option<i32>) {
        // SAFETY: as for clone3. The order of the last two arguments depends on the architecture.
        let pid = unsafe {
            #[cfg(target_arch = "x86_64")]
            let pid = libc::syscall(
                libc::SYS_clone,
                FLAGS as libc::c_long,
                0,
                self.slot,
                self.tid_address,
                0,
            );
            #[cfg(not(target_arch = "x86_64"))]
            let pid = libc::syscall(
                libc::SYS_clone,
                FLAGS as libc::c_long,
                0,
                self.slot,
                0,
                self.tid_address,
            );
            pid
        };
        (pid, None)
    }
}
