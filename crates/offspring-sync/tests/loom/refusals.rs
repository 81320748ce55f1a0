//! What is refused.

use offspring_sync::raw::{RawLock, Refused};

use crate::world::{Members, tag, undisturbed};

#[test]
fn refusals_change_nothing() {
    undisturbed(1, || {
        let members = Members::new();
        let lock = RawLock::new();
        lock.lock(&members, tag(0), None).unwrap();
        assert_eq!(lock.lock(&members, tag(0), None), Err(Refused::AlreadyHeld));
        assert_eq!(lock.try_lock(&members, tag(1)), Err(Refused::WouldBlock));
        assert!(lock.unlock(tag(1), false, 1).is_err());
        lock.unlock(tag(0), false, 1).unwrap();
    });
}
