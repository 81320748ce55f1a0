//! Models of the ring of one producer and one consumer, either of which stops for ever before each of its steps.

use loom::sync::Arc;
use loom::thread;
use offspring_queue::raw::{Ended, Place, Position, SpscRing, SpscWait};
use offspring_sync::Tag;
use offspring_sync::primitive::{AtomicU32, Mode, Ordering};
use offspring_sync::raw::{EventCount, Spin};

use super::{FREE, Members, Mutant, TAKEN, TRANSIT, World, at_every_step, explore, live, must_fail, tag};

const PRODUCER: usize = 0;
const CONSUMER: usize = 1;
const MESSAGES: u64 = 3;

struct Pair<const N: usize> {
    world: Arc<World<N>>,
    /// Somebody dropped its end.
    over: AtomicU32,
}

/// One side, and where it stands.
struct Half<'a, const N: usize> {
    pair: &'a Pair<N>,
    me: usize,
    at: Position,
}

impl<const N: usize> Pair<N> {
    fn new(blocks: bool) -> Arc<Self> {
        let pair = Self {
            world: World::new(blocks),
            over: AtomicU32::new(0),
        };
        // The model wants its words made before the threads part.
        pair.over.load(Ordering::Relaxed);
        Arc::new(pair)
    }

    fn half(&self, me: usize) -> Half<'_, N> {
        Half {
            pair: self,
            me,
            at: Position::from_word(0),
        }
    }

    fn is_dead(&self, who: usize) -> bool {
        use offspring_sync::raw::Lives;
        self.world.members.life(tag(who)).is_some_and(|life| life.dead)
    }

    /// What became of the blocks: received, never sent, or where the ring's ledger finds them; or with a dead consumer.
    fn assert_no_block_leaked(&self, received: &[u64], consumer_died: bool) {
        for message in 1..=MESSAGES {
            let listed = (0..N).any(|slot| self.world.payload[slot][0].load(Ordering::Relaxed) == message);
            match self.world.whereabouts[message as usize].load(Ordering::Relaxed) {
                0 => assert!(!received.contains(&message)),
                FREE => assert!(received.contains(&message) || consumer_died),
                TRANSIT => assert!(listed, "a block that nothing names"),
                TAKEN => assert!(consumer_died, "a block that nobody has"),
                other => panic!("block {message} is {other}"),
            }
        }
    }
}

impl<const N: usize> Half<'_, N> {
    fn ring(&self) -> SpscRing<'_, World<N>> {
        SpscRing::new(&self.pair.world)
    }

    fn wait<R>(
        &self,
        bell: &EventCount,
        attempt: impl FnMut() -> Result<R, offspring_queue::raw::Blocked>,
    ) -> Option<R> {
        let peer = PRODUCER + CONSUMER - self.me;
        let wait: SpscWait<'_, Members> = SpscWait {
            lives: &self.pair.world.members,
            bell,
            mode: Mode::Asymmetric,
            deadline: None,
            spin: Spin::none(),
        };
        let over = |_| self.pair.over.load(Ordering::Acquire) != 0 || self.pair.is_dead(peer);
        match wait.run(attempt, || Some::<Tag>(tag(peer)), over) {
            Ok(got) => Some(got),
            Err(Ended::Stopped(())) => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn send(&mut self, message: u64) -> bool {
        let world = &self.pair.world;
        let Some(slot) = self.wait(world.departures(), || self.ring().vacancy(self.at)) else {
            return false;
        };
        let slot = slot as usize;
        world.payload[slot][0].store(message, Ordering::Relaxed);
        world.payload[slot][1].store(message * 3, Ordering::Relaxed);
        if world.blocks {
            world.whereabouts[message as usize].store(TRANSIT, Ordering::Release);
        }
        self.at = self.ring().publish(self.at);
        true
    }

    fn receive(&mut self) -> Option<u64> {
        let world = &self.pair.world;
        let slot = self.wait(world.arrivals(), || self.ring().front(self.at))?;
        let words = [0, 1].map(|word| world.payload[slot as usize][word].load(Ordering::Relaxed));
        assert_eq!(words[1], words[0] * 3, "a torn message");
        let block = world
            .blocks
            .then(|| world.withdraw(slot).expect("the block is in the ring"));
        self.at = self.ring().release(self.at);
        if let Some(block) = block {
            assert_eq!(block, words[0]);
            world.free(block);
        }
        Some(words[0])
    }

    fn leave(&self) {
        self.pair.over.swap(1, Ordering::SeqCst);
        self.pair.world.arrivals().notify_all();
        self.pair.world.departures().notify_all();
    }
}

/// The producer dies at each step; the consumer gets the first messages, those and no others, and then its end.
fn producer_dies<const N: usize>(blocks: bool) {
    at_every_step(move |stop| {
        let pair = Pair::<N>::new(blocks);
        let doomed = {
            let pair = Arc::clone(&pair);
            thread::spawn(move || {
                live(&pair.world.members, PRODUCER, stop, || {
                    let mut producer = pair.half(PRODUCER);
                    for message in 1..=MESSAGES {
                        assert!(producer.send(message), "the consumer is there");
                    }
                    producer.leave();
                })
            })
        };
        let mut consumer = pair.half(CONSUMER);
        let mut received = Vec::new();
        while let Some(message) = consumer.receive() {
            received.push(message);
        }
        let survived = doomed.join().unwrap();
        assert!(received.iter().copied().eq(1..=received.len() as u64), "{received:?}");
        assert!(received.len() as u64 == MESSAGES || !survived, "{received:?}");
        if blocks {
            pair.assert_no_block_leaked(&received, false);
        }
        assert_eq!(SpscRing::new(&*pair.world).head(), consumer.at);
    });
}

#[test]
fn a_producer_dies_with_inline_messages() {
    producer_dies::<1>(false);
}

#[test]
fn a_producer_dies_with_blocks() {
    producer_dies::<2>(true);
}

/// The consumer dies at each step; the producer comes to its end, and no message was received twice.
fn consumer_dies<const N: usize>(blocks: bool) {
    at_every_step(move |stop| {
        let pair = Pair::<N>::new(blocks);
        let doomed = {
            let pair = Arc::clone(&pair);
            thread::spawn(move || {
                let mut received = Vec::new();
                let survived = live(&pair.world.members, CONSUMER, stop, || {
                    let mut consumer = pair.half(CONSUMER);
                    for _ in 1..MESSAGES {
                        received.extend(consumer.receive());
                    }
                    consumer.leave();
                });
                (received, survived)
            })
        };
        let mut producer = pair.half(PRODUCER);
        let sent = (1..=MESSAGES).take_while(|&message| producer.send(message)).count();
        producer.leave();
        let (received, survived) = doomed.join().unwrap();
        assert!(received.iter().copied().eq(1..=received.len() as u64), "{received:?}");
        assert!(sent >= received.len() && (!survived || received.len() as u64 == MESSAGES - 1));
        if blocks {
            pair.assert_no_block_leaked(&received, !survived);
        }
        assert_eq!(SpscRing::new(&*pair.world).tail(), producer.at);
    });
}

#[test]
fn a_consumer_dies_with_inline_messages() {
    consumer_dies::<1>(false);
}

#[test]
fn a_consumer_dies_with_blocks() {
    consumer_dies::<2>(true);
}

/// An end changes hands while the other side goes on: the next user finds its place in the slots.
#[test]
fn an_end_changes_hands() {
    explore(|| {
        let pair = Pair::<2>::new(false);
        let producing = {
            let pair = Arc::clone(&pair);
            thread::spawn(move || {
                let mut producer = pair.half(PRODUCER);
                (1..=MESSAGES).for_each(|message| assert!(producer.send(message)));
            })
        };
        let first = pair.half(CONSUMER).receive();
        let mut next = pair.half(CONSUMER);
        next.at = next.ring().head();
        assert_eq!([first, next.receive(), next.receive()], [Some(1), Some(2), Some(3)]);
        producing.join().unwrap();
        assert_eq!((next.ring().head(), next.ring().tail()), (next.at, next.at));
    });
}

#[test]
fn a_dropped_wake_is_noticed() {
    must_fail(Mutant::NoWake, "spsc::a_producer_dies_with_inline_messages");
    must_fail(Mutant::NoWake, "spsc::a_consumer_dies_with_inline_messages");
}

#[test]
fn a_missing_fence_is_noticed() {
    must_fail(Mutant::NoFence, "spsc::a_producer_dies_with_inline_messages");
}

#[test]
fn a_missing_release_is_noticed() {
    must_fail(Mutant::NoRelease, "spsc::a_producer_dies_with_inline_messages");
}

#[test]
fn a_blind_sleep_is_noticed() {
    must_fail(Mutant::SleepBlindly, "spsc::a_consumer_dies_with_inline_messages");
}
