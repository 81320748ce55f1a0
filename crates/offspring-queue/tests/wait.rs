//! Waiting for several things at once: what is ready is told exactly, and who only watches takes nothing from anybody.

mod support;

use std::io::Write;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;
use offspring_queue::{
    Deadline, JoinableQueue, Message, Queue, Receiver, Waitable, Writable, wait_any, wait_any_deadline,
};
use offspring_testing::run_single_threaded;
use support::{Child, closed_descriptor, fork, interrupt_with, scene};

const SHORT: Duration = Duration::from_millis(30);

fn now_ready(on: &[&dyn Waitable]) -> Vec<usize> {
    wait_any(on, Some(Duration::ZERO)).unwrap()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// K10: four queues, ten messages each, to the end of each; what is ready can be received.
fn four_queues_are_read_to_their_end() {
    let scene = scene();
    for pause in [Duration::ZERO, Duration::from_millis(3)] {
        // Alone, with a descriptor among them that is never ready, and with more words than one system call watches.
        for (descriptor, more) in [(false, 0), (true, 0), (false, 140)] {
            let (never, _open) = std::io::pipe().unwrap();
            let silent: Vec<_> = (0..more).map(|_| Queue::<()>::new(1).unwrap()).collect();
            let (receivers, children): (Vec<Receiver<u32>>, Vec<Child>) = (0..4)
                .map(|number| {
                    let (sender, receiver) = Queue::new(4).unwrap().split();
                    let child = fork(|| {
                        for message in 0..10 {
                            sleep(pause * number);
                            sender.send(number * 100 + message).unwrap();
                        }
                    });
                    (receiver, child)
                })
                .unzip();
            let mut open: Vec<_> = (0..4).collect();
            let mut received = Vec::new();
            while !open.is_empty() {
                let mut on: Vec<&dyn Waitable> = open.iter().map(|&i| &receivers[i] as &dyn Waitable).collect();
                on.extend(silent.iter().map(|queue| queue as &dyn Waitable));
                if descriptor {
                    on.push(&never);
                }
                let ready = wait_any(&on, None).unwrap();
                assert!(!ready.is_empty() && ready.is_sorted() && ready.iter().all(|&place| place < open.len()));
                for place in ready.into_iter().rev() {
                    match receivers[open[place]].try_recv() {
                        Ok(message) => received.push(message),
                        Err(error) => {
                            assert!(error.is_disconnected(), "ready, but {error}");
                            open.remove(place);
                        }
                    }
                }
            }
            children.into_iter().for_each(Child::join);
            for number in 0..4 {
                let from: Vec<_> = received.iter().filter(|&&message| message / 100 == number).collect();
                assert!(from.len() == 10 && from.is_sorted(), "from {number}: {from:?}");
            }
            assert_eq!(threads(), 1);
        }
    }
    scene.end();
}

/// Empty when the time runs out, however it is given; then what is ready.
fn timeouts_are_kept() {
    let scene = scene();
    let queue = Queue::<u32>::new(1).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let lists: [&[&dyn Waitable]; 4] = [&[], &[&queue], &[&reader], &[&reader, &queue]];
    for on in lists {
        let started = Instant::now();
        assert!(wait_any(on, Some(SHORT)).unwrap().is_empty());
        assert!(started.elapsed() >= SHORT, "{} things", on.len());
        let started = Instant::now();
        assert!(wait_any_deadline(on, started + SHORT).unwrap().is_empty());
        assert!(started.elapsed() >= SHORT);
        assert!(now_ready(on).is_empty());
        assert!(wait_any_deadline(on, started).unwrap().is_empty());
    }
    queue.send(1).unwrap();
    assert_eq!(wait_any(&[&reader, &queue], Some(Duration::MAX)).unwrap(), [1]);
    assert_eq!(now_ready(&[&queue, &reader, &queue]), [0, 2]);
    drop((queue, reader, writer));
    scene.end();
}

/// Each kind alone and all together: the exact set each time.
fn the_set_is_exact() {
    let scene = scene();
    let queue = Queue::<String>::new(1).unwrap();
    let sender = queue.sender();
    let tasks = JoinableQueue::<u32>::new(4).unwrap();
    let worker = tasks.receiver().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let past = Deadline(Instant::now());
    let future = Deadline(Instant::now() + Duration::from_secs(1000));
    let on: [&dyn Waitable; 8] = [
        &queue,
        &sender,
        &tasks,
        &worker,
        &reader,
        &Writable(&writer),
        &past,
        &future,
    ];
    assert_eq!(now_ready(&on), [1, 2, 5, 6]);
    queue.send("full".to_string()).unwrap();
    tasks.send(7).unwrap();
    assert_eq!(now_ready(&on), [0, 3, 5, 6]);
    let task = worker.recv().unwrap();
    assert_eq!(now_ready(&on), [0, 5, 6], "a task in work is neither there nor done");
    task.done();
    assert_eq!(queue.recv().unwrap(), "full");
    assert_eq!(now_ready(&on), [1, 2, 5, 6]);
    writer.write_all(b"x").unwrap();
    assert_eq!(now_ready(&[&reader, &queue]), [0]);
    drop(writer);
    queue.close();
    assert_eq!(now_ready(&[&reader, &queue, &queue.sender()]), [0, 1, 2]);
    tasks.send(8).unwrap();
    assert_eq!(now_ready(&[&tasks, &worker]), [1]);
    drop(worker);
    assert_eq!(now_ready(&[&tasks]), [0], "nobody is left to do it");
    drop((queue, sender, tasks, reader));
    scene.end();
}

/// Several deadlines are told apart, and one ends a wait of any kind.
fn deadlines_are_ready_when_they_pass() {
    let scene = scene();
    let queue = Queue::<u32>::new(1).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let others: [&[&dyn Waitable]; 4] = [&[], &[&queue], &[&reader], &[&reader, &queue]];
    for on in others {
        let start = Instant::now();
        let (late, soon) = (Deadline(start + Duration::from_secs(1000)), Deadline(start + SHORT));
        let mut on = on.to_vec();
        let place = on.len() + 1;
        on.extend([&late as &dyn Waitable, &soon]);
        assert_eq!(wait_any(&on, None).unwrap(), [place]);
        assert!(start.elapsed() >= SHORT);
        assert!(wait_any(&on[..place], Some(Duration::ZERO)).unwrap().is_empty());
    }
    drop((queue, reader, writer));
    scene.end();
}

/// A wait begins before anything is ready, and is ended by each kind of thing.
fn a_sleeper_is_woken_by_each_kind() {
    let scene = scene();
    let answers = Queue::<Vec<u64>>::new(1).unwrap();
    for kind in 0..4 {
        let (sender, receiver) = Queue::<u32>::new(1).unwrap().split();
        let (full, drain) = Queue::<u32>::new(1).unwrap().split();
        full.send(1).unwrap();
        let tasks = JoinableQueue::<u32>::new(1).unwrap();
        let worker = tasks.receiver().unwrap();
        tasks.send(1).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        for mixed in [false, true] {
            if kind == 3 && !mixed {
                continue;
            }
            let waiter = fork(|| {
                let mut on: Vec<&dyn Waitable> = vec![&receiver, &full, &tasks];
                if mixed {
                    on.push(&reader);
                }
                let ready = wait_any(&on, None).unwrap();
                answers
                    .send(ready.into_iter().map(|place| place as u64).collect())
                    .unwrap();
            });
            waiter.await_sleep();
            match kind {
                0 => sender.send(1).unwrap(),
                1 => drop(drain.recv().unwrap()),
                2 => drop(worker.recv().unwrap().done()),
                _ => writer.write_all(b"x").unwrap(),
            }
            assert_eq!(answers.recv().unwrap(), [kind]);
            waiter.join();
            match kind {
                0 => drop(receiver.recv().unwrap()),
                1 => full.send(1).unwrap(),
                2 => tasks.send(1).unwrap(),
                _ => {}
            }
        }
        drop((sender, receiver, full, drain, tasks, worker));
    }
    drop(answers);
    scene.end();
}

/// Who watches and takes nothing, in every way, leaves every message to those who take.
fn watchers_keep_no_message_from_consumers() {
    let scene = scene();
    const MESSAGES: u32 = 3000;
    let (queue, results, stop) = (
        Queue::<u32>::new(4).unwrap(),
        Queue::<u32>::new(64).unwrap(),
        Queue::<()>::new(1).unwrap(),
    );
    let watchers: Vec<_> = (0..4)
        .map(|kind| {
            let (queue, stop) = (&queue, &stop);
            let watcher = fork(move || match kind {
                // Asleep on words, again and again.
                0 => while wait_any(&[stop, queue], None).unwrap() != [0] {},
                1 => {
                    let (never, _open) = std::io::pipe().unwrap();
                    while !wait_any(&[stop, queue, &never], None).unwrap().contains(&0) {}
                }
                // One that nobody looks at, and one that is armed again and again.
                2 => {
                    let _descriptor = queue.descriptor().unwrap();
                    wait_any(&[stop], None).unwrap();
                }
                _ => {
                    let descriptor = queue.descriptor().unwrap();
                    while !wait_any(&[stop, &descriptor], None).unwrap().contains(&0) {
                        descriptor.rearm().unwrap();
                    }
                }
            });
            // So that they are the first to be woken.
            watcher.await_sleep();
            watcher
        })
        .collect();
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            let (queue, results) = (queue.receiver(), results.sender());
            fork(move || {
                while let Ok(message) = queue.recv() {
                    results.send(message).unwrap();
                }
            })
        })
        .collect();
    let producer = fork(|| {
        for message in 0..MESSAGES {
            queue.send(message).unwrap();
            if message % 100 == 0 {
                // All fall asleep.
                sleep(Duration::from_millis(1));
            }
        }
    });
    let mut received: Vec<_> = results.iter().take(MESSAGES as usize).collect();
    received.sort_unstable();
    assert_eq!(received, (0..MESSAGES).collect::<Vec<_>>());
    producer.join();
    stop.close();
    watchers.into_iter().for_each(Child::join);
    queue.close();
    consumers.into_iter().for_each(Child::join);
    drop((queue, results, stop));
    scene.end();
}

/// The only sender is killed while somebody waits for it and for others.
fn the_death_of_the_last_sender_is_an_end() {
    let scene = scene();
    for mixed in [false, true] {
        let (sender, receiver) = Queue::<u32>::new(8).unwrap().split();
        let other = Queue::<u32>::new(8).unwrap();
        let (never, _open) = std::io::pipe().unwrap();
        let mut on: Vec<&dyn Waitable> = vec![&other, &receiver];
        if mixed {
            on.push(&never);
        }
        let doomed = fork({
            let sender = sender.clone();
            move || {
                for message in 0.. {
                    sender.send(message).unwrap();
                    sleep(Duration::from_millis(1));
                }
            }
        });
        drop(sender);
        let mut next = 0;
        while next < 20 {
            assert_eq!(wait_any(&on, None).unwrap(), [1]);
            assert_eq!(receiver.try_recv().unwrap(), next);
            next += 1;
        }
        doomed.kill_only();
        loop {
            assert_eq!(wait_any(&on, None).unwrap(), [1]);
            match receiver.try_recv() {
                Ok(message) => assert_eq!(message, next),
                Err(error) => break assert!(error.is_disconnected(), "{error}"),
            }
            next += 1;
        }
        doomed.kill();
        drop((receiver, other));
    }
    scene.end();
}

/// The only receiver is killed while somebody waits for room.
fn the_death_of_the_last_receiver_is_an_end() {
    let scene = scene();
    let (sender, receiver) = Queue::<u32>::new(1).unwrap().split();
    let doomed = fork({
        let receiver = receiver.clone();
        move || {
            assert_eq!(receiver.recv().unwrap(), 1);
            sleep(Duration::from_secs(100));
        }
    });
    drop(receiver);
    sender.send(1).unwrap();
    assert_eq!(wait_any(&[&sender], None).unwrap(), [0]);
    sender.send(2).unwrap();
    assert!(wait_any(&[&sender], Some(SHORT)).unwrap().is_empty());
    doomed.kill_only();
    assert_eq!(wait_any(&[&sender], None).unwrap(), [0]);
    assert!(sender.try_send(3).unwrap_err().is_disconnected());
    doomed.kill();
    drop(sender);
    scene.end();
}

/// What a killed process held by a lease is waited for, and comes.
fn a_lease_of_the_dead_ends_the_wait() {
    let scene = scene();
    for mixed in [false, true] {
        let (queue, holding) = (Queue::<u32>::new(2).unwrap(), Queue::<()>::new(1).unwrap());
        let (never, _open) = std::io::pipe().unwrap();
        let mut on: Vec<&dyn Waitable> = vec![&queue];
        if mixed {
            on.push(&never);
        }
        queue.send(5).unwrap();
        let holder = fork(|| {
            let _view = queue.recv_view().unwrap();
            holding.send(()).unwrap();
            sleep(Duration::from_secs(100));
        });
        holding.recv().unwrap();
        assert!(wait_any(&on, Some(SHORT)).unwrap().is_empty());
        let killer = fork(|| {
            sleep(SHORT);
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(holder.pid() as i32), Signal::SIGKILL).unwrap();
        });
        assert_eq!(wait_any(&on, None).unwrap(), [0]);
        let receiver = queue.receiver();
        let view = receiver.try_recv_view().unwrap();
        assert_eq!((view.to_native(), view.delivery_count()), (5, 2));
        drop(view);
        killer.join();
        holder.kill();
        drop((queue, receiver, holding));
    }
    scene.end();
}

/// Signals do not end a wait.
fn signals_are_not_seen() {
    let scene = scene();
    interrupt_with(Signal::SIGUSR1);
    let (queue, answers) = (Queue::<u32>::new(1).unwrap(), Queue::<u32>::new(1).unwrap());
    for mixed in [false, true] {
        let waiter = fork(|| {
            let (never, _open) = std::io::pipe().unwrap();
            let mut on: Vec<&dyn Waitable> = vec![&queue];
            if mixed {
                on.push(&never);
            }
            assert_eq!(wait_any(&on, None).unwrap(), [0]);
            answers.send(queue.try_recv().unwrap()).unwrap();
        });
        waiter.await_sleep();
        for _ in 0..20 {
            waiter.signal(Signal::SIGUSR1);
            sleep(Duration::from_millis(1));
        }
        assert!(answers.is_empty());
        queue.send(3).unwrap();
        assert_eq!(answers.recv().unwrap(), 3);
        waiter.join();
    }
    drop((queue, answers));
    scene.end();
}

/// K11: what cannot be waited for is an error in words.
fn bad_descriptors_are_errors() {
    let scene = scene();
    let queue = Queue::<u32>::new(1).unwrap();
    queue.send(1).unwrap();
    let error = wait_any(&[&queue, &closed_descriptor()], None).unwrap_err();
    assert_eq!(error.to_string(), "cannot wait for descriptor 1000000: it is not open");
    drop(queue);
    scene.end();
}

/// Waiting costs no processor time, whatever is waited for.
fn waiting_costs_nothing() {
    let scene = scene();
    let queues: Vec<_> = (0..3).map(|_| Queue::<u32>::new(1).unwrap()).collect();
    for mixed in [false, true] {
        let waiter = fork(|| {
            let (never, _open) = std::io::pipe().unwrap();
            let mut on: Vec<&dyn Waitable> = queues.iter().map(|queue| queue as &dyn Waitable).collect();
            if mixed {
                on.push(&never);
            }
            let wait = || wait_any(&on, Some(Duration::from_secs(2))).unwrap();
            let before = getrusage(UsageWho::RUSAGE_SELF).unwrap();
            assert!(wait().is_empty());
            let after = getrusage(UsageWho::RUSAGE_SELF).unwrap();
            let used = after.user_time() + after.system_time() - before.user_time() - before.system_time();
            let sleeps = after.voluntary_context_switches() - before.voluntary_context_switches();
            println!(
                "mixed: {mixed}: {sleeps} sleeps, {} us of processor time",
                used.num_microseconds()
            );
            // Naps of 50, 100, 200, ... ms; a handful for the start and the end of the thread.
            assert!(sleeps < 20, "{sleeps} sleeps in two seconds");
            assert!(used.num_milliseconds() < 100, "{} us", used.num_microseconds());
        });
        waiter.join();
    }
    drop(queues);
    scene.end();
}

/// A type of the user's own passes on what it waits for.
fn own_types_can_be_waited_for() {
    struct Inbox<T: Message>(Receiver<T>);
    impl<T: Message> Waitable for Inbox<T> {
        fn wait_on(&self) -> offspring_queue::WaitOn<'_> {
            self.0.wait_on()
        }
    }
    let scene = scene();
    let (sender, receiver) = Queue::new(1).unwrap().split();
    let inbox = Inbox(receiver);
    assert!(now_ready(&[&inbox]).is_empty());
    sender.send(1).unwrap();
    assert_eq!(wait_any(&[&inbox], None).unwrap(), [0]);
    drop((inbox, sender));
    scene.end();
}

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), $name as fn())),*]
    };
}

fn main() -> ExitCode {
    run_single_threaded(tests![
        four_queues_are_read_to_their_end,
        timeouts_are_kept,
        the_set_is_exact,
        deadlines_are_ready_when_they_pass,
        a_sleeper_is_woken_by_each_kind,
        watchers_keep_no_message_from_consumers,
        the_death_of_the_last_sender_is_an_end,
        the_death_of_the_last_receiver_is_an_end,
        a_lease_of_the_dead_ends_the_wait,
        signals_are_not_seen,
        bad_descriptors_are_errors,
        waiting_costs_nothing,
        own_types_can_be_waited_for,
    ])
}
