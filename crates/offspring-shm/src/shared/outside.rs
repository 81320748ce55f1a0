use std::cell::Cell;
use std::io;

thread_local! {
    /// `None` inside the family; outside of it, whether a shared value was met.
    static MET: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Runs `work`, which encodes for or decodes from a process that is not of this family, and says whether it met a shared
/// value: a handle means nothing there, and one that comes from there may be made up. None can be attached meanwhile.
///
/// ```
/// use offspring_shm::{Shared, outside_family};
///
/// let number = Shared::new(7_u32)?;
/// let handle = number.to_handle();
/// let (attached, met) = outside_family(|| Shared::<u32>::from_handle(handle));
/// assert!(attached.is_err() && met);
/// assert_eq!(*Shared::<u32>::from_handle(handle)?, 7);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn outside_family<R>(work: impl FnOnce() -> R) -> (R, bool) {
    /// Puts the state back, also when `work` panics.
    struct Outer(Option<bool>);
    impl Drop for Outer {
        fn drop(&mut self) {
            MET.set(self.0);
        }
    }
    let _outer = Outer(MET.replace(Some(false)));
    let done = work();
    (done, MET.get() == Some(true))
}

/// Notes that a handle is being made.
pub(super) fn meet() {
    if MET.get().is_some() {
        MET.set(Some(true));
    }
}

/// Refuses to attach to a handle that came from outside.
pub(super) fn check() -> io::Result<()> {
    meet();
    match MET.get() {
        None => Ok(()),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a shared value, or a queue, cannot come from a process outside of the family",
        )),
    }
}
