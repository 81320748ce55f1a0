//! What is left of a pair whose users are killed, and who is told.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use offspring_queue::spsc::{self, Consumer};
use offspring_queue::{Queue, pipe};
use offspring_testing::run_single_threaded;
use support::{fork, scene};

/// Longer than any watchdog waits.
const FOR_EVER: Duration = Duration::from_secs(1000);

/// A killed producer is gone before anybody has reaped it, but what it sent is not.
fn what_a_killed_producer_sent_is_received() {
    let scene = scene();
    for size in [3, 100_000] {
        let (producer, consumer) = spsc::channel::<Vec<u8>>(4).unwrap();
        let child = fork(move || {
            producer.send_many([vec![1; size], vec![2; size]]).unwrap();
            std::thread::sleep(FOR_EVER);
        });
        while consumer.len() < 2 {
            std::thread::yield_now();
        }
        child.kill_only();
        assert_eq!(consumer.recv().unwrap(), vec![1; size]);
        assert_eq!(consumer.recv().unwrap(), vec![2; size]);
        assert!(consumer.try_recv().unwrap_err().is_disconnected());
        assert!(consumer.recv().unwrap_err().is_disconnected());
        child.kill();
    }
    scene.end();
}

/// A consumer that sleeps is told of the death of the producer, and the other way round.
fn the_death_of_the_other_ends_a_sleep() {
    let scene = scene();
    let ready = Queue::<()>::new(1).unwrap();
    for reaped in [false, true] {
        let (producer, consumer) = spsc::channel::<String>(1).unwrap();
        let doomed = fork(|| {
            producer.send("first".to_string()).unwrap();
            std::thread::sleep(FOR_EVER);
        });
        drop(producer);
        let waiting = fork({
            let ready = ready.clone();
            move || {
                assert_eq!(consumer.recv().unwrap(), "first");
                ready.send(()).unwrap();
                assert!(consumer.recv().unwrap_err().is_disconnected());
            }
        });
        ready.recv().unwrap();
        waiting.await_sleep();
        end(doomed, reaped, || waiting.join());

        let (producer, consumer) = spsc::channel::<String>(1).unwrap();
        let doomed = fork(|| {
            assert_eq!(consumer.recv().unwrap(), "first");
            ready.send(()).unwrap();
            std::thread::sleep(FOR_EVER);
        });
        drop(consumer);
        let waiting = fork({
            let ready = ready.clone();
            move || {
                producer.send("first".to_string()).unwrap();
                producer.send("second".to_string()).unwrap();
                ready.send(()).unwrap();
                let error = producer.send("third".to_string()).unwrap_err();
                assert!(error.is_disconnected() && error.into_inner() == "third");
            }
        });
        ready.recv().unwrap();
        ready.recv().unwrap();
        waiting.await_sleep();
        end(doomed, reaped, || waiting.join());
    }
    drop(ready);
    scene.end();
}

/// Kills a child before `then`, and reaps it before or after.
fn end(child: support::Child, reaped: bool, then: impl FnOnce()) {
    if reaped {
        child.kill();
        then();
    } else {
        child.kill_only();
        then();
        child.kill();
    }
}

/// A producer whose ring is far from full gets its value back soon after the consumer was killed.
fn a_producer_does_not_send_to_the_dead() {
    let scene = scene();
    let (producer, consumer) = spsc::channel::<u64>(1000).unwrap();
    let (letters, letter_box) = spsc::channel::<String>(1000).unwrap();
    let child = fork(|| {
        assert_eq!(
            (consumer.recv().unwrap(), letter_box.recv().unwrap()),
            (1, "one".to_string())
        );
        std::thread::sleep(FOR_EVER);
    });
    producer.send(1).unwrap();
    letters.send("one".to_string()).unwrap();
    while !producer.is_empty() || !letters.is_empty() {
        std::thread::yield_now();
    }
    child.kill_only();
    let sent = (0..100).take_while(|&number| producer.send(number).is_ok()).count();
    assert!(sent <= 16, "{sent} messages were sent to the dead");
    let error = letters.send("two".to_string()).unwrap_err();
    assert!(error.is_disconnected() && error.into_inner() == "two");
    child.kill();
    drop((producer, consumer, letters, letter_box));
    scene.end();
}

/// What is left in a pair when both are killed is freed with it.
fn nothing_is_left_of_two_dead() {
    let scene = scene();
    let (producer, consumer) = spsc::channel::<Vec<u8>>(8).unwrap();
    let ready = Queue::<()>::new(2).unwrap();
    let consuming = fork({
        let ready = ready.clone();
        move || {
            assert_eq!(consumer.recv().unwrap().len(), 50_000);
            ready.send(()).unwrap();
            std::thread::sleep(FOR_EVER);
        }
    });
    let producing = fork({
        let ready = ready.clone();
        move || {
            producer.send_many((0..5).map(|_| vec![1; 50_000])).unwrap();
            producer.send_bytes(&[2; 50_000]).unwrap();
            ready.send(()).unwrap();
            std::thread::sleep(FOR_EVER);
        }
    });
    ready.recv().unwrap();
    ready.recv().unwrap();
    drop(ready);
    consuming.kill();
    producing.kill();
    scene.end();
}

/// An end that is in a message stays in being as long as its sender lives, and is given up with it.
fn an_end_in_a_message_lives_as_long_as_its_sender() {
    let scene = scene();
    let post = Queue::<Consumer<u32>>::new(1).unwrap();
    let (producer, consumer) = spsc::channel::<u32>(2).unwrap();
    let child = fork({
        let post = post.clone();
        move || {
            assert_eq!(consumer.recv().unwrap(), 1);
            post.send(consumer).unwrap();
            std::thread::sleep(FOR_EVER);
        }
    });
    producer.send(1).unwrap();
    while post.is_empty() {
        std::thread::yield_now();
    }
    producer.send(2).unwrap();
    child.kill();
    assert!(producer.send(3).unwrap_err().is_disconnected());
    // Whoever finds it all the same has it, with what was sent.
    let consumer = post.recv().unwrap();
    assert_eq!(consumer.recv().unwrap(), 2);
    producer.send(4).unwrap();
    assert_eq!(consumer.recv().unwrap(), 4);
    drop((post, producer, consumer));
    scene.end();
}

/// A fork leaves copies of ends in processes that never use them; nobody waits for those.
fn a_copy_that_nobody_can_use_is_not_waited_for() {
    let scene = scene();
    let (producer, consumer) = spsc::channel::<u32>(1).unwrap();
    // This child has a copy of the consumer, and no way to it.
    let producing = fork(|| {
        producer.send(1).unwrap();
        assert!(producer.send(2).unwrap_err().is_disconnected());
    });
    let consuming = fork(move || {
        std::thread::sleep(FOR_EVER);
        drop(consumer);
    });
    drop(producer);
    producing.await_sleep();
    // Before it has used its end.
    consuming.kill();
    producing.join();
    scene.end();
}

/// The other end of a pipe: what was sent comes, then the end, in both directions at once.
fn a_killed_process_ends_its_pipes() {
    let scene = scene();
    let (ours, theirs) = pipe::<u32, Vec<u8>>().unwrap();
    let child = fork(move || {
        assert_eq!(theirs.recv().unwrap(), 7);
        theirs.send(vec![1; 10_000]).unwrap();
        theirs.send_bytes(&[2; 10_000]).unwrap();
        std::thread::sleep(FOR_EVER);
    });
    ours.send(7).unwrap();
    assert_eq!(ours.recv().unwrap(), vec![1; 10_000]);
    assert!(ours.poll(FOR_EVER).unwrap());
    child.kill();
    assert_eq!(ours.recv_bytes().unwrap(), vec![2; 10_000]);
    assert!(ours.poll(Duration::ZERO).unwrap());
    assert!(ours.recv_bytes().unwrap_err().is_disconnected());
    let sent = (0..64).take_while(|&number| ours.send(number).is_ok()).count();
    assert!(sent <= 16 && ours.is_closed(), "{sent} messages were sent to the dead");
    drop(ours);
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[
        (
            "what_a_killed_producer_sent_is_received",
            what_a_killed_producer_sent_is_received,
        ),
        (
            "the_death_of_the_other_ends_a_sleep",
            the_death_of_the_other_ends_a_sleep,
        ),
        (
            "a_producer_does_not_send_to_the_dead",
            a_producer_does_not_send_to_the_dead,
        ),
        ("nothing_is_left_of_two_dead", nothing_is_left_of_two_dead),
        (
            "an_end_in_a_message_lives_as_long_as_its_sender",
            an_end_in_a_message_lives_as_long_as_its_sender,
        ),
        (
            "a_copy_that_nobody_can_use_is_not_waited_for",
            a_copy_that_nobody_can_use_is_not_waited_for,
        ),
        ("a_killed_process_ends_its_pipes", a_killed_process_ends_its_pipes),
    ])
}
