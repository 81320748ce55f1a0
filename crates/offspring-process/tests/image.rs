//! Offsets: what belongs to the program and what does not.
//
// UNSAFETY: addresses of shared libraries are looked up and read as if they were the program's.
#![expect(unsafe_code, reason = "dlopen, dlsym")]

use offspring_process::image;

static NUMBER: u64 = 42;
static WRITABLE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

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
