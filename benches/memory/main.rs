//! What a worker costs in memory.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use offspring::Pool;
use offspring_benches::{Better, Case, Implementation, Setting, pss_of, run};

const WORKERS: usize = 4;

fn main() -> ExitCode {
    run(
        "memory",
        &[Case {
            name: "memory/worker",
            unit: "MiB",
            better: Better::Lower,
            what: "proportional set size of a worker, mean over the 4 of a pool that has run tasks; the zygote is not counted",
            implementations: vec![Implementation::new("offspring", worker), Implementation::cpython()],
        }],
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
