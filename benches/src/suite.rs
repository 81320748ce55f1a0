//! Suites, cases, implementations, and the rounds over them.

use std::fmt;
use std::process::ExitCode;
use std::time::Instant;

use crate::cli::{Options, Request};
use crate::machine::Load;
use crate::report::{Row, Table, append_json};
use crate::sampling::Setting;
use crate::{machine, measure, python};

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    Higher,
    /// Times and sizes.
    Lower,
}

/// One thing that is measured, and who does it.
#[derive(Debug)]
pub struct Case {
    /// A fixed name, so that runs compare over time.
    pub name: &'static str,
    /// `ops/s`, `us`, `ns` or `MiB`.
    pub unit: &'static str,
    /// Whether a high or a low value is good.
    pub better: Better,
    /// What the numbers mean, and where the two sides ran.
    pub what: &'static str,
    /// Ours first.
    pub implementations: Vec<Implementation>,
}

/// One way to do the work of a case.
pub struct Implementation {
    pub(crate) name: &'static str,
    pub(crate) how: How,
}

type Measure = dyn Fn(&Setting) -> Result<f64, String>;

pub(crate) enum How {
    /// In a fresh process of this program.
    Here(Box<Measure>),
    /// By the script `python/peer.py`.
    Python,
    /// Cannot be had, for this reason.
    Missing(&'static str),
}

impl Implementation {
    /// Measured by a function, called in a fresh process of this program: the value of one round.
    pub fn new(name: &'static str, measure: impl Fn(&Setting) -> Result<f64, String> + 'static) -> Self {
        Self {
            name,
            how: How::Here(Box::new(measure)),
        }
    }

    /// Measured by the script of the Python peers, if there is a `python3`.
    pub const fn cpython() -> Self {
        Self {
            name: "cpython",
            how: How::Python,
        }
    }

    /// A peer that does not have what the case asks for; the reason is printed.
    pub const fn missing(name: &'static str, reason: &'static str) -> Self {
        Self {
            name,
            how: How::Missing(reason),
        }
    }
}

impl fmt::Debug for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Implementation")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The `main` of a suite's program.
pub fn run(suite: &str, cases: &[Case]) -> ExitCode {
    let result = match Request::from_arguments() {
        Ok(Request::Measure {
            case,
            implementation,
            setting,
        }) => measure_here(cases, &case, &implementation, &setting),
        Ok(Request::Compare(options)) => compare(suite, cases, &options),
        Err(reason) => Err(reason),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn measure_here(cases: &[Case], case: &str, implementation: &str, setting: &Setting) -> Result<(), String> {
    let found = cases.iter().find(|other| other.name == case);
    let found = found.and_then(|case| case.implementations.iter().find(|other| other.name == implementation));
    match found.map(|implementation| &implementation.how) {
        Some(How::Here(function)) => {
            println!("value {}", function(setting)?);
            Ok(())
        }
        _ => Err(format!(
            "{case} has no {implementation} that is measured in this program"
        )),
    }
}

fn compare(suite: &str, cases: &[Case], options: &Options) -> Result<(), String> {
    let start = Instant::now();
    machine::adopt_orphans();
    let rounds = if options.quick { 3 } else { 7 };
    let mut failures = 0;
    for case in cases.iter().filter(|case| options.selects(case.name)) {
        let load = Load::start();
        let rows = rounds_of(case, rounds, options);
        failures += rows.iter().filter(|row| row.failure.is_some() && !row.missing).count();
        let table = Table {
            case,
            rows: &rows,
            rounds,
            others: load.others(),
        };
        println!("{table}");
        if let Some(path) = &options.json {
            append_json(path, case, &rows)?;
        }
    }
    println!("{suite}: {:.0} s", start.elapsed().as_secs_f64());
    if failures == 0 {
        Ok(())
    } else {
        Err(format!("{failures} measurements of the suite {suite} failed"))
    }
}

/// A B C A B C ...: what disturbs the machine for a while disturbs all alike.
fn rounds_of(case: &Case, rounds: usize, options: &Options) -> Vec<Row> {
    let mut rows: Vec<_> = case
        .implementations
        .iter()
        .map(|implementation| Row::new(implementation.name))
        .collect();
    for _ in 0..rounds {
        for (implementation, row) in case.implementations.iter().zip(&mut rows) {
            if row.failure.is_some() {
                continue;
            }
            let result = match &implementation.how {
                How::Here(_) => measure::in_fresh_process(case.name, implementation.name, options.quick),
                How::Python => match python::measure(case.name, options.quick) {
                    Err(python::Failure::Missing(reason)) => {
                        row.missing = true;
                        Err(reason)
                    }
                    Err(python::Failure::Wrong(reason)) => Err(reason),
                    Ok(answer) => Ok(answer),
                },
                How::Missing(reason) => {
                    row.missing = true;
                    Err((*reason).to_owned())
                }
            };
            machine::reap_orphans();
            match result {
                Ok(answer) => row.add(answer),
                Err(reason) => row.failure = Some(reason),
            }
        }
    }
    rows
}
