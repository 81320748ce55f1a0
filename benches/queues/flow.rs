//! How many messages a second go from producers to consumers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use offspring_benches::{Kind, Setting, SharedPage, median, now_ns, side_by_side};

use crate::content::{END, Tally, sum_below};
use crate::place::Place;

/// The end of a channel that sends.
pub(crate) trait Outlet {
    /// Writes and sends the message with this number, or that and some after it; gives how many. Waits while there is no room.
    fn send(&mut self, number: u64) -> u64;
    /// Sends the message with the number [`END`] alone.
    fn end(&mut self) {
        self.send(END);
    }
}

/// The end of a channel that receives.
pub(crate) trait Inlet {
    /// Receives a message, or several that are there, and reads all they carry. Waits while there is none.
    fn recv(&mut self, tally: &mut Tally);
}

/// How many take part, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// So many producers, and as many consumers.
    pub(crate) pairs: usize,
    pub(crate) place: Place,
}

/// The words that the parties share, each in a cache line of its own.
const READY: usize = 0;
const GO: usize = 16;
const STOP: usize = 32;
const DONE: usize = 48;
const FAILED: usize = 64;
/// For each party: how many messages, their sum, and when the last came; 16 words apart.
const RESULTS: usize = 80;

/// No window has this number: the parties are to go home.
const OVER: u64 = u64::MAX;

type Words = SharedPage<[AtomicU64; 256]>;

/// Messages a second that `pairs` producers send and as many consumers receive: the median of several windows. A window ends when the
/// consumers have all that was sent in it.
///
/// Each party makes its own end, from its number among its like; consumers that share a channel each take one message that ends.
pub(crate) fn rate<O: Outlet, I: Inlet>(
    setting: &Setting,
    kind: Kind,
    plan: Plan,
    message_words: usize,
    outlet: impl Fn(usize) -> O + Sync,
    inlet: impl Fn(usize) -> I + Sync,
) -> Result<f64, String> {
    let Plan { pairs, place } = plan;
    let words = &Words::new();
    let party = |number: usize| {
        let _alarm = Alarm(words);
        place.take(number);
        if number < pairs {
            produce(words, number, &mut outlet(number));
        } else {
            consume(words, number, &mut inlet(number - pairs));
        }
    };
    side_by_side(kind, 2 * pairs, party, || {
        let (windows, length) = if setting.quick { (4, 25) } else { (8, 60) };
        let length = Duration::from_millis(length);
        let mut rates = Vec::new();
        // The first warms up and does not count.
        for window in 1..=windows + 1 {
            let rate = measure(words, pairs, message_words, window, length)?;
            if window > 1 {
                rates.push(rate);
            }
        }
        words[GO].store(OVER, Ordering::Release);
        Ok(median(&rates))
    })
}

fn measure(words: &Words, pairs: usize, message_words: usize, window: u64, length: Duration) -> Result<f64, String> {
    wait_for(words, READY, window * 2 * pairs as u64)?;
    let start = now_ns();
    words[GO].store(window, Ordering::Release);
    thread::sleep(length);
    words[STOP].store(window, Ordering::Release);
    wait_for(words, DONE, window * pairs as u64)?;
    let result = |party: usize, which: usize| words[RESULTS + 16 * party + which].load(Ordering::Relaxed);
    let (mut sent, mut sum) = (0, 0_u64);
    for producer in 0..pairs {
        let count = result(producer, 0);
        sent += count;
        sum = sum.wrapping_add(sum_below(count, message_words));
    }
    let consumers = pairs..2 * pairs;
    let received: u64 = consumers.clone().map(|party| result(party, 0)).sum();
    let read = consumers
        .clone()
        .fold(0_u64, |sum, party| sum.wrapping_add(result(party, 1)));
    if received != sent || read != sum {
        return Err(format!(
            "{sent} messages with the sum {sum} were sent, and {received} with the sum {read} received"
        ));
    }
    let end = consumers.map(|party| result(party, 2)).max().unwrap_or(start);
    Ok(sent as f64 * 1e9 / end.saturating_sub(start) as f64)
}

fn wait_for(words: &Words, word: usize, value: u64) -> Result<(), String> {
    while words[word].load(Ordering::Acquire) < value {
        if words[FAILED].load(Ordering::Relaxed) != 0 {
            return Err("a party panicked".to_owned());
        }
        thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}

/// Waits for the next window; false when there is none.
fn begin(words: &Words, window: u64) -> bool {
    words[READY].fetch_add(1, Ordering::SeqCst);
    while words[GO].load(Ordering::Acquire) < window {
        thread::yield_now();
    }
    words[GO].load(Ordering::Acquire) != OVER
}

fn produce(words: &Words, number: usize, outlet: &mut impl Outlet) {
    for window in 1.. {
        if !begin(words, window) {
            return;
        }
        let mut next = 0;
        while words[STOP].load(Ordering::Relaxed) < window {
            next += outlet.send(next);
        }
        words[RESULTS + 16 * number].store(next, Ordering::Relaxed);
        outlet.end();
    }
}

fn consume(words: &Words, number: usize, inlet: &mut impl Inlet) {
    for window in 1.. {
        if !begin(words, window) {
            return;
        }
        let mut tally = Tally::default();
        while tally.ends == 0 {
            inlet.recv(&mut tally);
        }
        let results = [tally.count, tally.sum, now_ns()];
        for (which, result) in results.into_iter().enumerate() {
            words[RESULTS + 16 * number + which].store(result, Ordering::Relaxed);
        }
        words[DONE].fetch_add(1, Ordering::SeqCst);
    }
}

/// Tells the others when its party panics: they would wait for ever.
struct Alarm<'a>(&'a Words);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0[FAILED].store(1, Ordering::Relaxed);
        }
    }
}
