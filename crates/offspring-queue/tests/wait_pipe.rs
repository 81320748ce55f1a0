//! Waiting for pipes and pairs among other things.

mod support;

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use offspring_queue::{Descriptor, PipeEnd, Queue, Waitable, pipe, pipe_with_capacity, spsc, wait_any};
use offspring_testing::run_single_threaded;
use support::{Child, fork, scene};

const SHORT: Duration = Duration::from_millis(30);

fn readable(descriptor: &Descriptor, timeout: PollTimeout) -> bool {
    poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], timeout).unwrap() == 1
}

/// K10: four pipes, ten messages each, to the end of each; what is ready can be received.
fn four_pipes_are_read_to_their_end() {
    let scene = scene();
    for pause in [Duration::ZERO, Duration::from_millis(3)] {
        for mixed in [false, true] {
            let (never, _open) = std::io::pipe().unwrap();
            let (ends, children): (Vec<PipeEnd<u32>>, Vec<Child>) = (0..4)
                .map(|number| {
                    let (here, there) = pipe::<u32, u32>().unwrap();
                    let child = fork(|| {
                        for message in 0..10 {
                            sleep(pause * number);
                            there.send(number * 100 + message).unwrap();
                        }
                    });
                    drop(there);
                    (here, child)
                })
                .unzip();
            let mut open: Vec<_> = (0..4).collect();
            let mut received = Vec::new();
            while !open.is_empty() {
                let mut on: Vec<&dyn Waitable> = open.iter().map(|&i| &ends[i] as &dyn Waitable).collect();
                if mixed {
                    on.push(&never);
                }
                let ready = wait_any(&on, None).unwrap();
                assert!(!ready.is_empty() && ready.iter().all(|&place| place < open.len()));
                for place in ready.into_iter().rev() {
                    match ends[open[place]].try_recv() {
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
        }
    }
    scene.end();
}

/// A message, room, and the end, exactly.
fn the_set_is_exact() {
    let scene = scene();
    let (left, right) = pipe_with_capacity::<u32, u32>(1).unwrap();
    let (producer, consumer) = spsc::channel::<u32>(1).unwrap();
    let now = |on: &[&dyn Waitable]| wait_any(on, Some(Duration::ZERO)).unwrap();
    assert_eq!(now(&[&left, left.producer(), &right, &producer, &consumer]), [1, 3]);
    left.send(1).unwrap();
    producer.send(2).unwrap();
    assert_eq!(now(&[&left, left.producer(), &right, &producer, &consumer]), [2, 4]);
    assert_eq!((right.recv().unwrap(), consumer.recv().unwrap()), (1, 2));
    assert!(wait_any(&[&right, &consumer], Some(SHORT)).unwrap().is_empty());
    left.send_bytes(b"").unwrap();
    assert_eq!(now(&[&right, &consumer]), [0], "an empty message counts");
    drop(producer);
    assert_eq!(now(&[&right, &consumer]), [0, 1]);
    assert_eq!(right.recv_bytes().unwrap(), []);
    drop((left, right, consumer));
    scene.end();
}

/// A pipe's end in an event loop: requests and answers, until the other process is killed.
fn a_pipe_is_served_by_its_descriptor() {
    let scene = scene();
    for killed in [false, true] {
        let (server, client) = pipe::<u64, u64>().unwrap();
        let child = fork(|| {
            for request in 0..2000 {
                client.send(request).unwrap();
                assert_eq!(client.recv().unwrap(), request + 1);
            }
            if killed {
                sleep(Duration::from_secs(100));
            }
        });
        drop(client);
        let descriptor = server.descriptor().unwrap();
        let mut served = 0;
        loop {
            assert!(readable(&descriptor, PollTimeout::NONE));
            match server.try_recv() {
                Ok(request) => {
                    server.send(request + 1).unwrap();
                    served += 1;
                }
                Err(error) if error.is_empty() => {
                    if killed && served == 2000 {
                        child.signal(nix::sys::signal::Signal::SIGKILL);
                    }
                    descriptor.rearm().unwrap();
                }
                Err(error) => break assert!(error.is_disconnected(), "{error}"),
            }
        }
        assert_eq!(served, 2000);
        if killed {
            child.kill();
        } else {
            child.join();
        }
        drop((descriptor, server));
    }
    scene.end();
}

/// Who waits for room and for a pipe among other things is woken by each.
fn a_sleeper_is_woken() {
    let scene = scene();
    let answers = Queue::<usize>::new(1).unwrap();
    for mixed in [false, true] {
        let (producer, consumer) = spsc::channel::<u32>(1).unwrap();
        let (left, right) = pipe::<u32, u32>().unwrap();
        let waiter = fork(|| {
            producer.send(1).unwrap();
            let (never, _open) = std::io::pipe().unwrap();
            let mut on: Vec<&dyn Waitable> = vec![&producer, &left];
            if mixed {
                on.push(&never);
            }
            for _ in 0..2 {
                let ready = wait_any(&on, None).unwrap();
                assert_eq!(ready.len(), 1);
                match ready[0] {
                    0 => producer.send(2).unwrap(),
                    _ => drop(left.recv().unwrap()),
                }
                answers.send(ready[0]).unwrap();
            }
        });
        drop((producer, left));
        waiter.await_sleep();
        assert_eq!(consumer.recv().unwrap(), 1);
        assert_eq!(answers.recv().unwrap(), 0);
        waiter.await_sleep();
        right.send(7).unwrap();
        assert_eq!(answers.recv().unwrap(), 1);
        waiter.join();
        drop((consumer, right));
    }
    drop(answers);
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[
        ("four_pipes_are_read_to_their_end", four_pipes_are_read_to_their_end),
        ("the_set_is_exact", the_set_is_exact),
        ("a_pipe_is_served_by_its_descriptor", a_pipe_is_served_by_its_descriptor),
        ("a_sleeper_is_woken", a_sleeper_is_woken),
    ])
}
