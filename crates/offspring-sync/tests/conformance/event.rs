//! Row E: events.

use std::time::Duration;

use offspring_shm::Shared;
use offspring_sync::Event;
use offspring_testing::watchdog;

use crate::support::{fork, timed};
use crate::{LONG, SHORT, about};

pub(crate) fn e1_event() {
    let _watchdog = watchdog(LONG);
    let event = Shared::new(Event::new()).unwrap();
    assert!(!event.is_set());
    assert!(!event.wait_timeout(Duration::ZERO).unwrap());
    let (set, elapsed) = timed(|| event.wait_timeout(SHORT).unwrap());
    assert!(!set);
    about(elapsed, SHORT);
    event.set().unwrap();
    assert!(event.is_set());
    let ((), elapsed) = timed(|| event.wait().unwrap());
    about(elapsed, Duration::ZERO);
    assert!(event.wait_timeout(SHORT).unwrap());
    event.clear().unwrap();
    assert!(!event.is_set());
    let child = fork(|| {
        std::thread::sleep(SHORT);
        event.set().unwrap();
    });
    let ((), elapsed) = timed(|| event.wait().unwrap());
    assert!(elapsed >= SHORT / 2);
    child.join();
}
