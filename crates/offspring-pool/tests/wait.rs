//! Processes among other things that are waited for.
#![cfg(feature = "start-hook")]

mod scene;

use std::thread::sleep;
use std::time::{Duration, Instant};

use offspring_pool::Process;
use offspring_process::{EntryPoint, ExitStatus, Launcher};
use offspring_queue::{Deadline, Queue, Receiver, Sender, Waitable, wait_any};
use offspring_sync::Membership;
use scene::Scene;

/// The table of members is made once for the life of the process.
fn scene() -> Scene {
    Membership::family().unwrap();
    Scene::new()
}

fn now_ready(on: &[&dyn Waitable]) -> Vec<usize> {
    wait_any(on, Some(Duration::ZERO)).unwrap()
}

/// K10: sentinels, queues and descriptors, and exactly what is ready each time.
#[test]
fn sentinels_queues_and_descriptors_are_told_apart() {
    let _scene = scene();
    let queue = Queue::<u32>::new(2).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let (go, command) = Queue::<()>::new(1).unwrap().split();
    let process = Process::spawn(|command: Receiver<()>| drop(command.recv()), command).unwrap();
    let sleeper = Process::builder()
        .daemon(true)
        .spawn(|| sleep(Duration::from_secs(1000)), ())
        .unwrap();
    let on: [&dyn Waitable; 4] = [&process, &queue, &reader, &sleeper];
    assert!(now_ready(&on).is_empty());
    go.send(()).unwrap();
    assert_eq!(wait_any(&on, None).unwrap(), [0]);
    queue.send(1).unwrap();
    assert_eq!(now_ready(&on), [0, 1]);
    drop(writer);
    assert_eq!(wait_any(&on, None).unwrap(), [0, 1, 2]);
    queue.recv().unwrap();
    sleeper.kill().unwrap();
    assert_eq!(wait_any(&[&sleeper, &queue], None).unwrap(), [0]);
    process.join().unwrap();
    sleeper.join().unwrap();
    // Also after somebody has waited for it.
    assert_eq!(now_ready(&on), [0, 2, 3]);
}

/// Results come by a queue until the process that sends them ends, or is killed.
#[test]
fn a_worker_is_heard_until_its_end() {
    let _scene = scene();
    for kill in [false, true] {
        let (sender, receiver) = Queue::new(2).unwrap().split();
        let work = |sender: Sender<u32>, kill: bool| {
            for number in 0..20 {
                sender.send(number).unwrap();
            }
            if kill {
                sleep(Duration::from_secs(1000));
            }
        };
        let worker = Process::builder().daemon(true).spawn(work, (sender, kill)).unwrap();
        let mut received = Vec::new();
        loop {
            let ready = wait_any(&[&receiver, &worker], None).unwrap();
            assert!(!ready.is_empty());
            if ready.contains(&0) {
                match receiver.try_recv() {
                    Ok(number) => received.push(number),
                    Err(error) => break assert!(error.is_disconnected(), "{error}"),
                }
            }
            if kill && received.len() == 20 {
                worker.kill().unwrap();
            }
        }
        assert_eq!(received, (0..20).collect::<Vec<_>>());
        assert_eq!(wait_any(&[&worker], None).unwrap(), [0]);
        worker.join().unwrap();
    }
}

/// Some of many processes end; the rest are waited for until a deadline.
#[test]
fn many_sentinels_and_a_deadline() {
    let _scene = scene();
    let gates: Vec<_> = (0..6).map(|_| Queue::<()>::new(1).unwrap()).collect();
    let processes: Vec<_> = gates
        .iter()
        .map(|gate| Process::spawn(|gate: Receiver<()>| drop(gate.recv()), gate.receiver()).unwrap())
        .collect();
    for leaving in [4, 1] {
        gates[leaving].send(()).unwrap();
        processes[leaving].join().unwrap();
    }
    let deadline = Deadline(Instant::now() + Duration::from_millis(20));
    let mut on: Vec<&dyn Waitable> = processes.iter().map(|process| process as &dyn Waitable).collect();
    on.push(&deadline);
    let ready = wait_any(&on, None).unwrap();
    assert!(ready.starts_with(&[1, 4]), "{ready:?}");
    on.remove(4);
    on.remove(1);
    assert_eq!(wait_any(&on, None).unwrap(), [4], "the deadline");
    for gate in &gates {
        // Those that have ended do not take it.
        let _ = gate.try_send(());
    }
    let all: Vec<_> = processes.iter().map(|process| process as &dyn Waitable).collect();
    while wait_any(&all, None).unwrap().len() < all.len() {}
}

/// A process below the typed ones is a descriptor like any other.
#[test]
fn an_untyped_child_is_waited_for() {
    static SEVEN: EntryPoint = EntryPoint::new("seven", |_| 7);
    let _scene = scene();
    let queue = Queue::<u32>::new(1).unwrap();
    let child = Launcher::new().start(&SEVEN, &[], &[]).unwrap();
    assert_eq!(wait_any(&[&queue, &child], None).unwrap(), [1]);
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(7));
}
