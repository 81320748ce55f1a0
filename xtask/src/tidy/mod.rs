//! The house rules that no compiler checks.
//!
//! Each rule is a function from the workspace to what it found; `tables.rs` holds what the rules are told.

mod atomics;
mod crate_roots;
mod layers;
mod length;
mod machine;
mod manifests;
mod orphans;
mod pairs;
mod tables;
mod unsafe_files;

#[cfg(test)]
mod fixture;

use std::fmt;

use crate::Outcome;
use crate::workspace::Workspace;

/// One breach of one rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    /// From 1; 0 when the whole file is meant.
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.file, self.what),
            line => write!(out, "{}:{line}: {}", self.file, self.what),
        }
    }
}

type Rule = fn(&Workspace) -> Vec<Finding>;

const RULES: &[Rule] = &[
    layers::check,
    manifests::check,
    orphans::check,
    unsafe_files::check,
    pairs::check,
    atomics::check,
    crate_roots::check,
    length::check,
    machine::check,
];

/// Applies every rule to this workspace and prints what they found.
pub(crate) fn run() -> Outcome {
    let workspace = Workspace::load()?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&workspace)).collect();
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => {
            println!(
                "tidy: {} packages and {} files are in order",
                workspace.packages.len(),
                workspace.files.len()
            );
            Ok(())
        }
        number => Err(format!("tidy found {number} breaches of the house rules")),
    }
}
