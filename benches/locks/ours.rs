//! Our locks, in the family's arena.

use offspring_shm::Shared;
use offspring_sync::{LockError, Mutex};

use crate::contended::Guard;
use crate::death::Survivor;

/// A mutex that every process of the family, and every forked child, sees.
pub(crate) fn mutex() -> Shared<Mutex<u64>> {
    Shared::new(Mutex::new(0)).expect("the arena has room")
}

impl Guard for Shared<Mutex<u64>> {
    fn guarded(&self, inside: impl FnOnce()) {
        let _guard = self.lock().expect("no owner dies here");
        inside();
    }
}

impl Survivor for Shared<Mutex<u64>> {
    fn locked(&self, inside: impl FnOnce(bool)) {
        match self.lock() {
            Ok(_guard) => inside(false),
            Err(LockError::OwnerDied(mut guard)) => {
                guard.mark_consistent();
                inside(true);
            }
            Err(error) => panic!("{error}"),
        }
    }
}
