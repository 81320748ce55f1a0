// UNSAFETY: writes a value into its block, and reads it in place.
#![expect(unsafe_code, reason = "a value is read in place in shared memory")]

use std::marker::PhantomData;
use std::ops::Deref;
use std::{fmt, io};

use super::hold::{Draft, Hold, layout_of};
use crate::{Handle, ShmSafe};

/// A value that processes of a family share.
///
/// It is read through `Deref`, and changed through the atomics in it. It is freed when the last process has dropped its
/// last handle, or has died.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
/// use offspring_shm::Shared;
///
/// let counter = Shared::new(AtomicU64::new(5))?;
/// let handle = counter.to_handle();
///
/// // Here, or in another process of the family that was told the handle:
/// let same = Shared::<AtomicU64>::from_handle(handle)?;
/// same.fetch_add(1, Relaxed);
/// assert_eq!(counter.load(Relaxed), 6);
///
/// drop((counter, same));
/// assert!(Shared::<AtomicU64>::from_handle(handle).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "Value")]
pub struct Shared<T: ShmSafe> {
    hold: Hold,
    marker: PhantomData<T>,
}

const KIND: u8 = 1;

impl<T: ShmSafe> Shared<T> {
    /// Puts a value into the family's arena.
    ///
    /// # Errors
    /// When the arena has no room or the family already shares as many values as its arena can keep account of.
    pub fn new(value: T) -> io::Result<Self> {
        let draft = Draft::new::<T>(1)?;
        // SAFETY: aligned, large enough, and this process's alone.
        unsafe { draft.elements::<T>().write(value) };
        Ok(Self {
            hold: draft.publish(layout_of::<T>(KIND))?,
            marker: PhantomData,
        })
    }

    /// The value's name, to be sent to another process; it does not keep the value alive.
    #[must_use]
    pub fn to_handle(&self) -> Handle {
        self.hold.to_handle()
    }

    /// The value that a handle names.
    ///
    /// # Errors
    /// When the value is gone, is of another type, or the handle is garbage.
    pub fn from_handle(handle: Handle) -> io::Result<Self> {
        if handle.len != 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the handle names no single value",
            ));
        }
        Ok(Self {
            hold: Hold::attach::<T>(&handle, layout_of::<T>(KIND))?,
            marker: PhantomData,
        })
    }
}

impl<T: ShmSafe> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the block holds a `T` that this process's holding keeps, and that changes only as `ShmSafe` allows.
        unsafe { self.hold.elements::<T>().as_ref() }
    }
}

impl<T: ShmSafe> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            hold: self.hold.clone(),
            marker: PhantomData,
        }
    }
}

impl<T: ShmSafe + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&**self).finish()
    }
}
