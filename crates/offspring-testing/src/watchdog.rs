// UNSAFETY: timers, signal handlers and their `siginfo_t` exist only as C interfaces.
#![expect(unsafe_code, reason = "timer_create, sigaction and the handler's siginfo_t")]
//! The end of a test that hangs.
//!
//! A POSIX timer (`timer_create(2)`) raises a signal whose handler writes one line and aborts. There is no thread, so a
//! single-threaded test stays single-threaded, and a forked child inherits no timer (`fork(2)`).

use std::ffi::c_void;
use std::io::Error;
use std::mem::zeroed;
use std::ptr::{from_ref, null_mut};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::test_name;

/// Disarms the timer when it is dropped; see [`watchdog`].
#[derive(Debug)]
#[must_use = "the watchdog sleeps again as soon as this is dropped"]
pub struct Watchdog {
    timer: libc::timer_t,
    alarm: &'static Alarm,
    maker: u32,
}

/// What the handler needs. It is never freed: a signal that was sent just before the timer was deleted may still arrive.
#[derive(Debug)]
struct Alarm {
    armed: AtomicBool,
    message: String,
}

/// Aborts the process, with a message that names the test, unless the returned value is dropped within `limit`.
///
/// # Panics
///
/// When the kernel refuses the timer.
///
/// ```
/// # use std::time::Duration;
/// let _watchdog = offspring_testing::watchdog(Duration::from_secs(60));
/// ```
pub fn watchdog(limit: Duration) -> Watchdog {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(install_handler);
    let alarm: &'static Alarm = Box::leak(Box::new(Alarm {
        armed: AtomicBool::new(true),
        message: format!(
            "\nwatchdog: the test {} still runs after {limit:?}; aborted\n",
            test_name()
        ),
    }));
    // SAFETY: all zeros are a valid `sigevent`: it holds numbers and a pointer that may be null.
    let mut event: libc::sigevent = unsafe { zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = signal();
    event.sigev_value.sival_ptr = from_ref(alarm).cast_mut().cast();
    let mut timer: libc::timer_t = null_mut();
    // SAFETY: `event` and `timer` are valid for the length of the call.
    let created = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) };
    assert_eq!(
        created,
        0,
        "cannot create the watchdog's timer: {}",
        Error::last_os_error()
    );
    let watchdog = Watchdog {
        timer,
        alarm,
        maker: std::process::id(),
    };
    let seconds = libc::time_t::try_from(limit.as_secs()).expect("a watchdog's limit is shorter than an age");
    let value = libc::timespec {
        tv_sec: seconds,
        tv_nsec: limit.subsec_nanos().into(),
    };
    let once = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: value,
    };
    // SAFETY: the timer was created above and lives in `watchdog`; `once` is valid for the length of the call.
    let set = unsafe { libc::timer_settime(timer, 0, &once, null_mut()) };
    assert_eq!(set, 0, "cannot set the watchdog's timer: {}", Error::last_os_error());
    watchdog
}

/// A real-time signal from the end of the range, where nothing else looks for one.
fn signal() -> i32 {
    libc::SIGRTMAX() - 2
}

fn install_handler() {
    // SAFETY: all zeros are a valid `sigaction`: no flags, an empty mask, the default handler.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = bark as extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: `action` names a handler of the type that SA_SIGINFO asks for, and the handler calls only functions that
    // signal-safety(7) lists.
    let set = unsafe { libc::sigaction(signal(), &action, null_mut()) };
    assert_eq!(
        set,
        0,
        "cannot install the watchdog's handler: {}",
        Error::last_os_error()
    );
}

extern "C" fn bark(_signal: i32, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t to a handler installed with SA_SIGINFO.
    let info = unsafe { &*info };
    if info.si_code != libc::SI_TIMER {
        return;
    }
    // SAFETY: a siginfo_t with the code SI_TIMER carries the `sigev_value` of the timer.
    let value = unsafe { info.si_value() };
    // SAFETY: the only timers that send this signal carry a pointer to an `Alarm`, which is never freed.
    let alarm = unsafe { &*value.sival_ptr.cast::<Alarm>() };
    if !alarm.armed.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: the message is valid memory of the given length; write(2) is safe in a handler.
    unsafe { libc::write(libc::STDERR_FILENO, alarm.message.as_ptr().cast(), alarm.message.len()) };
    // SAFETY: abort(3) is safe in a handler.
    unsafe { libc::abort() };
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Timers are not inherited: in a forked child the same number may be a timer of the child's own.
        if self.maker == std::process::id() {
            self.alarm.armed.store(false, Ordering::Relaxed);
            // SAFETY: the timer was created by this process and is deleted once.
            unsafe { libc::timer_delete(self.timer) };
        }
    }
}

// SAFETY: `timer_t` is a number that the C library types as a pointer; any thread may delete the timer.
unsafe impl Send for Watchdog {}
