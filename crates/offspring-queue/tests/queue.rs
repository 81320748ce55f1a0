//! What a queue does, between processes: the behaviours of the reference implementation and of channels.

mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use offspring_queue::{JoinableQueue, Parcel, Queue, QueueHandle, Receiver, Sender};
use offspring_shm::{SharedSlice, family};
use offspring_testing::run_single_threaded;
use support::{fork, scene};

const SHORT: Duration = Duration::from_millis(200);

#[track_caller]
fn took(started: Instant, expected: Duration) {
    let took = started.elapsed();
    assert!(
        took + Duration::from_millis(5) >= expected && took < expected + Duration::from_millis(500),
        "took {took:?}, not {expected:?}"
    );
}

/// Q1, Q2: six messages in every form, then full; received in order in every form, then empty.
fn a_queue_of_six_is_full_with_six() {
    let scene = scene();
    let queue = Queue::new(6).unwrap();
    let (done, child_done) = (Queue::<()>::new(1).unwrap(), Queue::<()>::new(1).unwrap());
    let child = fork({
        let (queue, done, child_done) = (queue.clone(), done.clone(), child_done.clone());
        move || {
            done.recv().unwrap();
            assert_eq!(queue.recv().unwrap(), 1);
            assert_eq!(queue.try_recv().unwrap(), 2);
            assert_eq!(queue.recv_timeout(SHORT).unwrap(), 3);
            assert_eq!(queue.recv_deadline(Instant::now() + SHORT).unwrap(), 4);
            assert_eq!(*queue.recv_view().unwrap(), 5);
            let mut rest = Vec::new();
            assert_eq!(queue.recv_many(&mut rest, 10).unwrap(), 1);
            assert_eq!(rest, [6]);
            child_done.send(()).unwrap();
        }
    });
    assert!(queue.is_empty() && !queue.is_full() && queue.capacity() == 6);
    queue.send(1).unwrap();
    queue.try_send(2).unwrap();
    queue.send_timeout(3, SHORT).unwrap();
    queue.send_deadline(4, Instant::now() + SHORT).unwrap();
    assert_eq!(queue.send_many([5, 6]).unwrap(), 2);
    assert!(!queue.is_empty() && queue.is_full() && queue.len() == 6);
    let error = queue.try_send(7).unwrap_err();
    assert!(error.is_full() && error.to_string() == "the queue is full" && error.into_inner() == 7);
    let started = Instant::now();
    let error = queue.send_timeout(8, SHORT).unwrap_err();
    took(started, SHORT);
    assert!(error.is_timeout() && error.into_inner() == 8);
    done.send(()).unwrap();
    child_done.recv().unwrap();
    assert!(!queue.is_full() && queue.is_empty());
    assert!(queue.try_recv().unwrap_err().is_empty());
    let started = Instant::now();
    assert!(queue.recv_timeout(SHORT).unwrap_err().is_timeout());
    took(started, SHORT);
    assert!(queue.recv_deadline(Instant::now()).unwrap_err().is_timeout());
    child.join();
    drop((queue, done, child_done));
    scene.end();
}

/// Q3: what was sent before the fork comes before what the child sends.
fn a_queue_that_was_used_before_a_fork_works_in_the_child() {
    let scene = scene();
    let queue = Queue::new(100).unwrap();
    for i in 0..10 {
        queue.send(i).unwrap();
    }
    let child = fork({
        let queue = queue.clone();
        move || {
            for i in 10..20 {
                queue.send(i).unwrap();
            }
        }
    });
    child.join();
    assert_eq!(queue.len(), 20);
    assert_eq!(queue.try_iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    drop(queue);
    scene.end();
}

/// Q4: the number of messages is exact at all times.
fn the_length_is_exact() {
    let scene = scene();
    let queue = Queue::<u32>::new(3).unwrap();
    let mut expected = 0;
    for round in 0..50 {
        if round % 5 < 3 && expected < 3 {
            queue.send(round).unwrap();
            expected += 1;
        } else if expected > 0 {
            queue.recv().unwrap();
            expected -= 1;
        }
        assert_eq!(
            (queue.len(), queue.is_empty(), queue.is_full()),
            (expected, expected == 0, expected == 3)
        );
        let view = (expected > 0).then(|| queue.recv_view().unwrap());
        assert_eq!(
            queue.len(),
            expected.saturating_sub(1),
            "a leased message is not there to receive"
        );
        if let Some(view) = view {
            view.give_back();
        }
    }
    drop(queue);
    scene.end();
}

/// Q5: four workers, ten items, and sentinels that stop the workers.
fn join_waits_for_four_workers() {
    let scene = scene();
    let queue = JoinableQueue::new(20).unwrap();
    let results = Queue::new(20).unwrap();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (tasks, results) = (queue.receiver().unwrap(), results.sender());
            fork(move || {
                loop {
                    let task = tasks.recv().unwrap();
                    let Some(number) = *task else {
                        task.done();
                        return;
                    };
                    std::thread::sleep(Duration::from_millis(10));
                    results.send(number * 2).unwrap();
                    task.done();
                }
            })
        })
        .collect();
    for number in 0..10_u32 {
        queue.send(Some(number)).unwrap();
    }
    queue.join().unwrap();
    assert_eq!(results.len(), 10);
    for _ in &workers {
        queue.send(None).unwrap();
    }
    queue.join().unwrap();
    workers.into_iter().for_each(support::Child::join);
    let mut found: Vec<_> = results.try_iter().collect();
    found.sort_unstable();
    assert_eq!(found, (0..10).map(|number| number * 2).collect::<Vec<_>>());
    // Without workers, work is not waited for.
    let worker = queue.receiver().unwrap();
    queue.send(Some(1)).unwrap();
    assert!(queue.join_timeout(Duration::from_millis(1)).unwrap_err().is_timeout());
    drop(worker);
    let error = queue.join().unwrap_err();
    assert!(
        error.is_deserted() && error.to_string().contains("no worker"),
        "{error}"
    );
    drop((queue, results));
    scene.end();
}

/// Q8: what cannot be written leaves the queue as it was.
fn a_message_that_cannot_be_written_takes_no_room() {
    let scene = scene();
    let queue = Queue::<Vec<u8>>::new(1).unwrap();
    let capacity = family::arena().unwrap().capacity();
    let vast: Vec<u8> = vec![0; capacity + 1];
    let before = family::arena().unwrap().census().bytes;
    let error = queue.send(vast).unwrap_err();
    assert!(error.to_string().contains("no room for"), "{error}");
    assert_eq!(error.into_inner().len(), capacity + 1);
    assert_eq!(family::arena().unwrap().census().bytes, before);
    assert_eq!(queue.len(), 0);
    queue.try_send(vec![1, 2]).unwrap();
    assert_eq!(queue.recv().unwrap(), [1, 2]);
    drop(queue);
    scene.end();
}

/// Q9, Q10: a closed queue gives what is in it, then says that it is closed; closing twice is once.
fn a_closed_queue_is_emptied_and_then_over() {
    let scene = scene();
    let queue = Queue::new(4).unwrap();
    queue.send("last".to_string()).unwrap();
    let waiting = fork({
        let queue = queue.clone();
        move || {
            // Full: waits until the queue is closed.
            queue.send_many((0..3).map(|i| i.to_string())).unwrap();
            assert!(queue.send("too late".to_string()).unwrap_err().is_disconnected());
        }
    });
    waiting.await_sleep();
    queue.close();
    queue.close();
    waiting.join();
    assert!(queue.is_closed() && !queue.is_empty());
    let error = queue.try_send("no".to_string()).unwrap_err();
    assert!(
        error.is_disconnected() && error.to_string().contains("closed"),
        "{error}"
    );
    assert_eq!(queue.iter().collect::<Vec<_>>(), ["last", "0", "1", "2"]);
    assert!(queue.recv().unwrap_err().is_disconnected());
    assert!(queue.try_recv().unwrap_err().is_disconnected());
    assert!(queue.recv_timeout(SHORT).unwrap_err().is_disconnected());
    assert!(queue.is_empty());
    drop(queue);
    scene.end();
}

fn the_last_sender_and_the_last_receiver_end_the_queue() {
    let scene = scene();
    // The ends are sent to the child, which would have copies of both if they were there when it is forked.
    let posts = (
        Queue::<Receiver<u32>>::new(1).unwrap(),
        Queue::<Sender<u32>>::new(1).unwrap(),
    );
    let child = fork({
        let posts = posts.clone();
        move || {
            let receiver = posts.0.recv().unwrap();
            assert_eq!(receiver.into_iter().collect::<Vec<_>>(), [1]);
            let sender = posts.1.recv().unwrap();
            let error = sender.send(2).unwrap_err();
            assert!(error.is_disconnected() && error.into_inner() == 2);
        }
    });
    let (sender, receiver) = Queue::new(2).unwrap().split();
    posts.0.send(receiver.clone()).unwrap();
    child.await_sleep();
    let second = sender.clone();
    drop(sender);
    second.send(1).unwrap();
    drop(second);
    let (sender, full) = Queue::new(1).unwrap().split();
    sender.send(1).unwrap();
    posts.1.send(sender.clone()).unwrap();
    child.await_sleep();
    drop(full);
    child.join();
    assert!(receiver.try_recv().unwrap_err().is_disconnected());
    drop((sender, receiver, posts));
    scene.end();
}

/// A handle that is moved to another process keeps the queue until it arrives there, and no longer.
fn ends_travel_in_messages() {
    let scene = scene();
    let post = Queue::<(Sender<String>, Receiver<String>)>::new(1).unwrap();
    let child = fork({
        let post = post.clone();
        move || {
            std::thread::sleep(Duration::from_millis(100));
            let (sender, receiver) = post.recv().unwrap();
            for text in &receiver {
                sender.send(text + "!").unwrap();
            }
        }
    });
    let (there, child_receiver) = Queue::new(4).unwrap().split();
    let (child_sender, back) = Queue::new(4).unwrap().split();
    post.send((child_sender, child_receiver)).unwrap();
    there.send("a".to_string()).unwrap();
    assert_eq!(back.recv().unwrap(), "a!");
    there.send("b".to_string()).unwrap();
    drop(there);
    assert_eq!(
        back.iter().collect::<Vec<_>>(),
        ["b!"],
        "the child's sender was the last"
    );
    child.join();

    // Both ends leave this process before anybody has them.
    let (sender, receiver) = Queue::new(4).unwrap().split();
    let (first, second) = (
        Queue::<Sender<u32>>::new(1).unwrap(),
        Queue::<Receiver<u32>>::new(1).unwrap(),
    );
    first.send(sender).unwrap();
    second.send(receiver).unwrap();
    let receiver = second.recv().unwrap();
    assert!(receiver.try_recv().unwrap_err().is_empty(), "its sender is on its way");
    let sender = first.recv().unwrap();
    sender.send(5).unwrap();
    drop(sender);
    assert_eq!(receiver.into_iter().collect::<Vec<_>>(), [5]);

    // What is not sent is taken back.
    let (sender, receiver) = Queue::<u32>::new(4).unwrap().split();
    let full = Queue::new(1).unwrap();
    full.send(sender).unwrap();
    let sender = full.recv().unwrap();
    full.close();
    drop(full.send(sender).unwrap_err());
    assert!(receiver.recv().unwrap_err().is_disconnected());
    drop((post, back, first, second, full, receiver));
    scene.end();
}

fn messages_of_every_size_arrive() {
    let scene = scene();
    let queue = Queue::<Vec<u8>>::new(3).unwrap();
    let sizes = [
        0,
        1,
        40,
        90,
        100,
        111,
        112,
        113,
        200,
        255,
        256,
        4096,
        70_000,
        512 << 10,
        (512 << 10) + 1,
        5 << 20,
    ];
    let child = fork({
        let queue = queue.clone();
        move || {
            for size in sizes {
                queue.send((0..size).map(|i| (i % 251) as u8).collect()).unwrap();
            }
        }
    });
    for (round, size) in sizes.into_iter().enumerate() {
        let expected: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        if round % 2 == 0 {
            assert!(queue.recv().unwrap() == expected, "{size} bytes");
        } else {
            assert!(
                queue.recv_view().unwrap().as_slice() == expected,
                "{size} bytes in place"
            );
        }
    }
    child.join();
    drop(queue);

    let empty = Queue::<()>::new(2).unwrap();
    empty.send(()).unwrap();
    assert_eq!(empty.len(), 1);
    empty.recv().unwrap();
    let odd = Queue::<[u8; 13]>::new(2).unwrap();
    odd.send(*b"thirteen long").unwrap();
    assert_eq!(odd.recv().unwrap(), *b"thirteen long");
    let large = Queue::<[u64; 512]>::new(2).unwrap();
    large.send([7; 512]).unwrap();
    assert_eq!(large.recv().unwrap(), [7; 512]);
    let option = Queue::<Option<u64>>::new(2).unwrap();
    option.send(Some(3)).unwrap();
    assert_eq!(option.recv().unwrap(), Some(3));
    drop((empty, odd, large, option));
    scene.end();
}

fn a_gigabyte_and_a_shared_slice_travel() {
    let scene = scene();
    let queue = Queue::<Vec<u8>>::new(1).unwrap();
    let big = family::arena().unwrap().capacity().min(4 << 30) / 4;
    let child = fork({
        let queue = queue.clone();
        move || {
            let view = queue.recv_view().unwrap();
            assert!(view.len() == big && view[0] == 1 && view[big - 1] == 2);
        }
    });
    let mut bytes = vec![0; big];
    (bytes[0], bytes[big - 1]) = (1, 2);
    let parcel = Parcel::encode(family::arena().unwrap(), family::me().unwrap(), &bytes).unwrap();
    drop(bytes);
    let started = Instant::now();
    queue.send_parcel(parcel).unwrap();
    let took = started.elapsed();
    child.join();
    assert!(
        took < Duration::from_millis(50),
        "handing over {big} bytes took {took:?}"
    );

    let slices = Queue::<SharedSlice<f64>>::new(1).unwrap();
    let slice = SharedSlice::from_fn(1000, |i| i as f64).unwrap();
    slices.send(slice.clone()).unwrap();
    assert_eq!(slices.recv().unwrap()[999], 999.0);
    drop((queue, slices, slice));
    family::arena().unwrap().set_watermark(0);
    scene.end();
}

/// What is left in a queue when its last holder goes is freed with it.
fn blocks_in_transit_are_freed_with_the_queue() {
    let scene = scene();
    let queue = Queue::<Vec<u8>>::new(8).unwrap();
    for size in [10_000, 300, 3 << 20, 50] {
        queue.send(vec![7; size]).unwrap();
    }
    let view = queue.recv_view().unwrap();
    assert_eq!(view.len(), 10_000);
    drop(view);
    let child = fork({
        let queue = queue.clone();
        move || queue.send(vec![8; 20_000]).unwrap()
    });
    child.join();
    assert_eq!(queue.len(), 4);
    drop(queue);
    scene.end();
}

fn bad_capacities_and_names_are_errors_in_words() {
    let scene = scene();
    let error = Queue::<u64>::new(0).unwrap_err().to_string();
    assert!(error.contains("at least one message"), "{error}");
    let error = Queue::<u64>::new(1 << 40).unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
    let error = Queue::<u64>::new(u32::MAX as usize - 1).unwrap_err().to_string();
    assert!(error.contains("no room for"), "{error}");

    let queue = Queue::<u64>::new(4).unwrap();
    let error = Queue::<i64>::from_handle(queue.to_handle()).unwrap_err().to_string();
    assert!(error.contains("of another type"), "{error}");
    let error = JoinableQueue::<u64>::from_handle(queue.to_handle())
        .unwrap_err()
        .to_string();
    assert!(error.contains("of another type"), "{error}");
    let again = Queue::<u64>::from_handle(queue.to_handle()).unwrap();
    again.send(3).unwrap();
    assert_eq!(queue.recv().unwrap(), 3);
    let name: QueueHandle = queue.to_handle();
    drop((queue, again));
    let error = Sender::<u64>::from_handle(name).unwrap_err().to_string();
    assert!(error.contains("gone"), "{error}");
    scene.end();
}

fn a_lease_is_shared_with_nobody_and_can_be_given_back() {
    let scene = scene();
    let queue = Queue::new(3).unwrap();
    for text in ["a", "b", "c"] {
        queue.send(text.to_string()).unwrap();
    }
    let first = queue.recv_view().unwrap();
    assert_eq!((&**first, first.delivery_count()), ("a", 1));
    let second = queue.recv_view().unwrap();
    assert_eq!(&**second, "b");
    assert!(queue.is_full(), "leased messages keep their slots");
    drop(second);
    assert_eq!(queue.recv().unwrap(), "c", "leases are stepped over");
    assert!(queue.try_recv().unwrap_err().is_empty());
    first.give_back();
    let again = queue.recv_view().unwrap();
    assert_eq!((&**again, again.delivery_count()), ("a", 2));
    let text: String = again.decode().unwrap();
    drop(again);
    assert_eq!(text, "a");
    // A panic while the view is held gives the message back.
    queue.send("d".to_string()).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let view = queue.recv_view().unwrap();
        std::panic::resume_unwind(Box::new(view.len()));
    }));
    assert!(panicked.is_err());
    let view = queue.recv_view().unwrap();
    assert_eq!((&**view, view.delivery_count()), ("d", 2));
    drop(view);
    drop(queue);
    scene.end();
}

fn ten_thousand_queues_cost_no_descriptor() {
    let scene = scene();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let queues: Vec<_> = (0..10_000).map(|_| Queue::<u64>::new(4).unwrap()).collect();
    assert_eq!(descriptors(), before);
    for (number, queue) in queues.iter().enumerate() {
        queue.send(number as u64).unwrap();
    }
    for (number, queue) in queues.iter().enumerate() {
        assert_eq!(queue.recv().unwrap(), number as u64);
    }
    drop(queues);
    scene.end();
}

fn waiting_costs_no_processor_time() {
    let scene = scene();
    let (empty, full) = (Queue::<u32>::new(1).unwrap(), Queue::<u32>::new(1).unwrap());
    full.send(1).unwrap();
    let time = || {
        let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
        Duration::from_micros((usage.user_time() + usage.system_time()).num_microseconds() as u64)
    };
    use nix::sys::time::TimeValLike;
    let before = time();
    let children = [
        fork({
            let empty = empty.clone();
            move || assert!(empty.recv_timeout(Duration::from_secs(2)).unwrap_err().is_timeout())
        }),
        fork({
            let full = full.clone();
            move || assert!(full.send_timeout(2, Duration::from_secs(2)).unwrap_err().is_timeout())
        }),
    ];
    children.into_iter().for_each(support::Child::join);
    let spent = time() - before;
    assert!(
        spent < Duration::from_millis(60),
        "two processes that waited for 2 s took {spent:?}"
    );
    drop((empty, full));
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[
        ("a_queue_of_six_is_full_with_six", a_queue_of_six_is_full_with_six),
        (
            "a_queue_that_was_used_before_a_fork_works_in_the_child",
            a_queue_that_was_used_before_a_fork_works_in_the_child,
        ),
        ("the_length_is_exact", the_length_is_exact),
        ("join_waits_for_four_workers", join_waits_for_four_workers),
        (
            "a_message_that_cannot_be_written_takes_no_room",
            a_message_that_cannot_be_written_takes_no_room,
        ),
        (
            "a_closed_queue_is_emptied_and_then_over",
            a_closed_queue_is_emptied_and_then_over,
        ),
        (
            "the_last_sender_and_the_last_receiver_end_the_queue",
            the_last_sender_and_the_last_receiver_end_the_queue,
        ),
        ("ends_travel_in_messages", ends_travel_in_messages),
        ("messages_of_every_size_arrive", messages_of_every_size_arrive),
        (
            "a_gigabyte_and_a_shared_slice_travel",
            a_gigabyte_and_a_shared_slice_travel,
        ),
        (
            "blocks_in_transit_are_freed_with_the_queue",
            blocks_in_transit_are_freed_with_the_queue,
        ),
        (
            "bad_capacities_and_names_are_errors_in_words",
            bad_capacities_and_names_are_errors_in_words,
        ),
        (
            "a_lease_is_shared_with_nobody_and_can_be_given_back",
            a_lease_is_shared_with_nobody_and_can_be_given_back,
        ),
        (
            "ten_thousand_queues_cost_no_descriptor",
            ten_thousand_queues_cost_no_descriptor,
        ),
        ("waiting_costs_no_processor_time", waiting_costs_no_processor_time),
    ])
}
