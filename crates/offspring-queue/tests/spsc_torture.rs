//! The users of a pair are killed at random moments, and an oracle keeps account of every message.
//!
//! `OFFSPRING_TORTURE_SECONDS` makes it longer than a few seconds, `OFFSPRING_TORTURE_SEED` repeats a run.
//!
//! In each round a producer streams to a consumer, or to two that hand the consuming end to and fro through a queue. After a
//! moment one of them is killed, or both sides are; the other side must come to its end by itself. What was received must be the
//! first messages, each once and in order; every message whose send returned, if it is the producer that was killed; and nothing
//! may be left in the arena.

mod support;

use std::env;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant, SystemTime};

use offspring_queue::spsc::{self, Consumer, Producer};
use offspring_queue::{Message, Queue};
use offspring_shm::SharedSlice;
use offspring_testing::run_single_threaded;
use support::{Child, fork, scene_of};

/// A kind of messages: the number-th is sent and received, and checked.
trait Kind: Message {
    fn send(producer: &Producer<Self>, number: u64) -> bool;
    /// `None` at the end.
    fn receive(consumer: &Consumer<Self>, number: u64) -> Option<()>;
}

/// Values in their slots.
impl Kind for [u64; 4] {
    fn send(producer: &Producer<Self>, number: u64) -> bool {
        gone(producer.send([number, number ^ 5, !number, number << 1]))
    }

    fn receive(consumer: &Consumer<Self>, number: u64) -> Option<()> {
        let message = end(consumer.recv())?;
        assert_eq!(
            message,
            [number, number ^ 5, !number, number << 1],
            "another message, or a torn one"
        );
        Some(())
    }
}

const LENGTHS: [usize; 5] = [2, 40, 3, 300, 3000];

/// Small values lie in their slots, large ones in blocks.
impl Kind for Vec<u64> {
    fn send(producer: &Producer<Self>, number: u64) -> bool {
        gone(producer.send(vec![number; LENGTHS[number as usize % LENGTHS.len()]]))
    }

    fn receive(consumer: &Consumer<Self>, number: u64) -> Option<()> {
        let message = end(consumer.recv())?;
        assert_eq!(
            message.len(),
            LENGTHS[number as usize % LENGTHS.len()],
            "another message"
        );
        assert!(message.iter().all(|&word| word == number), "a torn message");
        Some(())
    }
}

/// Raw bytes, of the same lengths.
impl Kind for () {
    fn send(producer: &Producer<Self>, number: u64) -> bool {
        let bytes = [number as u8; 3000];
        gone(producer.send_bytes(&bytes[..LENGTHS[number as usize % LENGTHS.len()]]))
    }

    fn receive(consumer: &Consumer<Self>, number: u64) -> Option<()> {
        let mut buffer = [0; 3000];
        let len = if number.is_multiple_of(2) {
            match consumer.recv_bytes_into(&mut buffer) {
                Err(error) if error.is_disconnected() => return None,
                received => received.unwrap(),
            }
        } else {
            let bytes = end(consumer.recv_bytes())?;
            buffer[..bytes.len()].copy_from_slice(&bytes);
            bytes.len()
        };
        assert_eq!(len, LENGTHS[number as usize % LENGTHS.len()], "another message");
        assert!(buffer[..len].iter().all(|&byte| byte == number as u8), "a torn message");
        Some(())
    }
}

/// Whether it was sent; if not, then because the consumer is gone.
fn gone<T>(sent: Result<(), offspring_queue::SendError<T>>) -> bool {
    match sent {
        Err(error) if error.is_disconnected() => false,
        sent => {
            sent.unwrap();
            true
        }
    }
}

/// What was received; `None` if the producer is gone.
fn end<T>(received: Result<T, offspring_queue::RecvError>) -> Option<T> {
    match received {
        Err(error) if error.is_disconnected() => None,
        received => Some(received.unwrap()),
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

/// What outlives the processes: how many messages were attempted, sent and received.
#[derive(Clone)]
struct Notes(SharedSlice<AtomicU64>);

const ATTEMPTED: usize = 0;
const SENT: usize = 1;
const RECEIVED: usize = 2;

impl Notes {
    fn get(&self, which: usize) -> u64 {
        self.0[which].load(SeqCst)
    }
}

fn produce<T: Kind>(producer: &Producer<T>, notes: &Notes) {
    for number in 0.. {
        notes.0[ATTEMPTED].store(number + 1, SeqCst);
        if !T::send(producer, number) {
            return;
        }
        notes.0[SENT].store(number + 1, SeqCst);
    }
}

/// Receives up to `most` messages; false at the end.
fn consume<T: Kind>(consumer: &Consumer<T>, notes: &Notes, most: u64) -> bool {
    for _ in 0..most {
        let number = notes.get(RECEIVED);
        if T::receive(consumer, number).is_none() {
            return false;
        }
        assert!(number < notes.get(ATTEMPTED), "a phantom");
        notes.0[RECEIVED].store(number + 1, SeqCst);
    }
    true
}

/// One pair, from its making to the death of its users.
fn round<T: Kind>(random: &mut Random, notes: &Notes) -> u64 {
    for note in notes.0.iter() {
        note.store(0, SeqCst);
    }
    let capacity = [1, 2, 7, 64][random.below(4) as usize];
    let relayed = random.below(3) == 0;
    let (producer, consumer) = spsc::channel::<T>(capacity).unwrap();
    let producing = fork({
        let notes = notes.clone();
        move || produce(&producer, &notes)
    });
    let consuming: Vec<Child> = if relayed {
        let post = Queue::<Consumer<T>>::new(1).unwrap();
        let mut first = Some(consumer);
        let mut relay = || {
            let (post, notes, mut mine) = (post.clone(), notes.clone(), first.take());
            fork(move || {
                while let Some(consumer) = mine.take().or_else(|| post.recv().ok()) {
                    if !consume(&consumer, &notes, 20) {
                        return post.close();
                    }
                    if post.send(consumer).is_err() {
                        return;
                    }
                }
            })
        };
        vec![relay(), relay()]
    } else {
        let notes = notes.clone();
        vec![fork(move || assert!(!consume(&consumer, &notes, u64::MAX)))]
    };
    std::thread::sleep(Duration::from_micros(random.below(4000)));
    let kills = match random.below(5) {
        // The consumers come to their end.
        0 | 1 => {
            producing.kill();
            consuming.into_iter().for_each(Child::join);
            let (attempted, sent, received) = (notes.get(ATTEMPTED), notes.get(SENT), notes.get(RECEIVED));
            assert!(
                received == sent || received == attempted,
                "{received} messages were received of {sent} that were sent and {attempted} that were attempted"
            );
            1
        }
        // The producer comes to its end.
        2 | 3 => {
            let kills = consuming.len() as u64;
            consuming.into_iter().for_each(Child::kill);
            producing.join();
            kills
        }
        _ => {
            let kills = 1 + consuming.len() as u64;
            if random.below(2) == 0 {
                producing.kill();
                consuming.into_iter().for_each(Child::kill);
            } else {
                consuming.into_iter().for_each(Child::kill);
                producing.kill();
            }
            kills
        }
    };
    // In order and without gaps, or a check in `receive` failed; one in a killed consumer's hand may be lost.
    assert!(notes.get(RECEIVED) <= notes.get(ATTEMPTED));
    assert!(notes.get(SENT) <= notes.get(RECEIVED) + capacity as u64 + 1 || relayed);
    kills
}

fn either_side_is_killed() {
    let seconds: u64 = env::var("OFFSPRING_TORTURE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4);
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
    let notes = Notes(SharedSlice::zeroed(3).unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut rounds, mut kills, mut messages) = (0, 0, 0);
    while Instant::now() < until {
        kills += match random.below(3) {
            0 => round::<[u64; 4]>(&mut random, &notes),
            1 => round::<Vec<u64>>(&mut random, &notes),
            _ => round::<()>(&mut random, &notes),
        };
        rounds += 1;
        messages += notes.get(RECEIVED);
    }
    println!("{rounds} rounds, {kills} kills, {messages} messages received");
    drop(notes);
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[("either_side_is_killed", either_side_is_killed)])
}
