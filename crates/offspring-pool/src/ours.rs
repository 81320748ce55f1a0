// UNSAFETY: drops a value in place, or leaves it alone.
#![expect(unsafe_code, reason = "drops a value by hand")]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use offspring_shm::{Owner, family};

/// What this process has in the arena. A forked copy of this process has a copy of it, and gives nothing back when that
/// is dropped: what lies in the arena is its parent's.
pub(crate) struct Ours<T> {
    value: ManuallyDrop<T>,
    owner: Option<Owner>,
}

impl<T> Ours<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: ManuallyDrop::new(value),
            owner: family::me().ok(),
        }
    }

    /// True in the process that made it.
    pub(crate) fn is_mine(this: &Self) -> bool {
        // A tag is never given twice, so a copy, or a copy's copy, never has this one.
        this.owner.is_some() && this.owner == family::me().ok()
    }
}

impl<T> Deref for Ours<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Ours<T> {
    fn drop(&mut self) {
        if Self::is_mine(self) {
            // SAFETY: dropped once, here, and not used any more.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Ours<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
