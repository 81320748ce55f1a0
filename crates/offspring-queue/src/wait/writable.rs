use std::os::fd::AsFd;

use super::{WaitOn, Waitable};

/// A descriptor, as something to [wait for](crate::wait_any) until it can be written to.
///
/// A descriptor by itself is waited for until it can be read.
#[derive(Clone, Copy, Debug)]
pub struct Writable<F>(pub F);

impl<F: AsFd> Waitable for Writable<F> {
    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::writable(self.0.as_fd())
    }
}
