//! What a lock costs when nobody else wants it.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use offspring_benches::{PthreadRwLock, Setting, pin};

use crate::contended::Guard;

const PAIRS: u64 = 200_000;

/// A lock that several may hold for reading.
pub(crate) trait ReadGuard {
    /// Runs a function while the lock is held for reading.
    fn read(&self, inside: impl FnOnce());
}

impl ReadGuard for parking_lot::RwLock<()> {
    fn read(&self, inside: impl FnOnce()) {
        let _guard = parking_lot::RwLock::read(self);
        inside();
    }
}

impl ReadGuard for std::sync::RwLock<()> {
    fn read(&self, inside: impl FnOnce()) {
        let _guard = std::sync::RwLock::read(self).expect("nobody panics inside");
        inside();
    }
}

impl ReadGuard for PthreadRwLock {
    fn read(&self, inside: impl FnOnce()) {
        PthreadRwLock::read(self);
        inside();
        self.unlock();
    }
}

/// Nanoseconds for a pair of lock and unlock.
pub(crate) fn mutex(setting: &Setting, lock: &impl Guard) -> Result<f64, String> {
    pin(0);
    let counter = AtomicU64::new(0);
    setting.sample(|| {
        counter.store(0, Ordering::Relaxed);
        let nanoseconds =
            pairs(|| black_box(lock).guarded(|| counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed)));
        if counter.load(Ordering::Relaxed) == PAIRS {
            Ok(nanoseconds)
        } else {
            Err("the counter is wrong".to_owned())
        }
    })
}

/// Nanoseconds for a pair of lock for reading and unlock.
pub(crate) fn read(setting: &Setting, lock: &impl ReadGuard) -> Result<f64, String> {
    pin(0);
    let value = AtomicU64::new(7);
    setting.sample(|| {
        let mut sum = 0;
        let nanoseconds = pairs(|| black_box(lock).read(|| sum += value.load(Ordering::Relaxed)));
        if sum == 7 * PAIRS {
            Ok(nanoseconds)
        } else {
            Err("the sum is wrong".to_owned())
        }
    })
}

fn pairs(mut pair: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..PAIRS {
        pair();
    }
    start.elapsed().as_secs_f64() * 1e9 / PAIRS as f64
}
