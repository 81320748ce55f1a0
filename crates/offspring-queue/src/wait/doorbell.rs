use std::sync::Arc;

use crate::raw::Watched;

/// What a thread of the bridge watches.
pub(crate) type Shared = Arc<dyn Watched + Send + Sync>;

/// Something in shared memory that can be waited for, by this thread and by the bridge.
pub(crate) trait Doorbell: Watched {
    /// The same thing for another thread, which may keep it beyond the life of this one. It keeps the memory, and counts as no
    /// holder.
    fn share(&self) -> Shared;
}
