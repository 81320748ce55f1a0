//! How soon a sleeping waiter learns that the holder was killed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use offspring_benches::{Child, Kind, PthreadMutex, Setting, SharedPage, now_ns, pin, wait_until_asleep};

/// A lock whose holder may die.
pub(crate) trait Survivor {
    /// Runs a function while the lock is held, and tells it whether the owner before died.
    fn locked(&self, inside: impl FnOnce(bool));
}

impl Survivor for PthreadMutex {
    fn locked(&self, inside: impl FnOnce(bool)) {
        inside(self.lock());
        self.unlock();
    }
}

const HELD: usize = 0;
const RETURNED_AT: usize = 1;

/// Microseconds from SIGKILL to the return of `lock`.
pub(crate) fn latency(setting: &Setting, kind: Kind, lock: &impl Survivor) -> Result<f64, String> {
    let words = &SharedPage::<[AtomicU64; 2]>::new();
    pin(0);
    setting.sample(|| {
        words.iter().for_each(|word| word.store(0, Ordering::SeqCst));
        let holder = Child::start(kind, || {
            pin(0);
            lock.locked(|_| {
                words[HELD].store(1, Ordering::SeqCst);
                loop {
                    thread::sleep(Duration::from_secs(60));
                }
            });
        });
        while words[HELD].load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_micros(50));
        }
        let waiter = Child::start(kind, || {
            pin(1);
            lock.locked(|died| {
                words[RETURNED_AT].store(now_ns(), Ordering::SeqCst);
                assert!(died, "the lock must say that its owner died");
            });
        });
        // Asleep in the kernel, and long enough for the processor to be idle.
        if !wait_until_asleep(waiter.pid()) || !wait_until_asleep(holder.pid()) {
            return Err("the waiter does not sleep".to_owned());
        }
        thread::sleep(Duration::from_micros(500));
        let killed_at = now_ns();
        holder.kill();
        waiter.wait()?;
        drop(holder);
        Ok(words[RETURNED_AT].load(Ordering::SeqCst).saturating_sub(killed_at) as f64 / 1000.0)
    })
}
