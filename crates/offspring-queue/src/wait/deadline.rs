use std::time::Instant;

use super::{WaitOn, Waitable};

/// A moment, as something to [wait for](crate::wait_any): ready when it has come.
///
/// For one deadline the timeout of [`wait_any`](crate::wait_any) does; this tells several apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(pub Instant);

impl Waitable for Deadline {
    fn wait_on(&self) -> WaitOn<'_> {
        WaitOn::deadline(self.0)
    }
}
