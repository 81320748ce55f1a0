//! Work of a known length that no compiler removes and whose result can be checked.

use std::env;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

const VARIABLE: &str = "OFFSPRING_BENCH_LOOPS_PER_US";

/// A chain of dependent multiplications; the result depends on every one.
pub fn spin(loops: u64) -> u64 {
    let mut state = loops;
    for _ in 0..loops {
        // The empty black box keeps the chain from being computed at once.
        state = std::hint::black_box(
            state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407),
        );
    }
    state
}

/// How many loops of [`spin`] take this long. Measured once for all implementations, so that all do the same work.
pub fn loops_for(nanoseconds: u64) -> u64 {
    let per_microsecond: u64 = env::var(VARIABLE)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(measured);
    (per_microsecond * nanoseconds / 1000).max(1)
}

fn measured() -> u64 {
    const LOOPS: u64 = 200_000;
    let shortest = (0..50).map(|_| {
        let start = Instant::now();
        std::hint::black_box(spin(LOOPS));
        start.elapsed().as_nanos()
    });
    let nanoseconds = shortest.min().unwrap_or(1).max(1);
    u64::try_from(u128::from(LOOPS) * 1000 / nanoseconds)
        .unwrap_or(1)
        .max(1)
}

/// Tells a measuring process the speed of this machine, measured once in the driver.
pub(crate) fn tell(command: &mut Command) {
    static SPEED: OnceLock<u64> = OnceLock::new();
    command.env(VARIABLE, SPEED.get_or_init(measured).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_follows_from_the_length() {
        assert_eq!(spin(1000), spin(1000));
        assert_ne!(spin(1000), spin(1001));
        assert!(loops_for(100_000) > 10 * loops_for(1000) / 2);
    }
}
