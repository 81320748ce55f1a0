//! Several parties want one lock all the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use offspring_benches::{Kind, PthreadMutex, Setting, SharedPage, loops_for, side_by_side, spin};

/// A lock that one holds at a time.
pub(crate) trait Guard {
    /// Runs a function while the lock is held. In line for every lock: what is measured is the lock, not a call.
    fn guarded(&self, inside: impl FnOnce());
}

impl Guard for parking_lot::Mutex<()> {
    #[inline(always)]
    fn guarded(&self, inside: impl FnOnce()) {
        let _guard = self.lock();
        inside();
    }
}

impl Guard for std::sync::Mutex<()> {
    #[inline(always)]
    fn guarded(&self, inside: impl FnOnce()) {
        let _guard = self.lock().expect("nobody panics inside");
        inside();
    }
}

impl Guard for PthreadMutex {
    #[inline(always)]
    fn guarded(&self, inside: impl FnOnce()) {
        assert!(!self.lock(), "no owner dies here");
        inside();
        self.unlock();
    }
}

/// The words that the parties share, each group in a cache line of its own.
const READY: usize = 0;
const GO: usize = 8;
const STOP: usize = 16;
/// Two words that agree whenever nobody is inside.
const FIRST: usize = 24;
const SECOND: usize = 25;
/// The pairs of each party, 8 words apart.
const COUNTS: usize = 32;

/// Pairs of lock and unlock a second, of all parties together.
pub(crate) fn pairs(setting: &Setting, parties: usize, kind: Kind, lock: &(impl Guard + Sync)) -> Result<f64, String> {
    let words = &SharedPage::<[AtomicU64; 128]>::new();
    let (inside, outside) = (loops_for(50), loops_for(200));
    let word = |at: usize| words[at].load(Ordering::Relaxed);
    let party = |number: usize| {
        words[READY].fetch_add(1, Ordering::SeqCst);
        while words[GO].load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        let mut count = 0;
        while words[STOP].load(Ordering::Relaxed) == 0 {
            lock.guarded(|| {
                let value = word(FIRST);
                assert_eq!(value, word(SECOND), "two were inside at once");
                words[FIRST].store(value + 1, Ordering::Relaxed);
                spin(inside);
                words[SECOND].store(value + 1, Ordering::Relaxed);
            });
            count += 1;
            spin(outside);
        }
        words[COUNTS + 8 * number].store(count, Ordering::Relaxed);
    };
    let seconds = side_by_side(kind, parties, party, || {
        while words[READY].load(Ordering::SeqCst) != parties as u64 {
            thread::yield_now();
        }
        let start = Instant::now();
        words[GO].store(1, Ordering::Release);
        thread::sleep(setting.budget());
        words[STOP].store(1, Ordering::Relaxed);
        Ok(start.elapsed().as_secs_f64())
    })?;
    let pairs: u64 = (0..parties).map(|number| word(COUNTS + 8 * number)).sum();
    if pairs == word(FIRST) && pairs == word(SECOND) {
        Ok(pairs as f64 / seconds)
    } else {
        Err(format!(
            "{pairs} pairs, but the guarded words say {} and {}",
            word(FIRST),
            word(SECOND)
        ))
    }
}
