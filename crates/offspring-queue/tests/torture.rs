//! Producers and consumers are killed at random moments, and an oracle keeps account of every message.
//!
//! `OFFSPRING_TORTURE_SECONDS` makes it longer than a few seconds, `OFFSPRING_TORTURE_SEED` repeats a run.
//!
//! Each process keeps its notes in shared memory, where they survive it: a producer which message it is about to send and which
//! is sent, a consumer which messages it has received, and which it has in hand. Afterwards every message whose send returned
//! must have been received once; except that the one in a killed consumer's hand may be lost when it was taken, or received
//! again when it was leased. Nothing else may come twice, nothing may come that was not sent, and the messages of one producer
//! come in order, but for those that were redelivered.

mod support;

use std::env;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant, SystemTime};

use offspring_queue::{Message, Queue, wait_any};
use offspring_shm::SharedSlice;
use offspring_testing::run_single_threaded;
use support::{Child, fork, scene_of};

const PRODUCERS: usize = 2;
const CONSUMERS: usize = 2;
/// Who waits for messages and takes none.
const WATCHERS: usize = 1;
/// The most messages of one producer in one round.
const MOST: usize = 200_000;

/// What is sent: who sends it and its number.
trait Parcelled: Message {
    fn pack(producer: u64, number: u64) -> Self;
    fn unpack(&self) -> (u64, u64);
    fn unpack_view(view: &Self::Archived) -> (u64, u64);

    /// Whether a message lies in its slot. One in a block is leased for a moment when it is taken, and comes late when the
    /// taker is killed in that moment.
    fn is_inline(number: u64) -> bool;
}

impl Parcelled for [u64; 4] {
    fn pack(producer: u64, number: u64) -> Self {
        [producer, number, producer ^ number, !number]
    }

    fn unpack(&self) -> (u64, u64) {
        let [producer, number, both, not] = *self;
        assert!(both == producer ^ number && not == !number, "a torn message");
        (producer, number)
    }

    fn unpack_view(view: &Self::Archived) -> (u64, u64) {
        [0, 1, 2, 3].map(|at: usize| view[at].to_native()).unpack()
    }

    fn is_inline(_number: u64) -> bool {
        true
    }
}

/// Small ones lie in the slot, large ones in blocks.
impl Parcelled for Vec<u64> {
    fn pack(producer: u64, number: u64) -> Self {
        let len = [2, 40, 3, 300][number as usize % 4];
        let mut words = vec![producer ^ number; len];
        (words[0], words[len - 1]) = (producer, number);
        words
    }

    fn unpack(&self) -> (u64, u64) {
        let (producer, number) = (self[0], self[self.len() - 1]);
        assert_eq!(
            self.len(),
            [2, 40, 3, 300][number as usize % 4],
            "a message of another length"
        );
        assert!(
            self[1..self.len() - 1].iter().all(|&word| word == producer ^ number),
            "a torn message"
        );
        (producer, number)
    }

    fn unpack_view(view: &Self::Archived) -> (u64, u64) {
        view.iter().map(|word| word.to_native()).collect::<Self>().unpack()
    }

    fn is_inline(number: u64) -> bool {
        number.is_multiple_of(2)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What outlives the processes.
#[derive(Clone)]
struct Notes {
    /// For each producer the next message's number, before it is sent, and the number of those whose send returned.
    attempted: SharedSlice<AtomicU64>,
    sent: SharedSlice<AtomicU64>,
    /// For each producer and message: how often it was received.
    received: SharedSlice<AtomicU64>,
    /// For each message: whether the receiver that had it in hand was killed.
    in_hand: SharedSlice<AtomicU64>,
}

/// A producer's message that a killed consumer had in hand, as one word; 0 for none.
fn mark(producer: u64, number: u64) -> u64 {
    producer * MOST as u64 + number + 1
}

fn produce<T: Parcelled>(queue: &Queue<T>, notes: &Notes, producer: usize) -> ! {
    // The message that a killed one was sending may have been sent: its number is not used again.
    let mut number = notes.attempted[producer].load(SeqCst);
    loop {
        if number as usize + 1 >= MOST {
            std::thread::sleep(Duration::from_secs(3600));
        }
        notes.attempted[producer].store(number + 1, SeqCst);
        queue.send(T::pack(producer as u64, number)).unwrap();
        notes.sent[producer * MOST + number as usize].store(1, SeqCst);
        number += 1;
    }
}

fn count(notes: &Notes, (producer, number): (u64, u64)) {
    assert!(
        (producer as usize) < PRODUCERS && number < notes.attempted[producer as usize].load(SeqCst),
        "a phantom"
    );
    notes.received[producer as usize * MOST + number as usize].fetch_add(1, SeqCst);
}

fn consume<T: Parcelled>(queue: &Queue<T>, notes: &Notes, consumer: usize, leased: bool) -> ! {
    let mut latest = [None; PRODUCERS];
    loop {
        let (message, fresh) = if leased {
            let view = queue.recv_view().unwrap();
            let message = T::unpack_view(&view);
            notes.in_hand[consumer].store(mark(message.0, message.1), SeqCst);
            count(notes, message);
            let fresh = view.delivery_count() == 1;
            drop(view);
            (message, fresh)
        } else {
            // In hand from before it is taken: whatever comes out next.
            notes.in_hand[consumer].store(u64::MAX, SeqCst);
            let message = receive(queue, consumer).unpack();
            notes.in_hand[consumer].store(mark(message.0, message.1), SeqCst);
            count(notes, message);
            (message, T::is_inline(message.1))
        };
        notes.in_hand[consumer].store(0, SeqCst);
        let latest = &mut latest[message.0 as usize];
        assert!(!fresh || latest.is_none_or(|latest| latest < message.1), "out of order");
        *latest = (*latest).max(Some(message.1));
    }
}

/// Each consumer in its own way.
fn receive<T: Parcelled>(queue: &Queue<T>, consumer: usize) -> T {
    if consumer == 0 {
        return queue.recv().unwrap();
    }
    loop {
        assert_eq!(wait_any(&[queue], None).unwrap(), [0]);
        match queue.try_recv() {
            Ok(message) => return message,
            Err(error) => assert!(error.is_empty(), "{error}"),
        }
    }
}

fn watch<T: Parcelled>(queue: &Queue<T>) -> ! {
    let descriptor = queue.descriptor().unwrap();
    loop {
        wait_any(&[&descriptor], None).unwrap();
        descriptor.rearm().unwrap();
    }
}

fn torture<T: Parcelled>(capacity: usize, leased: bool, random: &mut Random, until: Instant) -> (u64, u64) {
    let queue = Queue::<T>::new(capacity).unwrap();
    let zeros = |len| SharedSlice::<AtomicU64>::zeroed(len).unwrap();
    let notes = Notes {
        attempted: zeros(PRODUCERS),
        sent: zeros(PRODUCERS * MOST),
        received: zeros(PRODUCERS * MOST),
        in_hand: zeros(CONSUMERS + WATCHERS),
    };
    // What dead consumers had in hand: known messages, and how many unknown ones.
    let (mut known, mut unknown) = (Vec::new(), 0);
    let start = |who: usize| {
        let (queue, notes) = (queue.clone(), notes.clone());
        fork(move || {
            if who < PRODUCERS {
                produce(&queue, &notes, who)
            } else if who < PRODUCERS + CONSUMERS {
                consume(&queue, &notes, who - PRODUCERS, leased)
            } else {
                watch(&queue)
            }
        })
    };
    let mut bury = |who: usize| {
        if who >= PRODUCERS {
            match notes.in_hand[who - PRODUCERS].swap(0, SeqCst) {
                0 => {}
                u64::MAX => unknown += 1,
                mark => known.push(mark - 1),
            }
        }
    };
    let mut family: Vec<Option<Child>> = (0..PRODUCERS + CONSUMERS + WATCHERS)
        .map(|who| Some(start(who)))
        .collect();
    let mut kills = 0;
    while Instant::now() < until {
        std::thread::sleep(Duration::from_micros(random.below(3000)));
        let victims = if random.below(4) == 0 { 2 } else { 1 };
        for _ in 0..victims {
            let who = random.below(family.len() as u64) as usize;
            if let Some(child) = family[who].take() {
                assert!(child.is_running(), "a process failed by itself");
                child.kill();
                kills += 1;
                bury(who);
            }
        }
        for (who, child) in family.iter_mut().enumerate() {
            child.get_or_insert_with(|| start(who));
        }
    }
    for (who, child) in family.iter_mut().enumerate() {
        let child = child.take().unwrap();
        assert!(child.is_running(), "a process failed by itself");
        child.kill();
        bury(who);
    }
    // Whatever is left is received here, and then the ring works a whole lap.
    loop {
        match queue.recv_timeout(Duration::from_millis(1)) {
            Ok(message) => count(&notes, message.unpack()),
            Err(error) if error.is_timeout() => break,
            Err(error) => panic!("{error}"),
        }
    }
    for _ in 0..capacity * 2 {
        queue.try_send(T::pack(0, 0)).unwrap();
        queue.try_recv().unwrap();
    }
    assert!(queue.is_empty());
    let (mut lost, mut doubled, mut total) = (0, 0, 0);
    for producer in 0..PRODUCERS {
        for number in 0..notes.attempted[producer].load(Relaxed) as usize {
            let at = producer * MOST + number;
            let sent = notes.sent[at].load(Relaxed) != 0;
            let received = notes.received[at].load(Relaxed);
            let excused = known.contains(&(at as u64));
            total += received;
            match received {
                0 if sent && excused => {}
                0 if sent => lost += 1,
                0 | 1 => {}
                _ if leased && excused => {}
                _ => doubled += 1,
            }
        }
    }
    assert!(
        lost <= unknown,
        "{lost} messages were lost, of which {unknown} may have been in a dead consumer's hand"
    );
    assert_eq!(doubled, 0, "messages came twice");
    (kills, total)
}

fn producers_and_consumers_are_killed() {
    let seconds: u64 = env::var("OFFSPRING_TORTURE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5);
    let seed = env::var("OFFSPRING_TORTURE_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(1, |now| now.as_nanos() as u64)
    });
    println!("seed {seed}");
    let mut random = Random(seed | 1);
    let scene = scene_of(Duration::from_secs(seconds * 2 + 60));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut round = 0;
    while Instant::now() < end {
        let until = end.min(Instant::now() + Duration::from_millis(600));
        let capacity = [1, 2, 7, 64][random.below(4) as usize];
        let (mode, (kills, total)) = match round % 4 {
            0 => ("take, inline", torture::<[u64; 4]>(capacity, false, &mut random, until)),
            1 => ("lease, inline", torture::<[u64; 4]>(capacity, true, &mut random, until)),
            2 => ("take, blocks", torture::<Vec<u64>>(capacity, false, &mut random, until)),
            _ => ("lease, blocks", torture::<Vec<u64>>(capacity, true, &mut random, until)),
        };
        println!("{mode}, capacity {capacity}: {kills} kills, {total} messages received");
        round += 1;
    }
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[("producers_and_consumers_are_killed", producers_and_consumers_are_killed)])
}
