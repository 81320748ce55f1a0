//! Our pool.

use offspring::rkyv::vec::ArchivedVec;
use offspring::{Pool, SharedSlice};
use offspring_benches::{BIG, PLACE, Setting, spin};

use crate::tasks::{MILLION, check_spins, check_trivial, numbers, spins, trivial};

fn words(error: offspring::Error) -> String {
    error.to_string()
}

pub(crate) fn create(setting: &Setting) -> Result<f64, String> {
    setting.microseconds(|| {
        let pool = Pool::new(2).map_err(words)?;
        let results = pool.map(trivial, [1]).map_err(words)?;
        pool.close();
        pool.join().map_err(words)?;
        check_trivial_of_one(&results)
    })
}

fn check_trivial_of_one(results: &[u64]) -> Result<(), String> {
    if results == [trivial(1)] {
        Ok(())
    } else {
        Err(format!("the wrong results {results:?}"))
    }
}

/// `None`: the pool chooses the chunks.
pub(crate) fn map(setting: &Setting, chunk: Option<usize>) -> Result<f64, String> {
    let pool = Pool::new(2).map_err(words)?;
    let run = || match chunk {
        Some(length) => pool.chunk_size(length).map(trivial, numbers(MILLION)).map_err(words),
        None => pool.map(trivial, numbers(MILLION)).map_err(words),
    };
    setting.rate(MILLION, run, |results| check_trivial(results.iter().copied(), MILLION))
}

/// Results read where they lie.
pub(crate) fn map_views(setting: &Setting) -> Result<f64, String> {
    let pool = Pool::new(2).map_err(words)?;
    let run = || pool.map_views(trivial, numbers(MILLION)).map_err(words);
    setting.rate(MILLION, run, |views| {
        check_trivial(views.iter().map(|result| result.to_native()), MILLION)
    })
}

pub(crate) fn tasks(setting: &Setting, microseconds: u64) -> Result<f64, String> {
    let pool = Pool::new(2).map_err(words)?;
    let (inputs, expected) = spins(setting, microseconds);
    let run = || pool.map(spin, inputs.iter().copied()).map_err(words);
    setting.rate(inputs.len(), run, |results| {
        check_spins(results, inputs.len(), expected)
    })
}

fn look(bytes: &ArchivedVec<u8>) -> (u64, u8) {
    (bytes.len() as u64, bytes[PLACE])
}

/// The argument is copied from memory that the caller keeps into the arena, and read there.
pub(crate) fn argument(setting: &Setting) -> Result<f64, String> {
    let pool = Pool::new(2).map_err(words)?;
    let value = vec![7_u8; BIG];
    setting.microseconds(|| {
        let written = SharedSlice::from_slice(&value).map_err(|error| error.to_string())?;
        check_look(&pool.map(look_in_place, [written]).map_err(words)?)
    })
}

/// The argument is moved into the call, which writes it into the arena and gives the caller's own memory back.
pub(crate) fn moved(setting: &Setting) -> Result<f64, String> {
    let pool = Pool::new(2).map_err(words)?;
    setting.sample(|| {
        // The call takes it, so each gets its own.
        let value = vec![7_u8; BIG];
        let start = std::time::Instant::now();
        let results = pool.map(look, [value]).map_err(words)?;
        let microseconds = start.elapsed().as_secs_f64() * 1e6;
        check_look(&results)?;
        Ok(microseconds)
    })
}

fn look_in_place(bytes: SharedSlice<u8>) -> (u64, u8) {
    (bytes.len() as u64, bytes[PLACE])
}

/// The argument lies in the arena.
pub(crate) fn in_place(setting: &Setting) -> Result<f64, String> {
    let pool = Pool::new(2).map_err(words)?;
    let value = SharedSlice::from_slice(&vec![7_u8; BIG]).map_err(|error| error.to_string())?;
    setting.microseconds(|| check_look(&pool.map(look_in_place, [value.clone()]).map_err(words)?))
}

fn check_look(results: &[(u64, u8)]) -> Result<(), String> {
    if results == [(BIG as u64, 7)] {
        Ok(())
    } else {
        Err(format!("the wrong results {results:?}"))
    }
}
