//! The life token: one robust, process-shared pthread mutex that a thread locks once and holds for as long as it lives.
//!
//! The kernel walks a thread's list of robust mutexes after the thread's last instruction and marks each as `FUTEX_OWNER_DIED`
//! (`robust-futexes.rst`). Going through libc's own mutex uses that service by its documented interface, where entries of our own
//! in libc's list would mimic its private layout. One token per thread is enough: every other word names its owner by tag.
//!
//! The futex word's place inside `pthread_mutex_t` is libc's business too. It is learnt once per process from the kernel's
//! interface: lock a scratch mutex, and `get_robust_list(2)` says where the word of the list's first entry is.

// UNSAFETY: pthread mutexes in shared memory and get_robust_list(2) are only to be had through libc.
#![expect(unsafe_code, reason = "robust pthread mutexes in shared memory")]

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use crate::primitive::{AtomicU32, Ordering};

/// Set by the kernel when the holder is gone.
pub(crate) const OWNER_DIED: u32 = 0x4000_0000;
/// Must be set, or the kernel marks the word but wakes nobody.
const WAITERS: u32 = 0x8000_0000;
/// The holder's thread id, 0 when nobody holds the token.
const TID_MASK: u32 = 0x3fff_ffff;

/// The room kept for libc's mutex: 40 bytes with glibc on x86-64, 48 on arm64.
const ROOM: usize = 64;
const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= ROOM);
const _: () = assert!(align_of::<libc::pthread_mutex_t>() <= ROOM);

/// A thread's sign of life, in shared memory.
#[repr(C, align(64))]
pub(crate) struct Token {
    mutex: UnsafeCell<MaybeUninit<[u64; ROOM / 8]>>,
}

// SAFETY: the bytes are a process-shared mutex, which libc accesses atomically, and a futex word, which we do.
unsafe impl Sync for Token {}

/// How a token was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was free.
    Free,
    /// Its holder died with it; it must be made consistent.
    FromTheDead,
    /// Somebody else holds it.
    No,
}

impl Token {
    /// Makes the bytes behind `token` a free token.
    ///
    /// # Safety
    ///
    /// `token` is good for writing, nobody uses it meanwhile, and it is not in any thread's robust list.
    pub(crate) unsafe fn init(token: *mut Token) -> io::Result<()> {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: `attributes` is a place for one attribute object, initialised by the first call and destroyed by the last; the
        // caller vouches for `token`, whose room is large and aligned enough for a mutex.
        let status = unsafe {
            token.cast::<u8>().write_bytes(0, ROOM);
            let attributes = attributes.as_mut_ptr();
            libc::pthread_mutexattr_init(attributes);
            libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutexattr_settype(attributes, libc::PTHREAD_MUTEX_NORMAL);
            let status = libc::pthread_mutex_init(token.cast(), attributes);
            libc::pthread_mutexattr_destroy(attributes);
            status
        };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(status))
        }
    }

    fn mutex(&self) -> *mut libc::pthread_mutex_t {
        self.mutex.get().cast()
    }

    /// The futex word inside the mutex.
    #[inline]
    pub(crate) fn word(&self) -> &AtomicU32 {
        // The offset was checked against the room when it was learnt; before that no token exists.
        let offset = WORD_OFFSET.get().copied().unwrap_or(0);
        // SAFETY: inside the room, a whole number of words from its start, and only ever accessed atomically, by libc, the kernel
        // and us.
        unsafe { &*self.mutex.get().cast::<AtomicU32>().add(offset / size_of::<u32>()) }
    }

    /// Takes the token unless the word says that somebody alive holds it.
    ///
    /// The look comes first: libc compares thread ids, which two PID namespaces may share, so a mutex that somebody else holds
    /// must never be tried.
    pub(crate) fn take(&self) -> Taken {
        if is_alive(self.word().load(Ordering::Acquire)) {
            return Taken::No;
        }
        // SAFETY: an initialised mutex in memory that the caller keeps mapped for as long as it holds the token.
        match unsafe { libc::pthread_mutex_trylock(self.mutex()) } {
            0 => Taken::Free,
            libc::EOWNERDEAD => Taken::FromTheDead,
            _ => Taken::No,
        }
    }

    /// Makes a token that came from the dead an ordinary one.
    pub(crate) fn make_consistent(&self) {
        // SAFETY: the caller holds the mutex, as EOWNERDEAD said.
        unsafe { libc::pthread_mutex_consistent(self.mutex()) };
    }

    /// Asks the kernel for a wake-up at the holder's death, and says what the word holds from now on.
    pub(crate) fn announce(&self) -> u32 {
        self.word().fetch_or(WAITERS, Ordering::AcqRel) | WAITERS
    }

    /// Gives the token back.
    pub(crate) fn release(&self) {
        // SAFETY: the caller is the thread that holds the mutex.
        unsafe { libc::pthread_mutex_unlock(self.mutex()) };
    }
}

/// Whether a life word says that its holder still runs.
#[inline]
pub(crate) const fn is_alive(word: u32) -> bool {
    word & OWNER_DIED == 0 && word & TID_MASK != 0
}

static WORD_OFFSET: OnceLock<usize> = OnceLock::new();

/// Learns where the futex word is; must have succeeded in a process before it looks at any token.
///
/// # Errors
///
/// The kernel or libc has no robust list (a raw clone without `set_robust_list`, some sandboxes).
pub(crate) fn learn_layout() -> io::Result<usize> {
    if let Some(offset) = WORD_OFFSET.get() {
        return Ok(*offset);
    }
    let scratch = Token {
        mutex: UnsafeCell::new(MaybeUninit::uninit()),
    };
    // SAFETY: a local that nobody else sees; it is unlocked again before it goes.
    unsafe { Token::init(scratch.mutex.get().cast())? };
    // SAFETY: the mutex was initialised just now.
    let status = unsafe { libc::pthread_mutex_lock(scratch.mutex()) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    let found = first_robust_word();
    scratch.release();
    let base = scratch.mutex.get().addr();
    match found? {
        Some(word) if (base..=base + ROOM - size_of::<u32>()).contains(&word) && (word - base).is_multiple_of(4) => {
            Ok(*WORD_OFFSET.get_or_init(|| word - base))
        }
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "libc does not put robust mutexes into the kernel's robust list: deaths cannot be noticed here",
        )),
    }
}

/// Whether the calling thread holds any robust mutex as far as its list says, or has no list at all.
///
/// True in a copy of a registered thread that was made by a raw clone: its list still leads through its parent's tokens, and
/// linking another mutex in would write into them.
pub(crate) fn robust_list_is_tainted() -> bool {
    !matches!(first_robust_word(), Ok(None))
}

/// `struct robust_list_head` of `linux/futex.h`.
#[repr(C)]
struct RobustListHead {
    next: usize,
    futex_offset: libc::c_long,
    pending: usize,
}

/// The address of the futex word of the first entry in this thread's robust list, `None` if the list is empty.
fn first_robust_word() -> io::Result<Option<usize>> {
    let mut head: *const RobustListHead = std::ptr::null();
    let mut len = 0_usize;
    // SAFETY: both places are good for writing; 0 names the calling thread.
    let answer = unsafe { libc::syscall(libc::SYS_get_robust_list, 0 as libc::c_int, &raw mut head, &raw mut len) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    if head.is_null() || len != size_of::<RobustListHead>() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this thread has no robust list: it was not started by libc, and its death would go unnoticed",
        ));
    }
    // SAFETY: the kernel returned the head that libc registered for this very thread; only this thread changes it.
    let (next, offset) = unsafe { ((*head).next & !1, (*head).futex_offset) };
    // The list is circular: an empty one leads back to its head.
    Ok(if next == head.addr() {
        None
    } else {
        Some(next.wrapping_add_signed(offset as isize))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_where_the_kernel_says() {
        learn_layout().unwrap();
        let token = Token {
            mutex: UnsafeCell::new(MaybeUninit::uninit()),
        };
        // SAFETY: a local that outlives its use.
        unsafe { Token::init(token.mutex.get().cast()).unwrap() };
        assert!(!is_alive(token.word().load(Ordering::Relaxed)));
        assert_eq!(token.take(), Taken::Free);
        // SAFETY: gettid has no arguments.
        let tid = unsafe { libc::gettid() } as u32;
        assert_eq!(token.word().load(Ordering::Relaxed) & TID_MASK, tid);
        assert_eq!(token.take(), Taken::No);
        token.release();
        assert!(!is_alive(token.word().load(Ordering::Relaxed)));
    }
}
