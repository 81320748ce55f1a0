//! A message of 256 MiB.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use offspring::shm::family;
use offspring::{Message, Parcel, Queue, Receiver, Sender};
use offspring_benches::{BIG, Kind, PLACE, Setting, SharedPage, pin, side_by_side};

use crate::ours::queue;

/// What the other process sees: the length, and the bytes at the start, in the middle and at the end. Empty: it goes home.
type Look = (u64, [u8; 3]);

fn look(bytes: &[u8]) -> Look {
    match bytes {
        [] => (0, [0; 3]),
        [first, .., last] => (bytes.len() as u64, [*first, bytes[PLACE], *last]),
        [only] => (1, [*only; 3]),
    }
}

/// The sending process's ends.
struct Side {
    values: Sender<Vec<u8>>,
    answers: Receiver<Look>,
}

impl Side {
    /// Waits for the answer to a value with this mark in the middle.
    fn check(&self, mark: u8) -> Result<(), String> {
        let answer = self.answers.recv().map_err(words)?;
        if answer == (BIG as u64, [7, mark, 7]) {
            Ok(())
        } else {
            Err(format!("the other process saw {answer:?}"))
        }
    }
}

fn words(error: impl ToString) -> String {
    error.to_string()
}

fn parcel<T: Message>(value: &T) -> Result<Parcel<T>, String> {
    Parcel::encode(family::arena().map_err(words)?, family::me().map_err(words)?, value).map_err(words)
}

fn between_two(measure: impl Fn(&Side) -> Result<f64, String> + Sync) -> Result<f64, String> {
    let values: Queue<Vec<u8>> = queue(2)?;
    let answers: Queue<Look> = queue(2)?;
    let result = &SharedPage::<AtomicU64>::new();
    let party = |number: usize| {
        pin(number);
        if number == 0 {
            let side = Side {
                values: values.sender(),
                answers: answers.receiver(),
            };
            let microseconds = measure(&side).expect("the value arrives");
            result.store(microseconds.to_bits(), Ordering::Release);
            side.values.send(Vec::new()).expect("there is a receiver");
        } else {
            loop {
                let view = values.recv_view().expect("there is a sender");
                let seen = look(&view);
                drop(view);
                if seen.0 == 0 {
                    return;
                }
                answers.send(seen).expect("there is a receiver");
            }
        }
    };
    side_by_side(Kind::Family, 2, party, || Ok(()))?;
    Ok(f64::from_bits(result.load(Ordering::Acquire)))
}

/// A value that changes with each message.
struct Marked(Vec<u8>);

impl Marked {
    fn new() -> Self {
        Self(vec![7; BIG])
    }

    fn mark(&mut self) -> u8 {
        self.0[PLACE] = self.0[PLACE].wrapping_add(1);
        self.0[PLACE]
    }
}

/// From memory that the sender keeps: written into the arena, sent, looked at, answered.
pub(crate) fn written(setting: &Setting) -> Result<f64, String> {
    between_two(|side| {
        let mut value = Marked::new();
        setting.microseconds(|| {
            let mark = value.mark();
            side.values.send_parcel(parcel(&value.0)?).map_err(words)?;
            side.check(mark)
        })
    })
}

/// From a vector that `send` takes, and frees.
pub(crate) fn moved(setting: &Setting) -> Result<f64, String> {
    between_two(|side| {
        setting.sample(|| {
            let mut value = Marked::new();
            let mark = value.mark();
            let start = Instant::now();
            side.values.send(value.0).map_err(words)?;
            side.check(mark)?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        })
    })
}

/// From the arena, where it was written before.
pub(crate) fn in_arena(setting: &Setting) -> Result<f64, String> {
    between_two(|side| {
        let mut value = Marked::new();
        setting.sample(|| {
            let mark = value.mark();
            let parcel = parcel(&value.0)?;
            let start = Instant::now();
            side.values.send_parcel(parcel).map_err(words)?;
            side.check(mark)?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        })
    })
}
