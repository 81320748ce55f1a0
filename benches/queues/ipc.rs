//! ipc-channel's channel of bytes, between processes: it is faster than the typed one.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::{Mutex, PoisonError};

use ipc_channel::TryRecvError;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, bytes_channel};
use offspring_benches::{Kind, Setting};

use crate::content::{Tally, fill_bytes};
use crate::flow::{self, Inlet, Outlet, Plan};
use crate::place::Place;
use crate::trip::{self, Exchange};

type Channel = (IpcBytesSender, IpcBytesReceiver);

/// A sender, and the bytes that it sends.
struct Out(IpcBytesSender, Vec<u8>);

struct In(IpcBytesReceiver);

/// Each producer has a channel of its own for its consumer: a channel has one receiver.
pub(crate) fn rate<const WORDS: usize>(setting: &Setting, plan: Plan) -> Result<f64, String> {
    if plan.pairs > 1 {
        println!("note each pair has a channel of its own");
    }
    let channels = Channels::new(plan.pairs)?;
    flow::rate(
        setting,
        Kind::Processes,
        plan,
        WORDS,
        |number| Out(channels.take(number).0, vec![0; 8 * WORDS]),
        |number| In(channels.take(number).1),
    )
}

/// Channels that each process takes its ends from.
struct Channels(Vec<Mutex<Cell<Option<Channel>>>>);

impl Channels {
    fn new(number: usize) -> Result<Self, String> {
        let channels = (0..number).map(|_| bytes_channel().map(|channel| Mutex::new(Cell::new(Some(channel)))));
        let channels: Result<_, _> = channels.collect();
        channels.map(Self).map_err(|error| error.to_string())
    }

    /// Once in each process: its copy of the channel.
    fn take(&self, number: usize) -> Channel {
        let channel = self.0[number].lock().unwrap_or_else(PoisonError::into_inner).take();
        channel.expect("a process takes a channel once")
    }
}

impl Outlet for Out {
    fn send(&mut self, number: u64) -> u64 {
        fill_bytes(number, &mut self.1);
        self.0.send(&self.1).expect("there is a receiver");
        1
    }
}

impl Inlet for In {
    fn recv(&mut self, tally: &mut Tally) {
        tally.read_bytes(&self.0.recv().expect("there is a sender"));
    }
}

/// Two channels, one in each direction.
struct Both {
    there: IpcBytesSender,
    back: IpcBytesReceiver,
    polling: bool,
}

impl Exchange for Both {
    fn send(&mut self, number: u64) {
        self.there.send(&number.to_ne_bytes()).expect("there is a receiver");
    }

    fn recv(&mut self) -> u64 {
        let bytes = if self.polling {
            loop {
                match self.back.try_recv() {
                    Ok(bytes) => break bytes,
                    Err(TryRecvError::Empty) => spin_loop(),
                    Err(error) => panic!("{error}"),
                }
            }
        } else {
            self.back.recv().expect("there is a sender")
        };
        u64::from_ne_bytes(bytes.try_into().expect("8 bytes"))
    }
}

pub(crate) fn round_trip(setting: &Setting, place: Place, polling: bool) -> Result<f64, String> {
    let channels = Channels::new(2)?;
    trip::measure(setting, Kind::Processes, place, |side| Both {
        there: channels.take(side).0,
        back: channels.take(1 - side).1,
        polling,
    })
}
