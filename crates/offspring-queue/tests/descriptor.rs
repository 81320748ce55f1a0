//! Queues in event loops: when a descriptor is readable, what it costs, and who owns it.

mod support;

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread::{self, sleep};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use offspring_queue::{Descriptor, JoinableQueue, Queue, wait_any};
use offspring_testing::{run_single_threaded, wait_until};
use support::{Child, forbid, fork, scene};

fn readable(descriptor: &Descriptor) -> bool {
    poll_for(descriptor, PollTimeout::ZERO)
}

#[track_caller]
fn await_readable(descriptor: &Descriptor) {
    assert!(poll_for(descriptor, PollTimeout::NONE));
}

fn poll_for(descriptor: &Descriptor, timeout: PollTimeout) -> bool {
    let mut entries = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    poll(&mut entries, timeout).unwrap() == 1
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Readable from the first message on, whoever receives it, until it is armed again.
fn it_is_readable_until_it_is_armed_again() {
    let scene = scene();
    let (sender, receiver) = Queue::new(4).unwrap().split();
    let descriptor = receiver.descriptor().unwrap();
    assert!(!poll_for(&descriptor, PollTimeout::from(20_u8)));
    sender.send(1).unwrap();
    await_readable(&descriptor);
    assert_eq!(receiver.try_recv().unwrap(), 1);
    assert!(readable(&descriptor), "until it is armed again");
    descriptor.rearm().unwrap();
    assert!(!poll_for(&descriptor, PollTimeout::from(20_u8)));
    descriptor.rearm().unwrap();
    assert!(!readable(&descriptor), "armed twice is armed");
    sender.send_many([2, 3]).unwrap();
    await_readable(&descriptor);
    descriptor.rearm().unwrap();
    assert!(readable(&descriptor), "there is a message");
    assert_eq!((receiver.recv().unwrap(), receiver.recv().unwrap()), (2, 3));
    descriptor.rearm().unwrap();
    assert!(!readable(&descriptor));
    // One for a queue in which there is something already.
    sender.send(4).unwrap();
    await_readable(&receiver.descriptor().unwrap());
    drop(sender);
    await_readable(&descriptor);
    assert_eq!(receiver.recv().unwrap(), 4);
    descriptor.rearm().unwrap();
    assert!(readable(&descriptor), "the end is always there");
    drop((descriptor, receiver));
    assert_eq!(threads(), 1);
    scene.end();
}

/// Every end of a queue has one.
fn every_end_has_one() {
    let scene = scene();
    let queue = Queue::<String>::new(1).unwrap();
    let (messages, room) = (queue.descriptor().unwrap(), queue.sender().descriptor().unwrap());
    await_readable(&room);
    queue.send("full".to_string()).unwrap();
    await_readable(&messages);
    room.rearm().unwrap();
    assert!(!readable(&room));
    queue.recv().unwrap();
    await_readable(&room);
    messages.rearm().unwrap();
    queue.close();
    await_readable(&messages);

    let tasks = JoinableQueue::<u32>::new(2).unwrap();
    let worker = tasks.receiver().unwrap();
    let (rest, work) = (tasks.descriptor().unwrap(), worker.descriptor().unwrap());
    await_readable(&rest);
    tasks.send(1).unwrap();
    await_readable(&work);
    rest.rearm().unwrap();
    let task = worker.recv().unwrap();
    work.rearm().unwrap();
    assert!(!readable(&rest) && !readable(&work));
    task.done();
    await_readable(&rest);
    assert!(!readable(&work));
    tasks.close();
    await_readable(&work);
    assert_eq!(threads(), 2, "one thread for all");
    drop((messages, room, rest, work));
    assert_eq!(threads(), 1);
    drop((queue, tasks, worker));
    scene.end();
}

/// Two producers, and a consumer that sleeps in an edge-triggered epoll: it receives everything.
fn an_edge_triggered_loop_misses_nothing() {
    let scene = scene();
    const EACH: u64 = 50_000;
    for burst in [1, 64] {
        let (sender, receiver) = Queue::<u64>::new(16).unwrap().split();
        let producers: Vec<_> = (0..2)
            .map(|number| {
                let sender = sender.clone();
                fork(move || {
                    let mut messages = (0..EACH).map(|message| number * EACH + message);
                    while sender.send_many(messages.by_ref().take(burst)).unwrap() > 0 {}
                })
            })
            .collect();
        drop(sender);
        let descriptor = receiver.descriptor().unwrap();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let edge = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        epoll.add(&descriptor, edge).unwrap();
        let (mut next, mut wakes) = ([0, EACH], 0);
        'open: loop {
            let mut events = [EpollEvent::empty()];
            if epoll.wait(&mut events, EpollTimeout::NONE) != Ok(1) {
                continue;
            }
            wakes += 1;
            loop {
                match receiver.try_recv() {
                    Ok(message) => {
                        let from = (message / EACH) as usize;
                        assert_eq!(message, next[from]);
                        next[from] += 1;
                    }
                    Err(error) if error.is_empty() => break,
                    Err(error) => break 'open assert!(error.is_disconnected()),
                }
            }
            descriptor.rearm().unwrap();
        }
        println!("bursts of {burst}: {wakes} wakes");
        assert_eq!(next, [EACH, 2 * EACH]);
        producers.into_iter().for_each(Child::join);
        drop((descriptor, receiver));
    }
    scene.end();
}

/// More than one thread can watch; all of them end.
fn hundreds_of_queues_are_watched() {
    let scene = scene();
    let queues: Vec<_> = (0..200).map(|_| Queue::<u32>::new(1).unwrap()).collect();
    let descriptors: Vec<_> = queues.iter().map(|queue| queue.descriptor().unwrap()).collect();
    assert_eq!(threads(), 1 + 4);
    let echo: Vec<_> = descriptors.iter().map(|descriptor| descriptor as _).collect();
    for (number, queue) in queues.iter().enumerate() {
        queue.send(1).unwrap();
        assert_eq!(wait_any(&echo, None).unwrap(), [number]);
        queue.recv().unwrap();
        descriptors[number].rearm().unwrap();
    }
    drop(echo);
    drop(descriptors);
    assert_eq!(threads(), 1);
    drop(queues);
    scene.end();
}

/// The sender is killed; its end is seen without a message.
fn the_death_of_the_last_sender_is_told() {
    let scene = scene();
    let (sender, receiver) = Queue::<u32>::new(1).unwrap().split();
    let doomed = fork({
        let sender = sender.clone();
        move || {
            sender.send(1).unwrap();
            sleep(Duration::from_secs(100));
        }
    });
    drop(sender);
    assert_eq!(receiver.recv().unwrap(), 1);
    let descriptor = receiver.descriptor().unwrap();
    assert!(!poll_for(&descriptor, PollTimeout::from(20_u8)));
    doomed.kill_only();
    await_readable(&descriptor);
    assert!(receiver.try_recv().unwrap_err().is_disconnected());
    drop(descriptor);
    doomed.kill();
    drop(receiver);
    scene.end();
}

/// A process that has a descriptor is killed while messages come; nobody else misses one.
fn the_death_of_one_who_watches_keeps_nothing() {
    let scene = scene();
    let (queue, results) = (Queue::<u32>::new(2).unwrap(), Queue::<u32>::new(2).unwrap());
    let watchers: Vec<_> = (0..3)
        .map(|_| {
            let watcher = fork(|| {
                let descriptor = queue.descriptor().unwrap();
                loop {
                    await_readable(&descriptor);
                    descriptor.rearm().unwrap();
                }
            });
            watcher.await_sleep();
            watcher
        })
        .collect();
    let consumer = fork(|| {
        while let Ok(message) = queue.recv() {
            results.send(message).unwrap();
        }
    });
    let mut watchers = watchers.into_iter();
    for message in 0..300 {
        queue.send(message).unwrap();
        if message % 100 == 50 {
            watchers.next().unwrap().kill();
        }
        assert_eq!(results.recv().unwrap(), message);
    }
    queue.close();
    consumer.join();
    drop((queue, results));
    scene.end();
}

/// A forked child has the parent's eventfd but not its thread; it is told so, and can have its own.
fn a_forked_child_asks_for_its_own() {
    let scene = scene();
    let queue = Queue::<u32>::new(1).unwrap();
    let descriptor = queue.descriptor().unwrap();
    assert!(!poll_for(&descriptor, PollTimeout::from(20_u8)));
    let child = fork(|| {
        let error = descriptor.rearm().unwrap_err().to_string();
        assert!(error.contains("ask for one of its own"), "{error}");
        assert_eq!(threads(), 1);
        let own = queue.descriptor().unwrap();
        await_readable(&own);
        assert_eq!(queue.recv().unwrap(), 1);
        own.rearm().unwrap();
        assert!(!readable(&own));
        drop((own, descriptor));
        assert_eq!(threads(), 1);
    });
    queue.send(1).unwrap();
    child.join();
    let descriptor = queue.descriptor().unwrap();
    assert_eq!(threads(), 2);
    queue.send(2).unwrap();
    await_readable(&descriptor);
    drop((queue, descriptor));
    scene.end();
}

/// Without descriptors to be had there is an error in words, and nothing is left behind.
fn a_lack_of_descriptors_is_an_error() {
    let scene = scene();
    let queue = Queue::<u32>::new(1).unwrap();
    queue.send(1).unwrap();
    let child = fork(|| {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        // The next number would be beyond the limit, whatever was inherited.
        let next = std::fs::File::open("/dev/null").unwrap();
        let limit = std::os::fd::AsRawFd::as_raw_fd(&next) as u64;
        drop(next);
        setrlimit(Resource::RLIMIT_NOFILE, limit, most).unwrap();
        let error = queue.descriptor().unwrap_err().to_string();
        assert!(error.contains("cannot make an eventfd"), "{error}");
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
        assert_eq!(threads(), 1);
        await_readable(&queue.descriptor().unwrap());
    });
    child.join();
    drop(queue);
    scene.end();
}

/// Where the thread cannot be had there is an error in words.
fn a_lack_of_threads_is_an_error() {
    let scene = scene();
    let queue = Queue::<u32>::new(1).unwrap();
    let child = fork(|| {
        forbid(libc::SYS_clone3, libc::EAGAIN);
        forbid(libc::SYS_clone, libc::EAGAIN);
        let error = queue.descriptor().unwrap_err().to_string();
        assert!(error.contains("cannot start the thread that watches"), "{error}");
        let (reader, _writer) = std::io::pipe().unwrap();
        let error = wait_any(&[&queue, &reader], None).unwrap_err().to_string();
        assert!(error.contains("cannot start the thread that watches"), "{error}");
        // Nobody is needed in between.
        assert!(wait_any(&[&queue], Some(Duration::from_millis(1))).unwrap().is_empty());
    });
    child.join();
    drop(queue);
    scene.end();
}

/// Without futex_waitv or membarrier everything works, if not as fast: messages come, and deaths are noticed.
fn a_sandbox_makes_slow_and_nothing_else() {
    let scene = scene();
    for (call, errno) in [
        (libc::SYS_futex_waitv, libc::ENOSYS),
        (libc::SYS_futex_waitv, libc::EPERM),
        (libc::SYS_membarrier, libc::EPERM),
    ] {
        let (sender, receiver) = Queue::<u64>::new(4).unwrap().split();
        let other = Queue::<u64>::new(1).unwrap();
        let producer = fork({
            let sender = sender.clone();
            move || {
                for message in 0.. {
                    sender.send(message).unwrap();
                    sleep(Duration::from_millis(1));
                }
            }
        });
        drop(sender);
        let waiter = fork(|| {
            forbid(call, errno);
            let descriptor = receiver.descriptor().unwrap();
            for message in 0..40 {
                if message % 2 == 0 {
                    await_readable(&descriptor);
                } else {
                    assert_eq!(wait_any(&[&other, &receiver], None).unwrap(), [1]);
                }
                assert_eq!(receiver.recv().unwrap(), message);
                descriptor.rearm().unwrap();
            }
            // Everything until the end, which is the producer's death.
            loop {
                await_readable(&descriptor);
                match receiver.try_recv() {
                    Ok(message) => drop(other.try_send(message)),
                    Err(error) if error.is_empty() => descriptor.rearm().unwrap(),
                    Err(error) => break assert!(error.is_disconnected()),
                }
            }
        });
        // The waiter has what it looks for by messages, and waits for the end.
        assert_eq!(other.recv().unwrap(), 40);
        producer.kill_only();
        waiter.join();
        producer.kill();
        drop((receiver, other));
    }
    scene.end();
}

/// Made, armed and dropped by many threads at once.
fn many_threads_share_the_watching() {
    let scene = scene();
    let queue = Queue::<u32>::new(4).unwrap();
    thread::scope(|scope| {
        let consume = || {
            let mut received = 0;
            while received < 200 {
                let descriptor = queue.descriptor().unwrap();
                for _ in 0..20 {
                    if queue.try_recv().is_ok() {
                        received += 1;
                    } else {
                        descriptor.rearm().unwrap();
                        await_readable(&descriptor);
                    }
                }
            }
        };
        let consumers: Vec<_> = (0..4).map(|_| scope.spawn(consume)).collect();
        let mut sent = 0;
        while !consumers.iter().all(|consumer| consumer.is_finished()) {
            sent += u32::from(queue.send_timeout(sent, Duration::from_millis(1)).is_ok());
        }
    });
    assert!(wait_until(Duration::from_secs(5), || threads() == 1));
    drop(queue);
    scene.end();
}

/// A descriptor that waits costs no processor time.
fn a_waiting_descriptor_costs_nothing() {
    let scene = scene();
    let queues: Vec<_> = (0..10).map(|_| Queue::<u32>::new(1).unwrap()).collect();
    let waiter = fork(|| {
        let descriptors: Vec<_> = queues.iter().map(|queue| queue.descriptor().unwrap()).collect();
        // One is readable, and nobody looks.
        queues[0].send(1).unwrap();
        await_readable(&descriptors[0]);
        let before = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        sleep(Duration::from_secs(2));
        let after = getrusage(UsageWho::RUSAGE_SELF).unwrap();
        let used = after.user_time() + after.system_time() - before.user_time() - before.system_time();
        let sleeps = after.voluntary_context_switches() - before.voluntary_context_switches();
        println!("{sleeps} sleeps, {} us of processor time", used.num_microseconds());
        assert!(sleeps < 20, "{sleeps} sleeps in two seconds");
        assert!(used.num_milliseconds() < 100, "{} us", used.num_microseconds());
    });
    waiter.join();
    drop(queues);
    scene.end();
}

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), $name as fn())),*]
    };
}

fn main() -> ExitCode {
    run_single_threaded(tests![
        it_is_readable_until_it_is_armed_again,
        every_end_has_one,
        an_edge_triggered_loop_misses_nothing,
        hundreds_of_queues_are_watched,
        the_death_of_the_last_sender_is_told,
        the_death_of_one_who_watches_keeps_nothing,
        a_forked_child_asks_for_its_own,
        a_lack_of_descriptors_is_an_error,
        a_lack_of_threads_is_an_error,
        a_sandbox_makes_slow_and_nothing_else,
        many_threads_share_the_watching,
        a_waiting_descriptor_costs_nothing,
    ])
}
