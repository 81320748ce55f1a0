use std::sync::Arc;

use crate::raw::Watched;

/// Something in shared memory that can be waited for, by this thread and by the bridge.
pub(crate) trait Doorbell: Watched + Send + Sync {
    /// The same thing for another thread, which may keep it beyond the life of this one. It keeps the memory, and counts as no
    /// holder.
    fn share(&self) -> Arc<dyn Doorbell>;
}
