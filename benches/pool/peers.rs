//! rayon and procspawn.

use offspring_benches::{Setting, spin};
use rayon::prelude::*;

use crate::tasks::{MILLION, check_spins, check_trivial, numbers, spins, trivial};

fn rayon_pool() -> Result<rayon::ThreadPool, String> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .map_err(|error| error.to_string())
}

/// `None`: rayon splits as it likes.
pub(crate) fn rayon_map(setting: &Setting, chunk: Option<usize>) -> Result<f64, String> {
    let pool = rayon_pool()?;
    let run = || {
        let numbers = numbers(MILLION).into_par_iter();
        Ok(pool.install(|| match chunk {
            Some(length) => numbers.with_max_len(length).map(trivial).collect::<Vec<_>>(),
            None => numbers.map(trivial).collect(),
        }))
    };
    setting.rate(MILLION, run, |results| check_trivial(results.iter().copied(), MILLION))
}

pub(crate) fn rayon_spin(setting: &Setting, microseconds: u64) -> Result<f64, String> {
    let pool = rayon_pool()?;
    let (inputs, expected) = spins(setting, microseconds);
    let run = || Ok(pool.install(|| inputs.par_iter().map(|loops| spin(*loops)).collect::<Vec<_>>()));
    setting.rate(inputs.len(), run, |results| {
        check_spins(results, inputs.len(), expected)
    })
}

fn procspawn_pool() -> Result<procspawn::Pool, String> {
    procspawn::Pool::new(2).map_err(|error| error.to_string())
}

pub(crate) fn procspawn_create(setting: &Setting) -> Result<f64, String> {
    setting.microseconds(|| {
        let pool = procspawn_pool()?;
        let result = pool.spawn(1_u64, trivial).join().map_err(|error| error.to_string())?;
        pool.shutdown();
        if result == trivial(1) {
            Ok(())
        } else {
            Err(format!("the wrong result {result}"))
        }
    })
}

/// procspawn has no `map`: every chunk is spawned, then every one joined. `None`: four chunks a worker, as Python does.
pub(crate) fn procspawn_map(setting: &Setting, chunk: Option<usize>) -> Result<f64, String> {
    let count = match (chunk, setting.quick) {
        (Some(length), true) => 2_000 * length,
        (Some(length), false) => 10_000 * length,
        (None, _) => MILLION,
    };
    if count != MILLION {
        println!("note {count} tasks a call, not 1 M: it is too slow");
    }
    let length = chunk.unwrap_or(count / 8);
    let pool = procspawn_pool()?;
    let run = || {
        let chunks = numbers(count).chunks(length).map(<[u64]>::to_vec).collect::<Vec<_>>();
        let handles = chunks
            .into_iter()
            .map(|chunk| pool.spawn(chunk, |chunk| chunk.into_iter().map(trivial).collect::<Vec<_>>()));
        let handles: Vec<_> = handles.collect();
        let mut results = Vec::with_capacity(count);
        for handle in handles {
            results.extend(handle.join().map_err(|error| error.to_string())?);
        }
        Ok(results)
    };
    setting.rate(count, run, |results| check_trivial(results.iter().copied(), count))
}
