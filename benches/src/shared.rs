// UNSAFETY: memory that forked processes share exists only as a raw mapping.
#![expect(unsafe_code, reason = "mmap, munmap and references into the mapping")]
//! Memory that this process and its forked children share.

use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::{NonNull, null_mut};

/// A value in an anonymous shared mapping, on pages of its own, all zeros at first.
#[derive(Debug)]
pub struct SharedPage<T: Zeroed> {
    address: NonNull<T>,
    value: PhantomData<T>,
}

/// A type for which all zeros are a valid value and which may be shared between processes.
///
/// # Safety
///
/// All zeros are a valid value, the type holds no pointer into one process, and it is `Sync`.
pub unsafe trait Zeroed: Sync {}

// SAFETY: zero is a valid atomic, and atomics may be shared.
unsafe impl Zeroed for std::sync::atomic::AtomicU32 {}
// SAFETY: as for AtomicU32.
unsafe impl Zeroed for std::sync::atomic::AtomicU64 {}
// SAFETY: an array is valid when its elements are.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

impl<T: Zeroed> SharedPage<T> {
    /// Maps the pages.
    ///
    /// # Panics
    ///
    /// When there is no memory.
    pub fn new() -> Self {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses a free address.
        let address = unsafe { libc::mmap(null_mut(), size_of::<T>(), protection, flags, -1, 0) };
        assert_ne!(
            address,
            libc::MAP_FAILED,
            "cannot map shared memory: {}",
            std::io::Error::last_os_error()
        );
        let address = NonNull::new(address.cast()).expect("a mapping is not at address 0");
        Self {
            address,
            value: PhantomData,
        }
    }

    /// Where the value is.
    pub fn as_ptr(&self) -> *mut T {
        self.address.as_ptr()
    }
}

impl<T: Zeroed> Default for SharedPage<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Zeroed> Deref for SharedPage<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is as large and as aligned as `T`, lives as long as `self`, and was all zeros, which `Zeroed` allows; others
        // change it only through a shared reference too.
        unsafe { self.address.as_ref() }
    }
}

impl<T: Zeroed> Drop for SharedPage<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this size, and no reference outlives `self`.
        unsafe { libc::munmap(self.address.as_ptr().cast(), size_of::<T>()) };
    }
}

// SAFETY: `T` is `Sync`, and a mapping may be used and unmapped by any thread.
unsafe impl<T: Zeroed> Send for SharedPage<T> {}
// SAFETY: as for Send: only shared references are given out.
unsafe impl<T: Zeroed> Sync for SharedPage<T> {}
