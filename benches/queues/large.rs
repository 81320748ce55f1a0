//! A message of 256 MiB.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use offspring::shm::family;
use offspring::{Message, Parcel, Queue, SharedSlice};
use offspring_benches::{BIG, Kind, PLACE, Setting, SharedPage, side_by_side};

use crate::ours::queue;

/// What the other process sees: the length, and the bytes at the start, in the middle and at the end.
type Look = (u64, u8, u8, u8);

fn look(bytes: &[u8]) -> Look {
    (bytes.len() as u64, bytes[0], bytes[PLACE], bytes[bytes.len() - 1])
}

fn words(error: impl ToString) -> String {
    error.to_string()
}

/// A queue there, and one for the answers.
struct Ways<T: Message> {
    values: Queue<T>,
    looks: Queue<Look>,
}

impl<T: Message> Ways<T> {
    fn new() -> Result<Self, String> {
        Ok(Self {
            values: queue(2)?,
            looks: queue(2)?,
        })
    }

    /// Waits for the answer to a value with this mark in the middle.
    fn check(&self, mark: u8) -> Result<(), String> {
        let seen = self.looks.recv().map_err(words)?;
        if seen == (BIG as u64, 7, mark, 7) {
            Ok(())
        } else {
            Err(format!("the other process saw {seen:?}"))
        }
    }

    /// Runs `send`, which gives microseconds, and beside it in another process `answer` until it says that nothing more comes.
    fn between_two(
        &self,
        send: impl Fn() -> Result<f64, String> + Sync,
        answer: impl Fn() -> Option<Look> + Sync,
    ) -> Result<f64, String> {
        let result = &SharedPage::<AtomicU64>::new();
        let party = |number: usize| {
            if number == 0 {
                let microseconds = send().expect("the value arrives");
                result.store(microseconds.to_bits(), Ordering::Release);
                self.values.close();
            } else {
                while let Some(seen) = answer() {
                    self.looks.send(seen).expect("there is a receiver");
                }
            }
        };
        side_by_side(Kind::Family, 2, party, || Ok(()))?;
        Ok(f64::from_bits(result.load(Ordering::Acquire)))
    }
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
    let ways = Ways::<Vec<u8>>::new()?;
    let send = || {
        let mut value = Marked::new();
        setting.microseconds(|| {
            let mark = value.mark();
            let (arena, me) = (family::arena().map_err(words)?, family::me().map_err(words)?);
            let parcel = Parcel::encode(arena, me, &value.0).map_err(words)?;
            ways.values.send_parcel(parcel).map_err(words)?;
            ways.check(mark)
        })
    };
    ways.between_two(send, || ways.values.recv_view().ok().map(|view| look(&view)))
}

/// From a vector that `send` takes, and frees.
pub(crate) fn moved(setting: &Setting) -> Result<f64, String> {
    let ways = Ways::<Vec<u8>>::new()?;
    let send = || {
        setting.sample(|| {
            let mut value = Marked::new();
            let mark = value.mark();
            let start = Instant::now();
            ways.values.send(value.0).map_err(words)?;
            ways.check(mark)?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        })
    };
    ways.between_two(send, || ways.values.recv_view().ok().map(|view| look(&view)))
}

/// From the arena, where it lies and stays.
pub(crate) fn in_arena(setting: &Setting) -> Result<f64, String> {
    let ways = Ways::<SharedSlice<u8>>::new()?;
    let value = SharedSlice::from_slice(&vec![7; BIG]).map_err(words)?;
    let send = || {
        setting.microseconds(|| {
            ways.values.send(value.clone()).map_err(words)?;
            ways.check(7)
        })
    };
    ways.between_two(send, || ways.values.recv().ok().map(|slice| look(&slice)))
}
