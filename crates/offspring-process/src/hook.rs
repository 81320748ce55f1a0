//! How a copy of this program becomes a zygote or a child before its `main` runs.
//!
//! A copy that is to be one carries a token in its environment, and its standard input is the control socket: in this way
//! the socket is inherited without ever being open across an exec of other code. The hook stands in the image's
//! `.init_array`, which the loader runs before `main`. Without the token it costs one look at the environment.
//!
// UNSAFETY: a function in .init_array, and the descriptor table of a process that has only just begun.
#![expect(unsafe_code, reason = "code before main")]

#[cfg(feature = "start-hook")]
use std::ffi::c_char;
use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::packet::{self, Absent, Kind, Packet};
use crate::request::{become_process, encode_error};
use crate::spawn::{Configuration, Role};
use crate::wire::Writer;
#[cfg(feature = "start-hook")]
use crate::{ending, image};
use crate::{private, socket, zygote};

/// The name of the token. It contains the version: two incompatible versions of this crate in one program must not take
/// each other's.
pub(crate) const TOKEN: &CStr = match CStr::from_bytes_with_nul(
    concat!(
        "OFFSPRING_START_",
        env!("CARGO_PKG_VERSION_MAJOR"),
        "_",
        env!("CARGO_PKG_VERSION_MINOR"),
        "\0"
    )
    .as_bytes(),
) {
    Ok(token) => token,
    Err(_) => panic!("the token has one zero byte, at its end"),
};

/// The exit code of a copy that cannot become what it was meant to be (`EX_SOFTWARE`).
const REFUSED: c_int = 70;

/// Whether the token was looked for in this process. Set before `main`, or in `init`; publishes nothing, so relaxed.
static LOOKED: AtomicBool = AtomicBool::new(false);

#[cfg(feature = "start-hook")]
#[used]
#[unsafe(link_section = ".init_array")]
static HOOK: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = {
    extern "C" fn hook(_count: c_int, _arguments: *const *const c_char, _environment: *const *const c_char) {
        look(true);
    }
    hook
};

/// Turns this process into a zygote or a child if it was started as one; otherwise returns at once.
///
/// With the feature `start-hook`, which is on by default, this happens by itself before `main`, and there is no need to
/// call this function. Without it, a program calls it as the first thing in `main`: what stands before it runs again in
/// each zygote and each child that is started by [`StartMethod::Spawn`](crate::StartMethod::Spawn).
pub fn init() {
    look(false);
}

fn look(before_main: bool) {
    LOOKED.store(true, Ordering::Relaxed);
    // SAFETY: no pointers. A program that runs with the rights of another user takes no orders from its environment.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return;
    }
    // SAFETY: the name is a C string, and at the start of a process there is no thread that changes the environment.
    let value = unsafe { libc::getenv(TOKEN.as_ptr()) };
    if value.is_null() {
        return;
    }
    // SAFETY: getenv returned a C string of the environment block, which nothing changes before it is copied.
    let role = Role::from_token(unsafe { CStr::from_ptr(value) });
    // SAFETY: as above. Children of this process must not find the token.
    unsafe { libc::unsetenv(TOKEN.as_ptr()) };
    let result = role
        .ok_or_else(|| io::Error::other("its token is malformed"))
        .and_then(|role| enter(role, before_main));
    let Err(error) = result;
    eprintln!(
        "offspring: this copy of the program carries a token ({}) that tells it to serve another process, but {error}",
        TOKEN.to_string_lossy()
    );
    // SAFETY: no pointers. Nothing has run that would have to be cleaned up, and `main` must not run.
    unsafe { libc::_exit(REFUSED) }
}

/// Checks that a process may be started from here: only if the copies of this program will find out what they are.
pub(crate) fn require() -> io::Result<()> {
    #[cfg(feature = "start-hook")]
    // This reference makes every program that can start a process contain the hook: the linker takes the object that a
    // static is in only if something refers to it.
    // SAFETY: a reference to a static is valid.
    let _ = unsafe { std::ptr::read_volatile(&raw const HOOK) };
    // SAFETY: no pointers.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a program that runs with the rights of another user (set-user-ID, capabilities) cannot re-execute itself",
        ));
    }
    if !LOOKED.load(Ordering::Relaxed) {
        return Err(io::Error::other(
            "copies of this program would not know what they are: call `init()` as the first thing in `main`, or turn \
             on the feature `start-hook`",
        ));
    }
    Ok(())
}

/// Takes over the control socket and serves; returns only if that is impossible.
fn enter(role: Role, before_main: bool) -> io::Result<std::convert::Infallible> {
    // SAFETY: descriptor 0 belongs to nobody yet in a process that has only just begun; if it is closed, the check fails.
    if !socket::is_packet_socket(unsafe { BorrowedFd::borrow_raw(0) }) {
        return Err(io::Error::other(
            "its standard input is not the socket of such a process: unset that variable if you do not know it",
        ));
    }
    let control = take_control_socket()?;
    // SAFETY: ignoring a signal installs no handler. The standard library does this before `main`.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    #[cfg(feature = "start-hook")]
    if before_main {
        let (earlier, later) = other_constructors();
        if role == Role::Zygote {
            ending::shorten(earlier);
        }
        // The loader will not run them, as the hook does not return to it, and user code relies on them (statics of C++
        // code, registries of plug-ins).
        for &constructor in later {
            // SAFETY: an entry of .init_array after ours, which the loader would have called next in this way.
            unsafe { image::call_constructor(constructor) };
        }
    }
    #[cfg(not(feature = "start-hook"))]
    let _ = before_main;
    private::install_handlers();
    serve(role, control)
}

/// Leaves this process with the control socket, CLOEXEC, the standard streams, and no other descriptor. Standard input
/// is `/dev/null`, and so are the others if they were closed.
fn take_control_socket() -> io::Result<OwnedFd> {
    const CONTROL: c_int = 3;
    // SAFETY: the process has only just begun; what descriptors it has beyond the standard streams it inherited by
    // accident or from code that ran before it, and no owner of them exists in it.
    let control = unsafe {
        if libc::dup3(0, CONTROL, libc::O_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        close_from(CONTROL + 1);
        OwnedFd::from_raw_fd(CONTROL)
    };
    let null = null_device()?;
    nix::unistd::dup2_stdin(&null)?;
    for stream in 1..=2 {
        // SAFETY: a fcntl command without pointers, and a duplicate to a number that is closed.
        unsafe {
            if libc::fcntl(stream, libc::F_GETFD) < 0 {
                libc::dup2(null.as_raw_fd(), stream);
            }
        }
    }
    Ok(control)
}

/// `/dev/null`; where there is no /dev, something that is as empty: the end of a pipe that nobody writes to.
pub(crate) fn null_device() -> io::Result<OwnedFd> {
    match std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        Ok(file) => socket::above_streams(file.into()),
        Err(_) => {
            let (reader, _writer) = io::pipe()?;
            socket::above_streams(reader.into())
        }
    }
}

/// # Safety
///
/// Nobody in this process owns a descriptor from `first` on.
unsafe fn close_from(first: c_int) {
    // SAFETY: no pointers, and the caller vouches that no owner is left with a closed descriptor.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) == 0 {
            return;
        }
        // Before Linux 5.9.
        let mut limit = std::mem::zeroed::<libc::rlimit>();
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        for fd in first..c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX).min(1 << 20) {
            libc::close(fd);
        }
    }
}

/// The constructors of the image before the hook and those after it.
#[cfg(feature = "start-hook")]
fn other_constructors() -> (&'static [usize], &'static [usize]) {
    let constructors = image::constructors();
    match constructors
        .iter()
        .position(|&constructor| constructor == HOOK as usize)
    {
        Some(ours) => (&constructors[..ours], &constructors[ours + 1..]),
        None => (&[], &[]),
    }
}

fn serve(role: Role, control: OwnedFd) -> ! {
    let mut buffer = packet::buffer();
    let configuration = match receive(&control, &mut buffer, Kind::Configure) {
        Ok(packet) => Configuration::decode(packet, &buffer),
        // The other process is gone, or gave up.
        Err(_) => std::process::exit(0),
    };
    let refuse = |error: &io::Error| -> ! {
        // If the other process is gone there is nobody to tell.
        let _ = packet::send(control.as_fd(), Kind::Failed, &encode_error(error), &[], &[]);
        std::process::exit(REFUSED)
    };
    let configuration = match configuration.and_then(|configuration| configuration.check().map(|()| configuration)) {
        Ok(configuration) => configuration,
        Err(error) => refuse(&error),
    };
    match role {
        Role::Zygote => zygote::serve(control, configuration, buffer),
        Role::Process => {
            if packet::send(control.as_fd(), Kind::Done, &Writer::new(), &[], &[]).is_err() {
                std::process::exit(0);
            }
            match receive(&control, &mut buffer, Kind::Start) {
                Ok(mut packet) => {
                    drop(control);
                    become_process(&mut packet, &buffer)
                }
                Err(Absent::NoRoom) => refuse(&io::Error::from_raw_os_error(libc::EMFILE)),
                Err(_) => std::process::exit(0),
            }
        }
    }
}

fn receive(control: &OwnedFd, buffer: &mut [u8], kind: Kind) -> Result<Packet, Absent> {
    let packet = Packet::receive(control.as_fd(), buffer, true)?;
    if packet.kind == kind {
        Ok(packet)
    } else {
        Err(Absent::Error(io::ErrorKind::InvalidData.into()))
    }
}
