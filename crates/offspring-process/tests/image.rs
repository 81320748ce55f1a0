//! The program's image: what belongs to it and what does not, and its constructors.
//
// UNSAFETY: addresses of shared libraries are looked up and read as if they were the program's, and the test program has
// constructors, as C++ code or registries of plug-ins have.
#![expect(unsafe_code, reason = "dlopen, dlsym, functions in .init_array")]

use std::sync::atomic::{AtomicU32, Ordering};

use offspring_process::image;
#[cfg(feature = "start-hook")]
use offspring_process::{Arguments, EntryPoint, ExitStatus, Launcher, StartMethod};

static NUMBER: u64 = 42;
static WRITABLE: AtomicU32 = AtomicU32::new(0);

#[test]
fn statics_of_the_program_have_offsets() {
    let offset = image::offset_of(&NUMBER).unwrap();
    let place = image::at::<u64>(offset).unwrap();
    // SAFETY: the offset was made from a static of this type in this process.
    assert_eq!(unsafe { *place.as_ref() }, 42);
    let offset = image::offset_of(&WRITABLE).unwrap();
    assert_eq!(
        image::at::<u32>(offset).unwrap().as_ptr().addr(),
        (&raw const WRITABLE).addr()
    );
}

#[test]
fn what_is_elsewhere_has_none() {
    let refused = |error: std::io::Error| {
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("not part of the main program"), "{error}");
    };
    refused(image::offset_of::<[u8; 3]>(Box::leak(Box::new([1, 2, 3]))).unwrap_err());
    let on_the_stack = 5_u32;
    // SAFETY: the reference is not used after this function.
    refused(image::offset_of(unsafe { std::ptr::from_ref(&on_the_stack).as_ref() }.unwrap()).unwrap_err());
    // A library that is loaded while the program runs, like a plug-in, and one that it was linked to.
    for (library, symbol) in [(c"libm.so.6", c"signgam"), (c"libc.so.6", c"environ")] {
        // SAFETY: loading libraries of the system by name; the symbol is at least as large as an int.
        let reference: &'static u32 = unsafe {
            let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW);
            assert!(!handle.is_null());
            let address = libc::dlsym(handle, symbol.as_ptr());
            assert!(!address.is_null());
            &*address.cast()
        };
        refused(image::offset_of(reference).unwrap_err());
    }
}

#[test]
fn offsets_are_checked() {
    let offset = image::offset_of(&NUMBER).unwrap();
    assert!(image::at::<u64>(offset + 1).is_err(), "not aligned");
    assert!(image::at::<[u8; 1 << 30]>(offset).is_err(), "too large");
    for offset in [u64::MAX, u64::MAX / 2, 1 << 47, 1 << 33] {
        let error = image::at::<u8>(offset).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    }
}

static EARLY: AtomicU32 = AtomicU32::new(0);
static LATE: AtomicU32 = AtomicU32::new(0);

extern "C" fn early() {
    EARLY.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn late() {
    LATE.fetch_add(1, Ordering::Relaxed);
}

#[used]
#[unsafe(link_section = ".init_array.00200")]
static EARLY_CONSTRUCTOR: extern "C" fn() = early;

// Whether this comes before or after the start hook is up to the linker: it must not matter.
#[used]
#[unsafe(link_section = ".init_array")]
static LATE_CONSTRUCTOR: extern "C" fn() = late;

#[cfg(feature = "start-hook")]
static CONSTRUCTED: EntryPoint = EntryPoint::new("constructed", |_: Arguments| {
    (EARLY.load(Ordering::Relaxed) * 10 + LATE.load(Ordering::Relaxed)) as i32
});

#[test]
#[cfg(feature = "start-hook")]
fn constructors_have_run_once() {
    for method in [StartMethod::Zygote, StartMethod::Spawn] {
        let child = Launcher::new().method(method).start(&CONSTRUCTED, &[], &[]).unwrap();
        assert_eq!(child.wait().unwrap(), ExitStatus::Code(11), "{method:?}");
    }
}
