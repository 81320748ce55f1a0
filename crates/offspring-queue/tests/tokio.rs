//! Queues in tokio: a task that waits for a message does not block the others, and misses none.

mod support;

use std::cell::Cell;
use std::io;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use offspring_queue::{Descriptor, Message, Queue, Receiver, TryRecvError};
use offspring_testing::run_single_threaded;
use support::{Child, fork, scene};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local, yield_now};

/// A receiver that tasks wait for.
struct AsyncReceiver<T: Message> {
    receiver: Receiver<T>,
    descriptor: AsyncFd<Descriptor>,
}

impl<T: Message> AsyncReceiver<T> {
    #[allow(
        deprecated,
        reason = "its successor is younger than the versions in use, and unsafe to call"
    )]
    fn new(receiver: Receiver<T>) -> io::Result<Self> {
        Ok(Self {
            descriptor: AsyncFd::with_interest(receiver.descriptor()?, Interest::READABLE)?,
            receiver,
        })
    }

    /// The next message, or `None` after the last one.
    async fn recv(&self) -> io::Result<Option<T>> {
        loop {
            match self.receiver.try_recv() {
                Ok(message) => return Ok(Some(message)),
                Err(TryRecvError::Empty) => {
                    let mut guard = self.descriptor.readable().await?;
                    guard.clear_ready();
                    self.descriptor.get_ref().rearm()?;
                }
                Err(_) => return Ok(None),
            }
        }
    }
}

fn a_task_receives_everything_and_blocks_nobody() {
    let scene = scene();
    const EACH: u64 = 5000;
    let (sender, receiver) = Queue::<u64>::new(8).unwrap().split();
    let producers: Vec<_> = (0..2)
        .map(|number| {
            let sender = sender.clone();
            fork(move || {
                for message in 0..EACH {
                    sender.send(number * EACH + message).unwrap();
                    if message % 500 == 0 {
                        sleep(Duration::from_millis(1));
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    let (mut received, turns) = runtime.block_on(LocalSet::new().run_until(async {
        let over = std::rc::Rc::new(Cell::new(false));
        let other = spawn_local({
            let over = std::rc::Rc::clone(&over);
            async move {
                let mut turns = 0_u64;
                while !over.get() {
                    turns += 1;
                    yield_now().await;
                }
                turns
            }
        });
        let receiver = AsyncReceiver::new(receiver).unwrap();
        let mut received = Vec::new();
        while let Some(message) = receiver.recv().await.unwrap() {
            received.push(message);
        }
        over.set(true);
        (received, other.await.unwrap())
    }));
    assert!(turns > 10, "the other task had {turns} turns");
    received.sort_unstable();
    assert_eq!(received, (0..2 * EACH).collect::<Vec<_>>());
    producers.into_iter().for_each(Child::join);
    drop(runtime);
    scene.end();
}

/// Nobody is busy while nothing comes, and two tasks share what comes.
fn two_tasks_wait_for_one_queue() {
    let scene = scene();
    let queue = Queue::<u64>::new(4).unwrap();
    let producer = fork(|| {
        for message in 0..1000 {
            queue.send(message).unwrap();
        }
        queue.close();
    });
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    let mut received = runtime.block_on(LocalSet::new().run_until(async {
        let tasks = [queue.receiver(), queue.receiver()].map(|receiver| {
            spawn_local(async move {
                let receiver = AsyncReceiver::new(receiver).unwrap();
                let mut received = Vec::new();
                while let Some(message) = receiver.recv().await.unwrap() {
                    received.push(message);
                }
                received
            })
        });
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    }));
    received.sort_unstable();
    assert_eq!(received, (0..1000).collect::<Vec<_>>());
    producer.join();
    drop((runtime, queue));
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[
        (
            "a_task_receives_everything_and_blocks_nobody",
            a_task_receives_everything_and_blocks_nobody,
        ),
        ("two_tasks_wait_for_one_queue", two_tasks_wait_for_one_queue),
    ])
}
