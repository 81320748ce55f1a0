//! The algorithms, apart from the handles that a user holds.
//!
//! Each works on words alone and is told who asks ([`Tag`](crate::Tag)) and who lives ([`Lives`]). They hold no guards and run no
//! destructors, so that the models (`tests/loom.rs`) can stop a thread for ever between any two steps. A crate that builds its
//! own protocols on owner words starts here; everybody else wants the types at the crate's root.

mod barrier;
mod condvar;
mod count;
mod event;
mod event_count;
mod lives;
mod lock;
mod patience;
mod permits;
mod rwlock;

pub use barrier::{Breach, Met, RawBarrier, Unmet};
pub use condvar::{Place, RawCondvar};
pub use count::RawCount;
pub use event::RawEvent;
pub use event_count::{EventCount, Ticket};
pub use lives::{Life, Lives};
pub use lock::{Acquired, NotOwner, RawLock, Refused, State};
pub(crate) use patience::processors;
pub use patience::{LONGEST_PAUSE, Naps, Spin};
pub use permits::RawPermits;
pub use rwlock::{RawRwLock, ReaderCell, Seat};
