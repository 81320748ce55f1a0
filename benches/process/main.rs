//! Starting a trivial child and waiting for its end, from a small parent and from one that has touched 1 GiB.

mod ours;
mod peers;

use std::process::ExitCode;

use offspring_benches::{Better, Case, Implementation, Setting, run, touch};

fn main() -> ExitCode {
    // A child of procspawn is this program again, and is recognised here.
    procspawn::init();
    run(
        "process",
        &[
            Case {
                name: "process/start_join",
                unit: "us",
                better: Better::Lower,
                what: "from the call until a trivial child has been waited for; small parent, nothing pinned",
                implementations: vec![
                    Implementation::new("offspring_zygote", |setting| setting.microseconds(ours::zygote)),
                    Implementation::new("offspring_spawn", |setting| setting.microseconds(ours::spawn)),
                    Implementation::new("offspring_fork", |setting| setting.microseconds(ours::fork)),
                    Implementation::new("fork_wait", |setting| setting.microseconds(peers::fork_wait)),
                    Implementation::new("posix_spawn", |setting| setting.microseconds(peers::posix_spawn)),
                    Implementation::new("procspawn", |setting| setting.microseconds(peers::procspawn)),
                    Implementation::cpython(),
                ],
            },
            Case {
                name: "process/start_join_1gib",
                unit: "us",
                better: Better::Lower,
                what: "the same when the parent has touched 1 GiB in pages of 4 KiB",
                implementations: vec![
                    Implementation::new("offspring_zygote", |setting| with_1_gib(setting, ours::zygote)),
                    Implementation::new("offspring_spawn", |setting| with_1_gib(setting, ours::spawn)),
                    Implementation::new("offspring_fork", |setting| with_1_gib(setting, ours::fork)),
                    Implementation::new("fork_wait", |setting| with_1_gib(setting, peers::fork_wait)),
                    Implementation::new("posix_spawn", |setting| with_1_gib(setting, peers::posix_spawn)),
                    Implementation::new("procspawn", |setting| with_1_gib(setting, peers::procspawn)),
                    Implementation::cpython(),
                ],
            },
        ],
    )
}

fn with_1_gib(setting: &Setting, call: fn() -> Result<(), String>) -> Result<f64, String> {
    let memory = touch(1 << 30);
    let value = setting.microseconds(call);
    drop(memory);
    value
}
