//! Tables for people, JSON lines for programs.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;

use serde_json::json;

use crate::measure::Answer;
use crate::sampling::median;
use crate::suite::{Better, Case};

/// The rounds of one implementation.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    values: Vec<f64>,
    note: Option<String>,
    /// Why there are no values.
    pub(crate) failure: Option<String>,
    /// The failure only means that the peer is not there.
    pub(crate) missing: bool,
}

impl Row {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            values: Vec::new(),
            note: None,
            failure: None,
            missing: false,
        }
    }

    pub(crate) fn add(&mut self, answer: Answer) {
        self.values.push(answer.value);
        self.note = answer.note.or(self.note.take());
    }

    fn is_ours(&self) -> bool {
        self.name.starts_with("offspring")
    }

    fn median(&self) -> Option<f64> {
        (!self.values.is_empty() && self.failure.is_none()).then(|| median(&self.values))
    }

    fn extremes(&self) -> (f64, f64) {
        let min = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        (min, self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }
}

/// The result of a case.
pub(crate) struct Table<'a> {
    pub(crate) case: &'a Case,
    pub(crate) rows: &'a [Row],
    pub(crate) rounds: usize,
    /// The share of the machine that other programs took meanwhile.
    pub(crate) others: f64,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case = self.case;
        let better = if case.better == Better::Higher {
            "higher"
        } else {
            "lower"
        };
        writeln!(out, "\n{}: {}", case.name, case.what)?;
        writeln!(
            out,
            "{} rounds, {} is better, other programs took {:.0} % of the machine",
            self.rounds,
            better,
            self.others * 100.0
        )?;
        let ours: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.is_ours() && row.median().is_some())
            .collect();
        write!(
            out,
            "  {:20} {:>10} {:>10} {:>10} {:>6}",
            "", case.unit, "min", "max", "rounds"
        )?;
        for row in &ours {
            write!(out, "  {:>18}", row.name)?;
        }
        writeln!(out)?;
        for row in self.rows {
            let Some(median) = row.median() else {
                let reason = row.failure.as_deref().unwrap_or("no rounds");
                writeln!(
                    out,
                    "  {:20} {}: {reason}",
                    row.name,
                    if row.missing { "missing" } else { "FAILED" }
                )?;
                continue;
            };
            let (min, max) = row.extremes();
            let rounds = row.values.len();
            write!(
                out,
                "  {:20} {:>10} {:>10} {:>10} {rounds:>6}",
                row.name,
                short(median),
                short(min),
                short(max)
            )?;
            for our in &ours {
                match our.median() {
                    Some(our) if !row.is_ours() => {
                        let ratio = if case.better == Better::Higher {
                            our / median
                        } else {
                            median / our
                        };
                        write!(out, "  {:>17.3}x", ratio)?;
                    }
                    _ => write!(out, "  {:>18}", "")?,
                }
            }
            match &row.note {
                Some(note) => writeln!(out, "  ({note})")?,
                None => writeln!(out)?,
            }
        }
        Ok(())
    }
}

/// Four significant digits, with k, M, G for large numbers.
fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, " G"),
        size if size >= 1e6 => (value / 1e6, " M"),
        size if size >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    format!("{scaled:.digits$}{unit}")
}

/// Appends a line for each implementation that has values.
pub(crate) fn append_json(path: &str, case: &Case, rows: &[Row]) -> Result<(), String> {
    let failed = |error| format!("cannot write {path}: {error}");
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(failed)?;
    for row in rows {
        let Some(median) = row.median() else { continue };
        let (min, max) = row.extremes();
        let better = if case.better == Better::Higher {
            "higher"
        } else {
            "lower"
        };
        // Written field by field: the order is part of the format that people read.
        let fields = [
            ("case", json!(case.name)),
            ("impl", json!(row.name)),
            ("value", json!(median)),
            ("unit", json!(case.unit)),
            ("better", json!(better)),
            ("min", json!(min)),
            ("max", json!(max)),
            ("rounds", json!(row.values.len())),
        ];
        let line = fields.map(|(name, value)| format!("\"{name}\": {value}")).join(", ");
        writeln!(file, "{{{line}}}").map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, values: &[f64]) -> Row {
        let mut row = Row::new(name);
        values.iter().for_each(|&value| row.add(Answer { value, note: None }));
        row
    }

    fn case(better: Better) -> Case {
        Case {
            name: "a/b",
            unit: "us",
            better,
            what: "what",
            implementations: Vec::new(),
        }
    }

    #[test]
    fn a_ratio_above_one_means_that_ours_is_better() {
        for (better, ratio) in [(Better::Higher, "0.500x"), (Better::Lower, "2.000x")] {
            let rows = [row("offspring", &[10.0, 1.0, 20.0]), row("peer", &[20.0])];
            let table = Table {
                case: &case(better),
                rows: &rows,
                rounds: 3,
                others: 0.0,
            }
            .to_string();
            assert!(
                table.lines().any(|line| line.contains("peer") && line.ends_with(ratio)),
                "{table}"
            );
        }
    }

    #[test]
    fn missing_and_failed_are_named() {
        let (mut missing, mut failed) = (row("gone", &[]), row("wrong", &[1.0]));
        (missing.failure, missing.missing) = (Some("there is no python3".to_owned()), true);
        failed.failure = Some("it hung".to_owned());
        let table = Table {
            case: &case(Better::Lower),
            rows: &[missing, failed],
            rounds: 3,
            others: 0.0,
        }
        .to_string();
        assert!(
            table.contains("missing: there is no python3") && table.contains("FAILED: it hung"),
            "{table}"
        );
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.5, 12.345, 9999.0, 12_345.0, 1_234_567.0, 2e9].map(short);
        assert_eq!(texts, ["0.500", "12.35", "9999", "12.35 k", "1.235 M", "2.000 G"]);
    }
}
