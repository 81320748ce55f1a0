// UNSAFETY: the futex system call has no safe interface in the standard library.
#![expect(unsafe_code, reason = "the futex system call")]
//! The bare futex: the limit of every lock, event and barrier that sleeps.

use std::ptr::null;
use std::sync::atomic::AtomicU32;

/// Sleeps while the word has this value; may return for no reason.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    let timeout: *const libc::timespec = null();
    // SAFETY: the word is valid for the length of the call, and a null timeout means none.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, timeout) };
}

/// Wakes up to so many sleepers.
pub fn futex_wake(word: &AtomicU32, sleepers: i32) {
    // SAFETY: the word is valid for the length of the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, sleepers) };
}
