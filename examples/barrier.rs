//! Heat spreads along a rod: a simulation in steps, each process with a part of the rod. In each step all compute the new
//! temperatures from the old ones; no process may begin the next step before all have ended this one. The result is
//! checked against the same simulation in one process.
//!
//! ```sh
//! cargo run --release --example barrier
//! ```

use std::io;
use std::ops::Range;

use offspring::{Barrier, Process, Shared, SharedSlice, Value};

const PROCESSES: usize = 4;
const CELLS: usize = 1_000;
const STEPS: usize = 2_000;

/// The rod, twice: the temperatures of the even steps and of the odd ones.
type Rods = [SharedSlice<Value<f64>>; 2];

/// Computes the cells of one part through all steps.
fn simulate(
    part: (usize, usize),
    even: SharedSlice<Value<f64>>,
    odd: SharedSlice<Value<f64>>,
    barrier: Shared<Barrier>,
) {
    let rods = [even, odd];
    for step in 0..STEPS {
        advance(&rods, step, part.0..part.1);
        barrier.wait().expect("all parts of the rod are there");
    }
}

fn advance(rods: &Rods, step: usize, cells: Range<usize>) {
    let (old, new) = (&rods[step % 2], &rods[(step + 1) % 2]);
    for cell in cells {
        let left = old[cell.saturating_sub(1)].load();
        let right = old[(cell + 1).min(CELLS - 1)].load();
        let here = old[cell].load();
        new[cell].store(here + 0.25 * (left - 2.0 * here + right));
    }
}

/// A rod that is hot in the middle.
fn rods() -> io::Result<Rods> {
    let hot = |cell| {
        if (CELLS / 3..CELLS / 2).contains(&cell) {
            100.0
        } else {
            20.0
        }
    };
    let rod = || SharedSlice::from_fn(CELLS, |cell| Value::new(hot(cell)));
    Ok([rod()?, rod()?])
}

fn main() -> io::Result<()> {
    let rods = rods()?;
    let barrier = Shared::new(Barrier::new(PROCESSES)?)?;
    let spawn = |part| {
        let bounds = (CELLS * part / PROCESSES, CELLS * (part + 1) / PROCESSES);
        Process::spawn(simulate, (bounds, rods[0].clone(), rods[1].clone(), barrier.clone()))
    };
    let processes: Vec<_> = (0..PROCESSES).map(spawn).collect::<Result<_, _>>()?;
    for process in processes {
        process.result()?;
    }

    let alone = self::rods()?;
    for step in 0..STEPS {
        advance(&alone, step, 0..CELLS);
    }
    let read = |rod: &SharedSlice<Value<f64>>| rod.iter().map(Value::load).collect::<Vec<_>>();
    let (together, alone) = (read(&rods[STEPS % 2]), read(&alone[STEPS % 2]));
    if together != alone {
        return Err(io::Error::other("the parts did not stay in step"));
    }
    let hottest = together.iter().copied().fold(f64::MIN, f64::max);
    println!("{PROCESSES} processes took {STEPS} steps together; the rod is {hottest:.3} degrees at its hottest");
    println!("verified");
    Ok(())
}
