//! An array of 256 MiB is written into shared memory once, and travels from process to process in microseconds.

use std::time::{Duration, Instant};

use offspring::shm::family;
use offspring::{Parcel, Process, Queue, Receiver, Sender};

const LEN: usize = 32 << 20;

/// Adds up the array where it lies.
fn add_up((arrays, answers): (Receiver<Vec<u64>>, Sender<(u64, u64)>)) {
    while let Ok(array) = arrays.recv_view() {
        let ends = array.first().map_or(0, |first| first.to_native()) + array.last().map_or(0, |last| last.to_native());
        answers.send((array.len() as u64, ends)).expect("somebody listens");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (array_sender, arrays) = Queue::new(2)?.split();
    let (answer_sender, answers) = Queue::new(2)?.split();
    let child = Process::spawn(add_up, (arrays, answer_sender))?;
    let array: Vec<u64> = (0..LEN as u64).collect();
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        // The one copy: from this process's memory into shared memory.
        let parcel = Parcel::encode(family::arena()?, family::me()?, &array)?;
        let started = Instant::now();
        array_sender.send_parcel(parcel)?;
        let answer = answers.recv()?;
        fastest = fastest.min(started.elapsed());
        assert_eq!(answer, (LEN as u64, LEN as u64 - 1));
    }
    // Without a sender the child comes to its end.
    drop(array_sender);
    child.result()?;
    println!("256 MiB went to another process");
    eprintln!("there, looked at, and back with an answer: {fastest:?}");
    Ok(())
}
