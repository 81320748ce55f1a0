//! How long a sleeper takes to wake.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use offspring_benches::{
    Kind, PthreadEvent, Setting, SharedPage, futex_wait, futex_wake, median, now_ns, pin, side_by_side, thread_number,
    wait_until_asleep,
};

/// A flag that one party raises and one waits for; waiting lowers it.
pub(crate) trait Event {
    /// Raises the flag.
    fn set(&self);
    /// Sleeps until the flag is raised, and lowers it.
    fn wait(&self);
}

impl Event for PthreadEvent {
    fn set(&self) {
        PthreadEvent::set(self);
    }

    fn wait(&self) {
        PthreadEvent::wait(self);
    }
}

/// The standard library's way, between threads.
#[derive(Default)]
pub(crate) struct ThreadEvent {
    raised: Mutex<bool>,
    changed: Condvar,
}

impl Event for ThreadEvent {
    fn set(&self) {
        *self.raised.lock().expect("nobody panics inside") = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let raised = self.raised.lock().expect("nobody panics inside");
        *self
            .changed
            .wait_while(raised, |raised| !*raised)
            .expect("nobody panics inside") = false;
    }
}

/// The least there can be: one word, one system call on each side.
#[derive(Default)]
pub(crate) struct FutexEvent(SharedPage<AtomicU32>);

impl Event for FutexEvent {
    fn set(&self) {
        self.0.store(1, Ordering::Release);
        futex_wake(&self.0, 1);
    }

    fn wait(&self) {
        while self.0.swap(0, Ordering::Acquire) == 0 {
            futex_wait(&self.0, 0);
        }
    }
}

const WAITER: usize = 0;
const WOKEN_AT: usize = 8;
const WOKEN: usize = 9;
const STOP: usize = 16;

/// Microseconds from `set` to the return of `wait`.
pub(crate) fn wake(setting: &Setting, kind: Kind, event: &(impl Event + Sync)) -> Result<f64, String> {
    let words = &SharedPage::<[AtomicU64; 64]>::new();
    let waiter = |_| {
        pin(1);
        words[WAITER].store(thread_number().into(), Ordering::SeqCst);
        while words[STOP].load(Ordering::SeqCst) == 0 {
            event.wait();
            words[WOKEN_AT].store(now_ns(), Ordering::SeqCst);
            words[WOKEN].fetch_add(1, Ordering::SeqCst);
        }
    };
    let wait_for = |word: usize, least: u64| {
        while words[word].load(Ordering::SeqCst) < least {
            thread::sleep(Duration::from_micros(20));
        }
    };
    side_by_side(kind, 1, waiter, || {
        pin(0);
        wait_for(WAITER, 1);
        let thread = u32::try_from(words[WAITER].load(Ordering::SeqCst)).unwrap_or(0);
        let mut woken = 0;
        let mut samples = Vec::new();
        let end = now_ns() + u64::try_from(setting.budget().as_nanos()).unwrap_or(0);
        while samples.len() < 20 || now_ns() < end {
            if !wait_until_asleep(thread) {
                return Err("the waiter does not sleep".to_owned());
            }
            // Long enough for the processor to be idle.
            thread::sleep(Duration::from_micros(200));
            let set_at = now_ns();
            event.set();
            woken += 1;
            wait_for(WOKEN, woken);
            samples.push(words[WOKEN_AT].load(Ordering::SeqCst).saturating_sub(set_at) as f64 / 1000.0);
        }
        words[STOP].store(1, Ordering::SeqCst);
        event.set();
        Ok(median(&samples))
    })
}
