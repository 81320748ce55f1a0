//! Queues: messages a second, round trips, large messages, and what a queue costs.

mod content;
mod crossbeam;
mod flow;
mod ours;

use std::process::ExitCode;

use offspring_benches::{Better, Case, Implementation, run};

/// The messages that a channel has room for.
const CAPACITY: usize = 1024;

fn main() -> ExitCode {
    run("queues", &rates())
}

fn rates() -> Vec<Case> {
    let case = |name, what, implementations: Vec<Implementation>| Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations,
    };
    vec![
        case(
            "queue/1x1/64B",
            "1 producer, 1 consumer, pinned to the processors in turn",
            vec![
                Implementation::new("offspring", |setting| ours::values::<[u64; 8], 8>(setting, 1, CAPACITY)),
                Implementation::new("crossbeam", |setting| {
                    crossbeam::values::<[u64; 8], 8>(setting, 1, CAPACITY)
                }),
            ],
        ),
        case(
            "queue/2x2/64B",
            "2 producers, 2 consumers, pinned to the processors in turn",
            vec![
                Implementation::new("offspring", |setting| ours::values::<[u64; 8], 8>(setting, 2, CAPACITY)),
                Implementation::new("crossbeam", |setting| {
                    crossbeam::values::<[u64; 8], 8>(setting, 2, CAPACITY)
                }),
            ],
        ),
    ]
}
