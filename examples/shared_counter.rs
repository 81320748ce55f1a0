//! One number under a lock, raised by four processes.
//!
//! ```sh
//! cargo run --release --example shared_counter
//! ```

use std::io;

use offspring::{Mutex, Process, Shared};

const PROCESSES: u64 = 4;
const TIMES: u64 = 100_000;

fn count(counter: Shared<Mutex<u64>>) -> Result<(), String> {
    for _ in 0..TIMES {
        *counter.lock().map_err(|error| error.to_string())? += 1;
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let counter = Shared::new(Mutex::new(0))?;
    let spawn = |_| Process::spawn(count, counter.clone());
    let processes: Vec<_> = (0..PROCESSES).map(spawn).collect::<Result<_, _>>()?;
    for process in processes {
        process.result()?.map_err(io::Error::other)?;
    }
    println!("{PROCESSES} processes counted to {}", *counter.lock()?);
    Ok(())
}
