//! Pools of two workers: making one, mapping trivial and short tasks, handing over 256 MiB.

mod peers;
mod tasks;

use std::process::ExitCode;

use offspring_benches::{Better, Case, Implementation, run};

fn main() -> ExitCode {
    // A child of procspawn is this program again, and is recognised here.
    procspawn::init();
    let cases = [create(), maps(), tasks_of_a_length(), values()];
    run("pool", &cases.into_iter().flatten().collect::<Vec<_>>())
}

fn create() -> Vec<Case> {
    vec![Case {
        name: "pool/create",
        unit: "us",
        better: Better::Lower,
        what: "a pool of 2 workers, one result, close, join; nothing pinned",
        implementations: vec![
            Implementation::new("procspawn", peers::procspawn_create),
            Implementation::cpython(),
        ],
    }]
}

fn maps() -> Vec<Case> {
    let map = |name, what, rayon, procspawn| Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations: vec![
            Implementation::new("rayon", rayon),
            Implementation::new("procspawn", procspawn),
            Implementation::cpython(),
        ],
    };
    vec![
        map(
            "pool/map_chunk1",
            "trivial tasks u64 -> u64 one by one, 1 M in a call, 2 workers, nothing pinned",
            |setting| peers::rayon_map(setting, Some(1)),
            |setting| peers::procspawn_map(setting, Some(1)),
        ),
        map(
            "pool/map_chunk16",
            "trivial tasks in chunks of 16, 1 M in a call",
            |setting| peers::rayon_map(setting, Some(16)),
            |setting| peers::procspawn_map(setting, Some(16)),
        ),
        map(
            "pool/map_default",
            "trivial tasks in the chunks that each chooses, 1 M in a call",
            |setting| peers::rayon_map(setting, None),
            |setting| peers::procspawn_map(setting, None),
        ),
    ]
}

fn tasks_of_a_length() -> Vec<Case> {
    let tasks = |name, what, rayon| Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations: vec![Implementation::new("rayon", rayon)],
    };
    vec![
        tasks(
            "pool/tasks_1us",
            "tasks that compute for 1 us, 2 workers, default chunks",
            |setting| peers::rayon_spin(setting, 1),
        ),
        tasks("pool/tasks_10us", "tasks that compute for 10 us", |setting| {
            peers::rayon_spin(setting, 10)
        }),
        tasks("pool/tasks_100us", "tasks that compute for 100 us", |setting| {
            peers::rayon_spin(setting, 100)
        }),
    ]
}

fn values() -> Vec<Case> {
    let value = |name, what| Case {
        name,
        unit: "us",
        better: Better::Lower,
        what,
        implementations: vec![
            Implementation::new("limit", peers::copy_256_mib),
            Implementation::cpython(),
        ],
    };
    vec![
        value(
            "value/arg_256MiB",
            "one call with a 256 MiB argument from the caller's own memory; limit: memcpy into warm memory",
        ),
        value(
            "value/inplace_256MiB",
            "one call with 256 MiB that lie in shared memory and are read there; limit: memcpy into warm memory",
        ),
    ]
}
