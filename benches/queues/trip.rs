//! How long a message takes to the other side and back.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use offspring_benches::{Kind, Setting, SharedPage, futex_wait, futex_wake, median, side_by_side};

use crate::place::Place;

/// What one side has: its end of the way there, and its end of the way back.
pub(crate) trait Exchange {
    fn send(&mut self, number: u64);
    fn recv(&mut self) -> u64;
}

/// The number after which both sides go home.
const LAST: u64 = u64::MAX - 1;

/// Microseconds of a round trip. Each side makes what it needs, from its number: 0 begins.
pub(crate) fn measure<E: Exchange>(
    setting: &Setting,
    kind: Kind,
    place: Place,
    side: impl Fn(usize) -> E + Sync,
) -> Result<f64, String> {
    let result = &SharedPage::<AtomicU64>::new();
    let party = |number: usize| {
        place.take(number);
        let mut exchange = side(number);
        if number == 0 {
            let microseconds = begin(&mut exchange, setting);
            result.store(microseconds.to_bits(), Ordering::Release);
        } else {
            answer(&mut exchange);
        }
    };
    side_by_side(kind, 2, party, || Ok(()))?;
    Ok(f64::from_bits(result.load(Ordering::Acquire)))
}

/// The median of many samples, the first ones left out.
fn begin(exchange: &mut impl Exchange, setting: &Setting) -> f64 {
    const TRIPS: u32 = 50;
    let mut number = 0;
    let mut sample = || {
        let start = Instant::now();
        for _ in 0..TRIPS {
            exchange.send(number);
            assert_eq!(exchange.recv(), number + 1, "what came back is no answer");
            number += 2;
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(TRIPS)
    };
    let warm = Instant::now();
    while warm.elapsed() < setting.budget() / 10 {
        sample();
    }
    let start = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < 3 || start.elapsed() < setting.budget() / 2 {
        samples.push(sample());
    }
    exchange.send(LAST);
    median(&samples)
}

fn answer(exchange: &mut impl Exchange) {
    loop {
        match exchange.recv() {
            LAST => return,
            number => exchange.send(number + 1),
        }
    }
}

/// The least there can be when both are awake: one word, in one cache line, that goes back and forth.
struct Line<'a> {
    word: &'a AtomicU64,
    mine: u64,
}

impl Exchange for Line<'_> {
    fn send(&mut self, number: u64) {
        // Not 0, which is there at first.
        self.mine = number.wrapping_add(2);
        self.word.store(self.mine, Ordering::Release);
    }

    fn recv(&mut self) -> u64 {
        loop {
            let found = self.word.load(Ordering::Acquire);
            if found != self.mine {
                return found.wrapping_sub(2);
            }
            spin_loop();
        }
    }
}

/// Spinning on a word.
pub(crate) fn line(setting: &Setting, place: Place) -> Result<f64, String> {
    let word = &SharedPage::<AtomicU64>::new();
    measure(setting, Kind::Processes, place, |_| Line { word, mine: 0 })
}

/// The least there can be when both sleep: the same word, and one futex call to sleep and one to wake.
struct Futex<'a> {
    word: &'a AtomicU32,
    mine: u32,
}

impl Exchange for Futex<'_> {
    fn send(&mut self, number: u64) {
        self.mine = (number as u32).wrapping_add(2);
        self.word.store(self.mine, Ordering::Release);
        futex_wake(self.word, 1);
    }

    fn recv(&mut self) -> u64 {
        loop {
            let found = self.word.load(Ordering::Acquire);
            if found != self.mine {
                let number = found.wrapping_sub(2);
                return if number == LAST as u32 { LAST } else { number.into() };
            }
            futex_wait(self.word, found);
        }
    }
}

/// Asleep on a word.
pub(crate) fn futex(setting: &Setting, place: Place) -> Result<f64, String> {
    let word = &SharedPage::<AtomicU32>::new();
    measure(setting, Kind::Processes, place, |_| Futex { word, mine: 0 })
}
