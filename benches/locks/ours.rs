//! Our locks, in the family's arena.

use offspring_shm::Shared;
use offspring_sync::{Barrier, Event, LockError, Mutex, RwLock};

use crate::contended::Guard;
use crate::death::Survivor;
use crate::uncontended::ReadGuard;

/// A mutex that every process of the family, and every forked child, sees.
pub(crate) fn mutex() -> Shared<Mutex<u64>> {
    Shared::new(Mutex::new(0)).expect("the arena has room")
}

impl Guard for Shared<Mutex<u64>> {
    #[inline(always)]
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

/// As [`mutex`].
pub(crate) fn rwlock() -> Shared<RwLock<u64>> {
    Shared::new(RwLock::new(0)).expect("the arena has room")
}

impl ReadGuard for Shared<RwLock<u64>> {
    fn read(&self, inside: impl FnOnce()) {
        let _guard = RwLock::read(self).expect("no owner dies here");
        inside();
    }
}

/// As [`mutex`].
pub(crate) fn barrier(parties: usize) -> Shared<Barrier> {
    Shared::new(Barrier::new(parties).expect("there are few parties")).expect("the arena has room")
}

impl crate::barrier::Barrier for Shared<Barrier> {
    fn wait(&self) {
        Barrier::wait(self).expect("nobody dies here");
    }
}

/// As [`mutex`].
pub(crate) fn event() -> Shared<Event> {
    Shared::new(Event::new()).expect("the arena has room")
}

impl crate::event::Event for Shared<Event> {
    fn set(&self) {
        Event::set(self).expect("the event is sound");
    }

    fn wait(&self) {
        Event::wait(self).expect("the event is sound");
        Event::clear(self).expect("the event is sound");
    }
}
