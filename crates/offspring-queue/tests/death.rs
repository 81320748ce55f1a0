//! What is left in a queue by processes that were killed, and who is told.

mod support;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use offspring_queue::{JoinableQueue, Queue, Receiver, Sender};
use offspring_testing::{run_single_threaded, wait_until};
use rkyv::rancor::Fallible;
use rkyv::{Archive, Deserialize, Serialize};
use support::{fork, scene};

/// A message that is held when its holder is killed comes again, and says so.
fn a_lease_of_the_dead_is_delivered_again() {
    let scene = scene();
    for size in [3, 100_000] {
        let (queue, holding) = (Queue::<Vec<u8>>::new(4).unwrap(), Queue::<u32>::new(1).unwrap());
        queue.send(vec![1; size]).unwrap();
        for deliveries in 1..4 {
            let child = fork({
                let (queue, holding) = (queue.clone(), holding.clone());
                move || {
                    let view = queue.recv_view().unwrap();
                    holding.send(view.delivery_count()).unwrap();
                    std::thread::sleep(Duration::from_secs(100));
                }
            });
            assert_eq!(holding.recv().unwrap(), deliveries);
            assert!(queue.try_recv().unwrap_err().is_empty(), "somebody holds it");
            child.kill();
        }
        let view = queue.recv_view().unwrap();
        assert_eq!((view.len(), view.delivery_count()), (size, 4));
        drop(view);
        assert!(queue.is_empty());
        drop((queue, holding));
    }
    scene.end();
}

/// Whoever sleeps because of a lease is woken by the death of its holder, not by a nap.
fn the_holders_death_wakes_the_next_receiver() {
    let scene = scene();
    let (queue, answers) = (Queue::<u32>::new(1).unwrap(), Queue::<u32>::new(1).unwrap());
    queue.send(7).unwrap();
    let holder = fork({
        let (queue, answers) = (queue.clone(), answers.clone());
        move || {
            let view = queue.recv_view().unwrap();
            answers.send(view.to_native()).unwrap();
            std::thread::sleep(Duration::from_secs(100));
        }
    });
    answers.recv().unwrap();
    let next = fork({
        let (queue, answers) = (queue.clone(), answers.clone());
        move || answers.send(queue.recv().unwrap()).unwrap()
    });
    // Its naps are long by then.
    std::thread::sleep(Duration::from_millis(1200));
    next.await_sleep();
    let started = Instant::now();
    holder.kill();
    assert_eq!(answers.recv().unwrap(), 7);
    assert!(
        started.elapsed() < Duration::from_millis(150),
        "took {:?}",
        started.elapsed()
    );
    next.join();
    drop((queue, answers));
    scene.end();
}

/// A killed worker's task is given to another, and `join` waits for that one.
fn a_killed_workers_task_is_done_by_another() {
    let scene = scene();
    let (queue, started) = (JoinableQueue::<String>::new(4).unwrap(), Queue::<u32>::new(4).unwrap());
    let worker = |patience: Duration| {
        let (tasks, started) = (queue.receiver().unwrap(), started.clone());
        fork(move || {
            while let Ok(task) = tasks.recv() {
                started.send(task.delivery_count()).unwrap();
                std::thread::sleep(patience);
                task.done();
            }
        })
    };
    let doomed = worker(Duration::from_secs(100));
    queue.send("work".to_string()).unwrap();
    assert_eq!(started.recv().unwrap(), 1);
    doomed.kill();
    assert!(queue.join().unwrap_err().is_deserted());
    let other = worker(Duration::from_millis(1));
    queue.join().unwrap();
    assert_eq!(started.recv().unwrap(), 2);
    // The last worker dies with a task: nobody waits for ever.
    let doomed = worker(Duration::from_secs(100));
    other.kill();
    queue.send("more".to_string()).unwrap();
    started.recv().unwrap();
    doomed.kill_only();
    assert!(queue.join().unwrap_err().is_deserted());
    doomed.kill();
    drop((queue, started));
    scene.end();
}

/// A process that was killed counts as gone, also before anybody has reaped it.
fn the_dead_count_as_gone() {
    let scene = scene();
    let posts = (
        Queue::<Sender<u32>>::new(1).unwrap(),
        Queue::<Receiver<u32>>::new(1).unwrap(),
    );
    let child = fork({
        let posts = posts.clone();
        move || {
            let sender = posts.0.recv().unwrap();
            let _receiver = posts.1.recv().unwrap();
            sender.send(1).unwrap();
            std::thread::sleep(Duration::from_secs(100));
        }
    });
    let (sender, receiver) = Queue::new(1).unwrap().split();
    posts.0.send(sender).unwrap();
    let (full, dead_end) = Queue::new(1).unwrap().split();
    posts.1.send(dead_end).unwrap();
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(
        receiver
            .recv_timeout(Duration::from_millis(100))
            .unwrap_err()
            .is_timeout()
    );
    child.kill_only();
    assert!(
        receiver
            .recv_timeout(Duration::from_secs(5))
            .unwrap_err()
            .is_disconnected()
    );
    full.send(1).unwrap();
    assert!(
        full.send_timeout(2, Duration::from_secs(5))
            .unwrap_err()
            .is_disconnected()
    );
    child.kill();
    drop((posts, receiver, full));
    scene.end();
}

/// Whoever releases a dead process tells those who wait for it: nobody finds out by asking from time to time.
fn the_released_are_gone_at_once() {
    let scene = scene();
    let (sender, receiver) = Queue::<u32>::new(1).unwrap().split();
    let child = fork({
        let sender = sender.clone();
        move || {
            sender.send(1).unwrap();
            std::thread::sleep(Duration::from_secs(100));
        }
    });
    drop(sender);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(receiver.try_recv().unwrap_err().is_empty());
    child.kill();
    assert!(receiver.try_recv().unwrap_err().is_disconnected());
    drop(receiver);
    scene.end();
}

/// Stands in a message for what goes wrong while it is decoded.
#[derive(Archive, Serialize)]
struct Trap;

static ARMED: AtomicBool = AtomicBool::new(false);

impl<D: Fallible + ?Sized> Deserialize<Trap, D> for ArchivedTrap {
    fn deserialize(&self, _: &mut D) -> Result<Trap, D::Error> {
        if ARMED.load(Ordering::Relaxed) {
            std::process::abort();
        }
        Ok(Trap)
    }
}

#[derive(Archive, Serialize, Deserialize)]
struct Mail {
    trap: Trap,
    padding: Vec<u8>,
    sender: Sender<u32>,
}

/// Whoever dies between taking a message and having the end of a queue that it brings leaves both to the next.
fn an_end_is_not_lost_with_one_who_took_it() {
    let scene = scene();
    for size in [0, 10_000] {
        let mails = Queue::<Mail>::new(1).unwrap();
        let (sender, receiver) = Queue::new(1).unwrap().split();
        let mail = Mail {
            trap: Trap,
            padding: vec![7; size],
            sender,
        };
        assert!(mails.send(mail).is_ok());
        let victim = fork({
            let mails = mails.clone();
            move || {
                ARMED.store(true, Ordering::Relaxed);
                let _ = mails.recv();
            }
        });
        assert!(wait_until(Duration::from_secs(10), || !victim.is_running()));
        drop(victim);
        let mail = mails.recv().unwrap();
        assert_eq!(mail.padding.len(), size);
        mail.sender.send(1).unwrap();
        assert_eq!(receiver.recv().unwrap(), 1);
        drop(mail);
        assert!(receiver.recv().unwrap_err().is_disconnected());
        drop((mails, receiver));
    }
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[
        (
            "a_lease_of_the_dead_is_delivered_again",
            a_lease_of_the_dead_is_delivered_again,
        ),
        (
            "the_holders_death_wakes_the_next_receiver",
            the_holders_death_wakes_the_next_receiver,
        ),
        (
            "a_killed_workers_task_is_done_by_another",
            a_killed_workers_task_is_done_by_another,
        ),
        ("the_dead_count_as_gone", the_dead_count_as_gone),
        ("the_released_are_gone_at_once", the_released_are_gone_at_once),
        (
            "an_end_is_not_lost_with_one_who_took_it",
            an_end_is_not_lost_with_one_who_took_it,
        ),
    ])
}
