//! What a worker costs in memory.

use std::process::ExitCode;

use offspring_benches::{Better, Case, Implementation, run};

fn main() -> ExitCode {
    run(
        "memory",
        &[Case {
            name: "memory/worker",
            unit: "MiB",
            better: Better::Lower,
            what: "proportional set size of a worker, mean over the 4 of a pool that has run tasks",
            implementations: vec![Implementation::cpython()],
        }],
    )
}
