//! The tasks all pools run, and what must come out.

use offspring_benches::{Setting, loops_for, spin};

pub(crate) const MILLION: usize = 1_000_000;

/// A task that costs nothing. Never inlined: a loop that the compiler may vectorise measures memory, not tasks.
#[inline(never)]
pub(crate) fn trivial(number: u64) -> u64 {
    number.wrapping_mul(3) ^ 0x55
}

pub(crate) fn numbers(count: usize) -> Vec<u64> {
    (0..count as u64).collect()
}

/// Every result must be there, and in its place.
pub(crate) fn check_trivial(results: impl ExactSizeIterator<Item = u64>, count: usize) -> Result<(), String> {
    let length = results.len();
    let right = length == count && (0..).zip(results).all(|(number, result)| trivial(number) == result);
    if right {
        Ok(())
    } else {
        Err(format!("{length} results, not {count}, or wrong ones"))
    }
}

pub(crate) fn check_spins(results: &[u64], count: usize, expected: u64) -> Result<(), String> {
    let right = results.len() == count && results.iter().all(|result| *result == expected);
    if right {
        Ok(())
    } else {
        Err(format!("{} results, not {count}, or wrong ones", results.len()))
    }
}

/// Inputs for [`spin`] of this length, as many as keep two workers busy for the setting's time, and the result of each.
pub(crate) fn spins(setting: &Setting, microseconds: u64) -> (Vec<u64>, u64) {
    let loops = loops_for(microseconds * 1000);
    let microseconds_in_all = u64::try_from(setting.budget().as_micros()).unwrap_or(u64::MAX) / 4;
    let count = usize::try_from(2 * microseconds_in_all / microseconds).unwrap_or(usize::MAX);
    (vec![loops; count], spin(loops))
}
