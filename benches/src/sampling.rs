//! How long one round samples, and what it makes of the samples.

use std::time::{Duration, Instant};

/// What a measurement is told.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Less time for each measurement.
    pub quick: bool,
}

impl Setting {
    /// How long the measured part of one round should last.
    pub fn budget(&self) -> Duration {
        Duration::from_millis(if self.quick { 300 } else { 1000 })
    }

    /// Takes samples, at least three, until the budget is spent, and returns their median. The first warms up and does not count, nor
    /// does the second if there is time for many.
    ///
    /// # Errors
    ///
    /// The first error of a sample.
    pub fn sample(&self, mut sample: impl FnMut() -> Result<f64, String>) -> Result<f64, String> {
        let start = Instant::now();
        sample()?;
        if start.elapsed() < self.budget() / 8 {
            sample()?;
        }
        let end = Instant::now() + self.budget();
        let mut samples = Vec::new();
        while samples.len() < 3 || Instant::now() < end {
            samples.push(sample()?);
        }
        Ok(median(&samples))
    }

    /// Like [`sample`](Self::sample), of the microseconds a call takes.
    ///
    /// # Errors
    ///
    /// The first error of a call.
    pub fn microseconds(&self, mut call: impl FnMut() -> Result<(), String>) -> Result<f64, String> {
        self.sample(|| {
            let start = Instant::now();
            call()?;
            Ok(start.elapsed().as_secs_f64() * 1e6)
        })
    }

    /// Like [`sample`](Self::sample), of the rate of a call that does `number` pieces of work.
    ///
    /// # Errors
    ///
    /// The first error of a call.
    pub fn rate<R>(
        &self,
        number: usize,
        mut call: impl FnMut() -> Result<R, String>,
        check: impl Fn(&R) -> Result<(), String>,
    ) -> Result<f64, String> {
        self.sample(|| {
            let start = Instant::now();
            let result = call()?;
            let seconds = start.elapsed().as_secs_f64();
            check(&result)?;
            Ok(number as f64 / seconds)
        })
    }
}

/// The middle value; of an even number, the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]).to_bits(), 2.5_f64.to_bits());
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_first_samples_do_not_count_and_errors_end_the_round() {
        let mut number = 0.0;
        let value = Setting { quick: true }.sample(|| {
            number += 1.0;
            Ok(if number < 3.0 { 1e9 } else { 1.0 })
        });
        assert_eq!(value, Ok(1.0));
        assert_eq!(
            Setting { quick: true }.sample(|| Err("wrong".to_owned())),
            Err("wrong".to_owned())
        );
    }
}
