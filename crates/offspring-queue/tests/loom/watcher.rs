//! Models of one who waits for a message and leaves it to others.

use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;
use offspring_queue::raw::{Blocked, Look, Vigil, Watched};
use offspring_sync::primitive::model::Mutant;
use offspring_sync::primitive::{AtomicU32, AtomicU64, Mode, Ordering};
use offspring_sync::raw::{EventCount, Lives};

use super::{MUTANT, ONE, World, at_every_step, cursor, explore, live, must_fail, must_notice, tag};

/// A ring as something that is waited for and not taken from.
struct Arrivals<'a, const N: usize> {
    world: &'a World<N>,
    cursor: AtomicU64,
    me: usize,
}

impl<const N: usize> Watched for Arrivals<'_, N> {
    fn bell(&self) -> &EventCount {
        &self.world.arrivals
    }

    fn mode(&self) -> Mode {
        Mode::Asymmetric
    }

    fn look(&self, _thoroughly: bool) -> Look<'_> {
        loop {
            return match self.world.ring().is_at_rest(&self.cursor, tag(self.me)) {
                Ok(()) => Look::Waiting,
                Err(Blocked::Behind(holder)) => match self.world.members.life(holder).unwrap() {
                    life if life.dead => continue,
                    life => Look::Behind(life),
                },
                Err(_) => Look::Ready,
            };
        }
    }
}

/// Sleeps until there is a message, and leaves it to others.
fn watch<const N: usize>(world: &World<N>, me: usize) {
    let arrivals = Arrivals {
        world,
        cursor: cursor(),
        me,
    };
    let far = Instant::now() + Duration::from_secs(1 << 20);
    let mut vigil = Vigil::new();
    vigil.push(&arrivals);
    // It ends when there was one, also if another has taken it since.
    while vigil.sleep(None, Some(far), false).is_none() && !arrivals.look(false).is_ready() {}
}

/// The fault of watchers that pass no wake on.
const SELFISH: &str = "Selfish";

/// One waits and takes nothing, and dies at each step; another takes the message nevertheless, without a nap's help unless
/// somebody died.
#[test]
fn a_watcher_keeps_no_wake() {
    let selfish = std::env::var(MUTANT).is_ok_and(|fault| fault == SELFISH);
    let watch = if selfish { watch_selfishly } else { watch };
    at_every_step(move |stop| {
        let world = World::<1>::new(false);
        let watcher = {
            let world = Arc::clone(&world);
            thread::spawn(move || live(&world.members, 0, stop, || watch(&world, 0)))
        };
        let taker = {
            let world = Arc::clone(&world);
            thread::spawn(move || live(&world.members, 1, None, || assert_eq!(world.receive(&cursor(), 1), 1)))
        };
        world.send(&cursor(), 2, 1);
        taker.join().unwrap();
        // A watcher that came too late would wait for the next message.
        world.send(&cursor(), 2, 2);
        watcher.join().unwrap();
    });
}

/// As [`watch`], but keeps a wake to itself.
fn watch_selfishly<const N: usize>(world: &World<N>, me: usize) {
    let arrivals = Arrivals {
        world,
        cursor: cursor(),
        me,
    };
    let far = Instant::now() + Duration::from_secs(1 << 20);
    let ticket = world.arrivals.prepare(Mode::Asymmetric);
    if !arrivals.look(false).is_ready() {
        world.arrivals.wait(ticket, &[], Some(far));
    }
}

#[test]
fn a_kept_wake_is_noticed() {
    must_notice(SELFISH, "watcher::a_watcher_keeps_no_wake");
}

#[test]
fn a_watchers_missing_fence_is_noticed() {
    must_fail(Mutant::NoFence, "watcher::a_watcher_keeps_no_wake");
}

/// A message, and the end right after it: of two who wait one gets the message, and the other hears of the end.
#[test]
fn the_end_is_heard_by_all_who_wait() {
    let _one = ONE.lock().unwrap_or_else(|poison| poison.into_inner());
    explore(|| {
        let world = World::<1>::new(false);
        let over = Arc::new(AtomicU32::new(0));
        // The model wants its words made before the threads part.
        assert_eq!(over.load(Ordering::SeqCst), 0);
        let receivers = [0, 1].map(|me| {
            let (world, over) = (Arc::clone(&world), Arc::clone(&over));
            thread::spawn(move || {
                let cursor = cursor();
                let is_over = |_| (over.load(Ordering::SeqCst) == 1).then_some(());
                let receive = world.waiting(&world.arrivals, Mode::Asymmetric);
                let more = || world.ring().has_message(&cursor);
                receive.run(|| world.try_receive(&cursor, me), more, is_over).is_ok()
            })
        });
        world.send(&cursor(), 2, 1);
        over.fetch_or(1, Ordering::SeqCst);
        world.arrivals.notify_all();
        let received = receivers.map(|receiver| receiver.join().unwrap());
        assert_eq!(received.iter().filter(|&&received| received).count(), 1);
    });
}
