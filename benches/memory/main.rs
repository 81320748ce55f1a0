//! What workers and queues cost in memory.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use offspring::{Pool, Queue};
use offspring_benches::{Better, Case, Implementation, Setting, pss_of, run};

const WORKERS: usize = 4;
const QUEUES: usize = 1000;

fn main() -> ExitCode {
    let case = |name, what, ours: fn(&Setting) -> Result<f64, String>| Case {
        name,
        unit: "MiB",
        better: Better::Lower,
        what,
        implementations: vec![Implementation::new("offspring", ours), Implementation::cpython()],
    };
    run(
        "memory",
        &[
            case(
                "memory/worker",
                "proportional set size of a worker, mean over the 4 of a pool that has run tasks; the zygote is not counted",
                worker,
            ),
            case(
                "memory/queue",
                "what a queue with room for 100 numbers, through which one has gone, adds to the proportional set size",
                queue,
            ),
        ],
    )
}

fn process_number(_: u64) -> u32 {
    // Long enough that each worker takes one.
    sleep(Duration::from_millis(50));
    std::process::id()
}

fn worker(_: &Setting) -> Result<f64, String> {
    let words = |error: offspring::Error| error.to_string();
    let pool = Pool::new(WORKERS).map_err(words)?;
    let numbers = pool
        .chunk_size(1)
        .map(process_number, 0..2 * WORKERS as u64)
        .map_err(words)?;
    let workers: BTreeSet<_> = numbers.into_iter().collect();
    if workers.len() != WORKERS {
        return Err(format!("{} of {WORKERS} workers took a task", workers.len()));
    }
    let sizes: Vec<f64> = workers.into_iter().map(pss_of).collect::<Result<_, _>>()?;
    Ok(sizes.iter().sum::<f64>() / WORKERS as f64)
}

fn queue(_: &Setting) -> Result<f64, String> {
    let used = |number: usize| {
        let queue = Queue::new(100).map_err(|error| error.to_string())?;
        queue.send(number).map_err(|error| error.to_string())?;
        match queue.recv() {
            Ok(received) if received == number => Ok(queue),
            other => Err(format!("{number} became {other:?}")),
        }
    };
    // The arena itself is not counted.
    let _first = used(0)?;
    let me = std::process::id();
    let before = pss_of(me)?;
    let queues: Vec<_> = (0..QUEUES).map(used).collect::<Result<_, String>>()?;
    let after = pss_of(me)?;
    drop(queues);
    Ok((after - before) / QUEUES as f64)
}
