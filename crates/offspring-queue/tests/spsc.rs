//! What a pair does, between processes.

mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use offspring_queue::spsc::{self, Consumer, Producer};
use offspring_queue::{Parcel, Queue};
use offspring_shm::family;
use offspring_testing::run_single_threaded;
use support::{fork, scene};

const SOON: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(30);

/// Every form of sending and receiving, from a child; then full; then empty.
fn messages_come_in_order_in_every_form() {
    let scene = scene();
    let (producer, consumer) = spsc::channel(6).unwrap();
    assert!(producer.is_empty() && consumer.is_empty() && !producer.is_full() && producer.capacity() == 6);
    let full = Queue::<()>::new(1).unwrap();
    let child = fork(|| {
        producer.send(1).unwrap();
        producer.try_send(2).unwrap();
        producer.send_timeout(3, SOON).unwrap();
        producer.send_deadline(4, Instant::now() + SOON).unwrap();
        assert_eq!(producer.send_many([5, 6]).unwrap(), 2);
        assert!(producer.is_full() && producer.len() == 6);
        let error = producer.try_send(7).unwrap_err();
        assert!(error.is_full() && error.into_inner() == 7);
        let error = producer.send_timeout(8, SOON).unwrap_err();
        assert!(error.is_timeout() && error.into_inner() == 8);
        full.send(()).unwrap();
        producer.send(9).unwrap();
        drop(producer);
    });
    full.recv().unwrap();
    assert_eq!(consumer.recv().unwrap(), 1);
    assert_eq!(consumer.recv_timeout(LONG).unwrap(), 2);
    assert_eq!(consumer.recv_deadline(Instant::now() + LONG).unwrap(), 3);
    assert!(consumer.poll(LONG).unwrap());
    assert_eq!(consumer.try_recv().unwrap(), 4);
    let mut rest = Vec::new();
    while rest.len() < 3 {
        assert!(consumer.recv_many(&mut rest, 10).unwrap() > 0);
    }
    assert_eq!(rest, [5, 6, 9]);
    assert_eq!(consumer.recv_many(&mut rest, 0).unwrap(), 0);
    child.join();
    assert!(consumer.recv().unwrap_err().is_disconnected());
    assert!(consumer.try_recv().unwrap_err().is_disconnected());
    drop((consumer, full));
    scene.end();
}

fn an_empty_pair_and_a_full_one_say_so() {
    let scene = scene();
    let (producer, consumer) = spsc::channel(1).unwrap();
    assert!(consumer.try_recv().unwrap_err().is_empty());
    assert!(consumer.recv_timeout(SOON).unwrap_err().is_timeout());
    assert!(consumer.recv_timeout(Duration::ZERO).unwrap_err().is_timeout());
    assert!(!consumer.poll(Duration::ZERO).unwrap() && !consumer.poll(SOON).unwrap());
    producer.send("x".to_string()).unwrap();
    assert!(producer.is_full() && consumer.is_full() && consumer.len() == 1);
    assert!(producer.try_send("y".to_string()).unwrap_err().is_full());
    assert!(producer.try_send_bytes(&[0; 5000]).unwrap_err().is_full());
    assert_eq!(consumer.iter().next().unwrap(), "x");
    for capacity in [0, 1 << 40, usize::MAX] {
        let error = spsc::channel::<u64>(capacity).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
    drop((producer, consumer));
    scene.end();
}

/// The length is exact at every fill and every place of a ring of any size.
fn the_length_is_exact() {
    let scene = scene();
    for capacity in [1, 2, 3, 7, 16] {
        let (producer, consumer) = spsc::channel(capacity).unwrap();
        let (mut sent, mut received) = (0_u32, 0);
        for step in 0..capacity * capacity * 6 {
            if step % (capacity + 2) < capacity && (sent - received) < capacity as u32 {
                producer.send(sent).unwrap();
                sent += 1;
            } else if sent > received {
                assert_eq!(consumer.recv().unwrap(), received);
                received += 1;
            }
            let len = (sent - received) as usize;
            assert_eq!((producer.len(), consumer.len()), (len, len));
            assert_eq!(producer.is_full(), len == capacity);
            assert_eq!(consumer.is_empty(), len == 0);
        }
    }
    scene.end();
}

/// What the values own travels, in slots and in blocks, and nothing is left when it was not received.
fn large_messages_change_hands_in_blocks() {
    let scene = scene();
    let (producer, consumer) = spsc::channel::<Vec<u8>>(4).unwrap();
    let child = fork(move || {
        for len in [0, 1, 80, 200, 5000, 3_000_000] {
            producer.send(vec![7; len]).unwrap();
        }
        let (arena, me) = (family::arena().unwrap(), family::me().unwrap());
        let parcel = Parcel::encode(arena, me, &vec![8; 1_000_000]).unwrap();
        producer.send_parcel(parcel).unwrap();
        producer.send(vec![9; 100_000]).unwrap();
    });
    for len in [0, 1, 80, 200, 5000, 3_000_000] {
        let message = consumer.recv().unwrap();
        assert!(message.len() == len && message.iter().all(|&byte| byte == 7));
    }
    assert_eq!(consumer.recv().unwrap(), vec![8; 1_000_000]);
    child.join();
    assert_eq!(consumer.len(), 1);
    // The last one is freed with the pair.
    drop(consumer);
    scene.end();
}

fn what_cannot_be_written_takes_no_room_and_comes_back() {
    let scene = scene();
    let (producer, consumer) = spsc::channel::<Vec<u8>>(1).unwrap();
    let vast: Vec<u8> = vec![0; family::arena().unwrap().capacity() + 1];
    let error = producer.send(vast).unwrap_err();
    assert!(error.to_string().contains("no room for"), "{error}");
    let vast = error.into_inner();
    assert!(producer.send_bytes(&vast).is_err());
    drop(vast);
    assert!(producer.is_empty());
    producer.try_send(vec![1, 2]).unwrap();
    assert_eq!(consumer.recv().unwrap(), [1, 2]);
    // A parcel of plain numbers goes as they do.
    let (numbers, received) = spsc::channel::<u64>(1).unwrap();
    let parcel = Parcel::encode(family::arena().unwrap(), family::me().unwrap(), &5).unwrap();
    numbers.send_parcel(parcel).unwrap();
    assert_eq!(received.recv().unwrap(), 5);
    drop((producer, consumer, numbers, received));
    scene.end();
}

/// Dropping an end, or closing it, tells the other: at once, with the value back, and after what was sent.
fn each_side_learns_of_the_others_end() {
    let scene = scene();
    let (producer, consumer) = spsc::channel(2).unwrap();
    producer.send(1).unwrap();
    drop(producer);
    assert!(consumer.is_closed() && consumer.poll(Duration::ZERO).unwrap());
    assert_eq!(consumer.recv().unwrap(), 1);
    assert!(consumer.poll(LONG).unwrap(), "the end is something to receive");
    assert!(consumer.recv().unwrap_err().is_disconnected());
    drop(consumer);

    let (producer, consumer) = spsc::channel(2).unwrap();
    drop(consumer);
    let error = producer.send("back".to_string()).unwrap_err();
    assert!(producer.is_closed() && error.is_disconnected() && error.into_inner() == "back");
    assert!(producer.try_send(String::new()).unwrap_err().is_disconnected());
    assert!(producer.send_bytes(&[1; 4000]).unwrap_err().is_disconnected());
    drop(producer);

    let (producer, consumer) = spsc::channel(2).unwrap();
    producer.send(1).unwrap();
    producer.close();
    assert!(producer.send(2).unwrap_err().is_disconnected());
    assert_eq!(consumer.into_iter().collect::<Vec<_>>(), [1]);
    drop(producer);
    scene.end();
}

/// The same while the other side waits, asleep.
fn a_sleeper_is_woken_by_the_others_end() {
    let scene = scene();
    for closes in [false, true] {
        let (producer, consumer) = spsc::channel::<u32>(1).unwrap();
        let waiting = fork(move || {
            assert_eq!(consumer.recv().unwrap(), 1);
            assert!(consumer.recv().unwrap_err().is_disconnected());
        });
        producer.send(1).unwrap();
        waiting.await_sleep();
        if closes {
            producer.close();
        }
        drop(producer);
        waiting.join();

        let (producer, consumer) = spsc::channel::<u32>(1).unwrap();
        let waiting = fork(move || {
            producer.send(1).unwrap();
            assert!(producer.send(2).unwrap_err().is_disconnected());
        });
        assert!(consumer.poll(LONG).unwrap());
        waiting.await_sleep();
        if closes {
            consumer.close();
        }
        drop(consumer);
        waiting.join();
    }
    scene.end();
}

/// An end travels in messages, with the place that it had, and is its receiver's from then on.
fn ends_travel_to_other_processes() {
    let scene = scene();
    let posts = (
        Queue::<Producer<String>>::new(1).unwrap(),
        Queue::<Consumer<String>>::new(1).unwrap(),
    );
    let child = fork({
        let posts = posts.clone();
        move || {
            let producer = posts.0.recv().unwrap();
            let consumer = posts.1.recv().unwrap();
            for message in &consumer {
                producer.send(message + "!").unwrap();
            }
        }
    });
    let (producer, theirs) = spsc::channel(3).unwrap();
    let (thither, consumer) = spsc::channel(3).unwrap();
    // Both have been used, and stand somewhere.
    for round in 0..4 {
        producer.send(round.to_string()).unwrap();
        assert_eq!(theirs.recv().unwrap(), round.to_string());
        thither.send("early".to_string()).unwrap();
        assert_eq!(consumer.recv().unwrap(), "early");
    }
    thither.send("left behind".to_string()).unwrap();
    producer.send("first".to_string()).unwrap();
    posts.0.send(thither).unwrap();
    posts.1.send(theirs).unwrap();
    producer.send("second".to_string()).unwrap();
    assert_eq!(consumer.recv().unwrap(), "left behind");
    assert_eq!(consumer.recv().unwrap(), "first!");
    assert_eq!(consumer.recv().unwrap(), "second!");
    drop(producer);
    assert!(consumer.recv().unwrap_err().is_disconnected());
    child.join();
    drop((posts, consumer));
    scene.end();
}

/// An end that could not be sent is where it was; one that was sent is not.
fn an_end_that_was_not_sent_is_still_here() {
    let scene = scene();
    let post = Queue::<Producer<u32>>::new(1).unwrap();
    let (producer, consumer) = spsc::channel(2).unwrap();
    let (other, unused) = spsc::channel(2).unwrap();
    producer.send(1).unwrap();
    post.send(other).unwrap();
    let producer = post.try_send(producer).unwrap_err().into_inner();
    producer.send(2).unwrap();
    post.recv().unwrap();
    post.send(producer).unwrap();
    assert!(!consumer.is_closed());
    // Back in the process that sent it.
    let producer = post.recv().unwrap();
    assert_eq!(consumer.recv().unwrap(), 1);
    producer.send(3).unwrap();
    drop(producer);
    assert_eq!(consumer.iter().collect::<Vec<_>>(), [2, 3]);
    drop((post, consumer, unused));
    scene.end();
}

/// A message that is decoded twice gives its end once.
fn an_end_is_received_once() {
    let scene = scene();
    let post = Queue::<Producer<u32>>::new(1).unwrap();
    let (producer, consumer) = spsc::channel(2).unwrap();
    post.send(producer).unwrap();
    let view = post.recv_view().unwrap();
    let producer = view.decode().unwrap();
    let error = view.decode().unwrap_err().to_string();
    assert!(error.contains("received"), "{error}");
    drop(view);
    producer.send(5).unwrap();
    assert_eq!(consumer.recv().unwrap(), 5);
    drop((post, consumer, producer));
    scene.end();
}

/// After a fork the end is whose who uses it first; the other one's copy is refused, in words.
fn after_a_fork_the_first_user_has_the_end() {
    let scene = scene();
    // The child goes first.
    let (producer, consumer) = spsc::channel::<u32>(2).unwrap();
    producer.send(1).unwrap();
    let child = fork(|| producer.send(2).unwrap());
    assert_eq!(consumer.recv().unwrap(), 1);
    assert_eq!(consumer.recv().unwrap(), 2);
    let error = producer.send(3).unwrap_err();
    assert!(
        error.to_string().contains(&format!("process {}", child.pid())),
        "{error}"
    );
    assert_eq!(error.into_inner(), 3);
    child.join();
    assert!(
        consumer.recv().unwrap_err().is_disconnected(),
        "the child had it and is gone"
    );
    assert!(producer.send(3).is_err());
    drop((producer, consumer));

    // The parent goes first.
    let (producer, consumer) = spsc::channel::<u32>(2).unwrap();
    let go = Queue::<()>::new(1).unwrap();
    let child = fork(|| {
        go.recv().unwrap();
        let error = producer.send(2).unwrap_err().to_string();
        assert!(error.contains("uses this end"), "{error}");
    });
    producer.send(1).unwrap();
    go.send(()).unwrap();
    child.join();
    assert_eq!(consumer.recv().unwrap(), 1);
    producer.send(3).unwrap();
    assert_eq!(consumer.recv().unwrap(), 3);

    // A copy of an earlier turn is no good, although nobody has it at the moment.
    let child = fork(|| {
        go.recv().unwrap();
        let error = producer.send(2).unwrap_err().to_string();
        assert!(error.contains("other hands"), "{error}");
    });
    producer.send(4).unwrap();
    let idle = fork(|| std::thread::sleep(Duration::from_secs(100)));
    go.send(()).unwrap();
    child.join();
    idle.kill();
    producer.send(5).unwrap();
    assert_eq!(consumer.try_iter().collect::<Vec<_>>(), [4, 5]);

    // Dropped here, it is the child's, which has not used it yet.
    let child = fork({
        let go = go.clone();
        move || {
            go.recv().unwrap();
            producer.send(6).unwrap();
        }
    });
    assert!(consumer.try_recv().unwrap_err().is_empty());
    go.send(()).unwrap();
    assert_eq!(consumer.recv().unwrap(), 6);
    child.join();
    assert!(consumer.recv().unwrap_err().is_disconnected());
    drop((go, consumer));
    scene.end();
}

/// Many messages through rings of several sizes, both sides asleep now and then.
fn a_stream_arrives_whole() {
    let scene = scene();
    for capacity in [1, 3, 1024] {
        let (producer, consumer) = spsc::channel(capacity).unwrap();
        let count = if capacity == 1 { 5_000_u64 } else { 50_000 };
        let child = fork(move || {
            for number in 0..count {
                producer.send([number, !number, number ^ 5]).unwrap();
            }
        });
        for number in 0..count {
            assert_eq!(consumer.recv().unwrap(), [number, !number, number ^ 5]);
        }
        assert!(consumer.recv().unwrap_err().is_disconnected());
        child.join();
    }
    scene.end();
}

/// An end is moved between threads.
fn threads_of_one_process_may_take_turns() {
    let (producer, consumer) = spsc::channel::<u64>(8).unwrap();
    let mut producer = Some(producer);
    let reader = std::thread::spawn(move || consumer.iter().sum::<u64>());
    for turn in 0..4 {
        let mine = producer.take().unwrap();
        let next = std::thread::spawn(move || {
            for number in 0..100 {
                mine.send(turn * 100 + number).unwrap();
            }
            mine
        });
        producer = Some(next.join().unwrap());
        // Its last user has ended, its process has not.
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(producer);
    assert_eq!(reader.join().unwrap(), (0..400).sum::<u64>());
}

/// A queue's name is no pair's, and ten thousand pairs fit into one family.
fn pairs_are_cheap_and_leave_nothing() {
    let scene = scene();
    let pairs: Vec<_> = (0..10_000).map(|_| spsc::channel::<u64>(1).unwrap()).collect();
    for (producer, consumer) in &pairs {
        producer.send(1).unwrap();
        assert_eq!(consumer.recv().unwrap(), 1);
    }
    drop(pairs);
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[
        (
            "messages_come_in_order_in_every_form",
            messages_come_in_order_in_every_form,
        ),
        (
            "an_empty_pair_and_a_full_one_say_so",
            an_empty_pair_and_a_full_one_say_so,
        ),
        ("the_length_is_exact", the_length_is_exact),
        (
            "large_messages_change_hands_in_blocks",
            large_messages_change_hands_in_blocks,
        ),
        (
            "what_cannot_be_written_takes_no_room_and_comes_back",
            what_cannot_be_written_takes_no_room_and_comes_back,
        ),
        ("each_side_learns_of_the_others_end", each_side_learns_of_the_others_end),
        (
            "a_sleeper_is_woken_by_the_others_end",
            a_sleeper_is_woken_by_the_others_end,
        ),
        ("ends_travel_to_other_processes", ends_travel_to_other_processes),
        (
            "an_end_that_was_not_sent_is_still_here",
            an_end_that_was_not_sent_is_still_here,
        ),
        ("an_end_is_received_once", an_end_is_received_once),
        (
            "after_a_fork_the_first_user_has_the_end",
            after_a_fork_the_first_user_has_the_end,
        ),
        ("a_stream_arrives_whole", a_stream_arrives_whole),
        (
            "threads_of_one_process_may_take_turns",
            threads_of_one_process_may_take_turns,
        ),
        ("pairs_are_cheap_and_leave_nothing", pairs_are_cheap_and_leave_nothing),
    ])
}
