//! crossbeam's bounded channel, between threads.

use std::hint::spin_loop;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use offspring_benches::{Kind, Setting};

use crate::content::{Content, Tally};
use crate::flow::{self, Inlet, Outlet, Plan};
use crate::place::Place;
use crate::trip::{self, Exchange};

struct End<E, const WORDS: usize>(E);

pub(crate) fn values<M: Content<WORDS> + Send, const WORDS: usize>(
    setting: &Setting,
    plan: Plan,
    capacity: usize,
) -> Result<f64, String> {
    let (sender, receiver) = bounded::<M>(capacity);
    flow::rate(
        setting,
        Kind::Threads,
        plan,
        WORDS,
        |_| End::<_, WORDS>(sender.clone()),
        |_| End::<_, WORDS>(receiver.clone()),
    )
}

impl<M: Content<WORDS>, const WORDS: usize> Outlet for End<Sender<M>, WORDS> {
    #[inline]
    fn send(&mut self, number: u64) -> u64 {
        self.0.send(M::of(number)).expect("there are receivers");
        1
    }
}

impl<M: Content<WORDS>, const WORDS: usize> Inlet for End<Receiver<M>, WORDS> {
    #[inline]
    fn recv(&mut self, tally: &mut Tally) {
        tally.read(self.0.recv().expect("there are senders").words());
    }
}

/// Two channels, one in each direction.
struct Both {
    there: Sender<u64>,
    back: Receiver<u64>,
    polling: bool,
}

impl Exchange for Both {
    #[inline]
    fn send(&mut self, number: u64) {
        self.there.send(number).expect("there is a receiver");
    }

    #[inline]
    fn recv(&mut self) -> u64 {
        if !self.polling {
            return self.back.recv().expect("there is a sender");
        }
        loop {
            match self.back.try_recv() {
                Ok(number) => return number,
                Err(TryRecvError::Empty) => spin_loop(),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

pub(crate) fn round_trip(setting: &Setting, place: Place, polling: bool) -> Result<f64, String> {
    let channels = [bounded(16), bounded(16)];
    trip::measure(setting, Kind::Threads, place, |side| Both {
        there: channels[side].0.clone(),
        back: channels[1 - side].1.clone(),
        polling,
    })
}
