//! How the zygote's clones end sooner.
//!
//! exit(3) runs thread-local destructors and the handlers that were registered with it, then the destructors of all
//! loaded objects, then it flushes the C library's streams. The objects of a plain program have no destructors but those
//! that the compiler puts into each of them, which do nothing. In a clone, however, they and what calls them are on
//! twenty pages that nobody has touched before, which takes longer than all else that a trivial process does.
//!
//! So the zygote registers a handler before any other code of the program can: it is called last, flushes the streams
//! and ends the process. Whatever the program, its threads or a preload function registered has been run by then. Where
//! there could be more to do, the handler does nothing or is not registered, and exit(3) goes its usual way: see
//! [`shorten`] and [`finish`].
//!
// UNSAFETY: a handler of exit(3), and the loader's list of objects.
#![expect(unsafe_code, reason = "on_exit, and the loader's list of objects")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{mem, ptr};

use crate::{image, kernel};

/// Libraries without destructors of their own, which register no handlers either.
const PLAIN: [&[u8]; 8] = [
    b"linux-vdso.so.1",
    b"libc.so.6",
    b"libgcc_s.so.1",
    b"libm.so.6",
    b"libpthread.so.0",
    b"libdl.so.2",
    b"librt.so.1",
    b"libutil.so.1",
];

/// The constructors that a program has without any of its own: the compiler's, and the standard library's.
const CONSTRUCTORS: usize = 2;
/// Likewise.
const DESTRUCTORS: usize = 1;

/// An object in the loader's list, see `link.h`.
#[repr(C)]
struct Object {
    address: usize,
    name: *const c_char,
    dynamic: *const c_void,
    next: *const Object,
}

/// Where debuggers find the list, see `link.h`.
#[repr(C)]
struct Debug {
    version: c_int,
    objects: *const Object,
}

/// on_exit(3), which other C libraries do not have.
type OnExit = unsafe extern "C" fn(extern "C" fn(c_int, *mut c_void), *mut c_void) -> c_int;

/// The C library's word for a process that has, and had, one thread. Set once, before there are others; relaxed.
static SINGLE_THREADED: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Lets this process and its clones end sooner. The constructors `earlier` have been run, and no other code of the program.
///
/// It does nothing unless this is a plain program: no library but the GNU C library and the compiler's, no destructors,
/// and no constructor that may have registered a handler already.
pub(crate) fn shorten(earlier: &[usize]) {
    if earlier.len() > CONSTRUCTORS || image::destructors().len() > DESTRUCTORS {
        return;
    }
    let Some(last) = last_object() else { return };
    // SAFETY: the name is a C string.
    let symbol = |name: &CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    let (on_exit, single_threaded) = (symbol(c"on_exit"), symbol(c"__libc_single_threaded"));
    if on_exit.is_null() || single_threaded.is_null() {
        return;
    }
    SINGLE_THREADED.store(single_threaded.cast(), Ordering::Relaxed);
    // SAFETY: the C library's function of that name; the handler is a function of this image. If it cannot be
    // registered, nothing changes.
    unsafe {
        let on_exit = mem::transmute::<*mut c_void, OnExit>(on_exit);
        on_exit(finish, last.cast_mut().cast());
    }
}

/// The last object in the loader's list; `None` if one of them is none of the plain ones, or there is no list.
fn last_object() -> Option<*const Object> {
    let debug: *const Debug = ptr::with_exposed_provenance(image::debug()?);
    // SAFETY: the loader fills in the address of its list, which it keeps for as long as the process lives.
    let mut object = unsafe { (*debug).objects.as_ref() }?;
    // The first is the program itself.
    // SAFETY: the list ends with a null pointer, and there is no other thread that could load an object.
    while let Some(next) = unsafe { object.next.as_ref() } {
        // SAFETY: the loader's names are C strings.
        let name = unsafe { CStr::from_ptr(next.name) }.to_bytes();
        let name = name.rsplit(|&byte| byte == b'/').next()?;
        if !PLAIN.contains(&name) && !name.starts_with(b"ld-linux") {
            return None;
        }
        object = next;
    }
    Some(object)
}

/// What exit(3) calls after all other handlers.
///
/// With several threads it leaves the rest to exit(3), which does not wait for a stream that another thread has locked,
/// and likewise if an object has been loaded after `last`.
extern "C" fn finish(code: c_int, last: *mut c_void) {
    let single_threaded = SINGLE_THREADED.load(Ordering::Relaxed);
    // SAFETY: the C library's word, which lives as long as the process; it is a byte that is zero or not.
    if unsafe { single_threaded.read_volatile() } == 0 {
        return;
    }
    // SAFETY: an object that was loaded when the program began is never unloaded, new ones come after it, and there is
    // no other thread that could be loading one.
    if !unsafe { (*last.cast::<Object>()).next }.is_null() {
        return;
    }
    // SAFETY: no stream is locked by another thread, as there is none; the null pointer means all streams.
    unsafe { libc::fflush(ptr::null_mut()) };
    kernel::exit(code)
}
