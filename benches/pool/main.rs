//! Pools of two workers: making one, mapping trivial and short tasks, handing over 256 MiB.

mod ours;
mod peers;
mod tasks;

use std::process::ExitCode;

use offspring_benches::{Better, Case, Implementation, Setting, copy_big, run};

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
            Implementation::new("offspring", ours::create),
            Implementation::new("procspawn", peers::procspawn_create),
            Implementation::cpython(),
        ],
    }]
}

fn maps() -> Vec<Case> {
    let map = |name, what, implementations: Vec<Implementation>| Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations: implementations.into_iter().chain([Implementation::cpython()]).collect(),
    };
    vec![
        map(
            "pool/map_chunk1",
            "trivial tasks u64 -> u64 one by one, 1 M in a call, 2 workers, nothing pinned",
            vec![
                Implementation::new("offspring", |setting| ours::map(setting, Some(1))),
                Implementation::new("rayon", |setting| peers::rayon_map(setting, Some(1))),
                Implementation::new("procspawn", |setting| peers::procspawn_map(setting, Some(1))),
            ],
        ),
        map(
            "pool/map_chunk16",
            "trivial tasks in chunks of 16, 1 M in a call",
            vec![
                Implementation::new("offspring", |setting| ours::map(setting, Some(16))),
                Implementation::new("rayon", |setting| peers::rayon_map(setting, Some(16))),
                Implementation::new("procspawn", |setting| peers::procspawn_map(setting, Some(16))),
            ],
        ),
        map(
            "pool/map_default",
            "trivial tasks in the chunks that each chooses, 1 M in a call; views: results read in place",
            vec![
                Implementation::new("offspring", |setting| ours::map(setting, None)),
                Implementation::new("offspring_views", ours::map_views),
                Implementation::new("rayon", |setting| peers::rayon_map(setting, None)),
                Implementation::new("procspawn", |setting| peers::procspawn_map(setting, None)),
            ],
        ),
    ]
}

fn tasks_of_a_length() -> Vec<Case> {
    let tasks = |name, what, length| Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations: vec![
            Implementation::new("offspring", move |setting| ours::tasks(setting, length)),
            Implementation::new("rayon", move |setting| peers::rayon_spin(setting, length)),
        ],
    };
    vec![
        tasks(
            "pool/tasks_1us",
            "tasks that compute for 1 us, 2 workers, default chunks",
            1,
        ),
        tasks("pool/tasks_10us", "tasks that compute for 10 us", 10),
        tasks("pool/tasks_100us", "tasks that compute for 100 us", 100),
    ]
}

fn values() -> Vec<Case> {
    let value = |name, what, offspring: fn(&Setting) -> Result<f64, String>| Case {
        name,
        unit: "us",
        better: Better::Lower,
        what,
        implementations: vec![
            Implementation::new("offspring", offspring),
            Implementation::new("limit", copy_big),
            Implementation::cpython(),
        ],
    };
    let mut argument = value(
        "value/arg_256MiB",
        "one call with a 256 MiB argument from memory that the caller keeps; moved: from a vector that the call takes, \
         and frees; limit: memcpy into warm memory",
        ours::argument,
    );
    argument
        .implementations
        .insert(1, Implementation::new("offspring_moved", ours::moved));
    vec![
        argument,
        value(
            "value/inplace_256MiB",
            "one call with 256 MiB that lie in shared memory and are read there; limit: memcpy into warm memory",
            ours::in_place,
        ),
    ]
}
