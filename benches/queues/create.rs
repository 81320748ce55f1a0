//! What it costs to have a queue.

use std::fs;
use std::time::Instant;

use crossbeam_channel::bounded;
use offspring_benches::Setting;

use crate::ours::queue;

/// The messages that each has room for.
const ROOM: usize = 100;

/// How many are made one after another in a sample.
const IN_TURN: u32 = 100;

/// Microseconds to make a channel and drop it.
fn in_turn(setting: &Setting, make: impl Fn() -> Result<(), String>) -> Result<f64, String> {
    setting.sample(|| {
        let start = Instant::now();
        for _ in 0..IN_TURN {
            make()?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(IN_TURN))
    })
}

pub(crate) fn ours(setting: &Setting) -> Result<f64, String> {
    in_turn(setting, || queue::<u64>(ROOM).map(drop))
}

pub(crate) fn crossbeam(setting: &Setting) -> Result<f64, String> {
    in_turn(setting, || {
        drop(bounded::<u64>(ROOM));
        Ok(())
    })
}

/// How many there are at once.
const AT_ONCE: u64 = 10_000;

/// Microseconds for each of many channels that live at once: making it, a message through it, dropping it.
fn at_once<C>(
    setting: &Setting,
    make: impl Fn() -> Result<C, String>,
    pass: impl Fn(&C, u64) -> Option<u64>,
) -> Result<f64, String> {
    setting.sample(|| {
        let before = descriptors();
        let start = Instant::now();
        let channels: Vec<C> = (0..AT_ONCE).map(|_| make()).collect::<Result<_, _>>()?;
        for (number, channel) in (0..).zip(&channels) {
            if pass(channel, number) != Some(number) {
                return Err(format!("message {number} did not arrive"));
            }
        }
        let made = descriptors();
        drop(channels);
        let microseconds = start.elapsed().as_secs_f64() * 1e6;
        if made == before {
            Ok(microseconds / AT_ONCE as f64)
        } else {
            Err(format!("{before} descriptors became {made}"))
        }
    })
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

pub(crate) fn many_of_ours(setting: &Setting) -> Result<f64, String> {
    // The arena's own descriptor does not count.
    queue::<u64>(ROOM)?;
    at_once(
        setting,
        || queue::<u64>(ROOM),
        |queue, number| {
            queue.try_send(number).ok()?;
            queue.try_recv().ok()
        },
    )
}

pub(crate) fn many_of_crossbeam(setting: &Setting) -> Result<f64, String> {
    at_once(
        setting,
        || Ok(bounded::<u64>(ROOM)),
        |(sender, receiver), number| {
            sender.try_send(number).ok()?;
            receiver.try_recv().ok()
        },
    )
}
