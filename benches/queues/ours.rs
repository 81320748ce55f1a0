//! Our queues, between forked members of the family.

use std::hint::spin_loop;
use std::sync::{Mutex, PoisonError};

use offspring::queue::TryRecvError;
use offspring::spsc::{self, Consumer, Producer};
use offspring::{Message, Parcel, Queue, Receiver, Sender};
use offspring_benches::{Kind, Setting};

use crate::content::{Content, END, Tally, word};
use crate::flow::{self, Inlet, Outlet, Plan};
use crate::place::Place;
use crate::trip::{self, Exchange};

pub(crate) fn queue<T: Message>(capacity: usize) -> Result<Queue<T>, String> {
    Queue::new(capacity).map_err(|error| error.to_string())
}

/// One message in a call: an end of a queue that carries so many words in a message.
struct Single<E, const WORDS: usize>(E);

pub(crate) fn values<M: Message + Content<WORDS>, const WORDS: usize>(
    setting: &Setting,
    plan: Plan,
    capacity: usize,
) -> Result<f64, String> {
    let queue = queue::<M>(capacity)?;
    flow::rate(
        setting,
        Kind::Family,
        plan,
        WORDS,
        |_| Single::<_, WORDS>(queue.sender()),
        |_| Single::<_, WORDS>(queue.receiver()),
    )
}

impl<M: Message + Content<WORDS>, const WORDS: usize> Outlet for Single<Sender<M>, WORDS> {
    #[inline]
    fn send(&mut self, number: u64) -> u64 {
        self.0.send(M::of(number)).expect("there are receivers");
        1
    }
}

impl<M: Message + Content<WORDS>, const WORDS: usize> Inlet for Single<Receiver<M>, WORDS> {
    #[inline]
    fn recv(&mut self, tally: &mut Tally) {
        tally.read(self.0.recv().expect("there are senders").words());
    }
}

/// A pair of one producer and one consumer. Each party is a fork, and takes its end out of its own copy.
pub(crate) fn pair<M: Message + Content<WORDS>, const WORDS: usize>(
    setting: &Setting,
    plan: Plan,
    capacity: usize,
) -> Result<f64, String> {
    let (producer, consumer) = spsc::channel::<M>(capacity).map_err(|error| error.to_string())?;
    let (producer, consumer) = (Mutex::new(Some(producer)), Mutex::new(Some(consumer)));
    flow::rate(
        setting,
        Kind::Family,
        plan,
        WORDS,
        |_| Single::<_, WORDS>(taken(&producer)),
        |_| Single::<_, WORDS>(taken(&consumer)),
    )
}

fn taken<E>(end: &Mutex<Option<E>>) -> E {
    let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
    end.take().expect("there is one party for each end")
}

impl<M: Message + Content<WORDS>, const WORDS: usize> Outlet for Single<Producer<M>, WORDS> {
    #[inline]
    fn send(&mut self, number: u64) -> u64 {
        self.0.send(M::of(number)).expect("there is a consumer");
        1
    }
}

impl<M: Message + Content<WORDS>, const WORDS: usize> Inlet for Single<Consumer<M>, WORDS> {
    #[inline]
    fn recv(&mut self, tally: &mut Tally) {
        tally.read(self.0.recv().expect("there is a producer").words());
    }
}

/// Many messages in a call.
struct Many<M: Message, const WORDS: usize>(Queue<M>, Vec<M>);

const BATCH: usize = 64;

pub(crate) fn many<M: Message + Content<WORDS>, const WORDS: usize>(
    setting: &Setting,
    plan: Plan,
    capacity: usize,
) -> Result<f64, String> {
    let queue = queue::<M>(capacity)?;
    let end = |_| Many::<M, WORDS>(queue.clone(), Vec::new());
    flow::rate(setting, Kind::Family, plan, WORDS, end, end)
}

impl<M: Message + Content<WORDS>, const WORDS: usize> Outlet for Many<M, WORDS> {
    #[inline]
    fn send(&mut self, number: u64) -> u64 {
        let numbers = number..number + BATCH as u64;
        self.0.send_many(numbers.map(M::of)).expect("there are receivers");
        BATCH as u64
    }

    fn end(&mut self) {
        self.0.send(M::of(END)).expect("there are receivers");
    }
}

impl<M: Message + Content<WORDS>, const WORDS: usize> Inlet for Many<M, WORDS> {
    #[inline]
    fn recv(&mut self, tally: &mut Tally) {
        self.0.recv_many(&mut self.1, BATCH).expect("there are senders");
        for message in self.1.drain(..) {
            tally.read(message.words());
        }
        // A batch may hold the end that another consumer waits for.
        for _ in 1..tally.ends {
            self.end();
        }
    }
}

/// Vectors that are made where they are read.
struct View<E, const WORDS: usize>(E);

pub(crate) fn views<const WORDS: usize>(setting: &Setting, plan: Plan, capacity: usize) -> Result<f64, String> {
    let queue = queue::<Vec<u64>>(capacity)?;
    flow::rate(
        setting,
        Kind::Family,
        plan,
        WORDS,
        |_| View::<_, WORDS>(queue.sender()),
        |_| View::<_, WORDS>(queue.receiver()),
    )
}

impl<const WORDS: usize> Outlet for View<Sender<Vec<u64>>, WORDS> {
    fn send(&mut self, number: u64) -> u64 {
        let parcel = Parcel::from_fn(WORDS, |place| word(number, place)).expect("the arena has room");
        self.0.send_parcel(parcel).expect("there are receivers");
        1
    }
}

impl<const WORDS: usize> Inlet for View<Receiver<Vec<u64>>, WORDS> {
    fn recv(&mut self, tally: &mut Tally) {
        let view = self.0.recv_view().expect("there are senders");
        let sum = view.iter().fold(0_u64, |sum, word| sum.wrapping_add(word.to_native()));
        tally.add(view[0].to_native(), sum);
    }
}

/// Two queues, one in each direction.
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

/// Trying again and again, or with the call that waits.
pub(crate) fn round_trip(setting: &Setting, place: Place, polling: bool) -> Result<f64, String> {
    let queues = [queue(16)?, queue(16)?];
    trip::measure(setting, Kind::Family, place, |side| Both {
        there: queues[side].sender(),
        back: queues[1 - side].receiver(),
        polling,
    })
}
