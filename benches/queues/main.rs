//! Queues: messages a second, round trips, large messages, and what a queue costs.

mod content;
mod crossbeam;
mod flow;
mod home;
mod iceoryx;
mod ipc;
mod ours;
mod pipe;
mod trip;

use std::process::ExitCode;

use offspring_benches::{Better, Case, Implementation, run};

use crate::content::MIB;
use crate::trip::Trip;

/// The messages that a channel has room for.
const CAPACITY: usize = 1024;
/// The same, for those of 1 MiB.
const FEW: usize = 8;

fn main() -> ExitCode {
    let cases = [rates(), trips()];
    run("queues", &cases.into_iter().flatten().collect::<Vec<_>>())
}

type Words8 = [u64; 8];
type Words512 = [u64; 512];

fn rate(name: &'static str, what: &'static str, implementations: Vec<Implementation>) -> Case {
    Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations,
    }
}

fn rates() -> Vec<Case> {
    vec![
        rate(
            "queue/1x1/8B",
            "1 producer, 1 consumer, pinned to the processors in turn",
            vec![
                Implementation::new("offspring", |s| ours::values::<u64, 1>(s, 1, CAPACITY)),
                Implementation::new("offspring_many", |s| ours::many::<u64, 1>(s, CAPACITY)),
                Implementation::new("crossbeam", |s| crossbeam::values::<u64, 1>(s, 1, CAPACITY)),
                Implementation::new("ipc_channel", |s| ipc::rate::<1>(s, 1)),
                Implementation::new("iceoryx2", |s| iceoryx::rate::<1>(s, 1, CAPACITY)),
                Implementation::new("pipe", |s| pipe::rate::<1>(s, 1)),
            ],
        ),
        rate(
            "queue/1x1/64B",
            "1 producer, 1 consumer, pinned to the processors in turn",
            vec![
                Implementation::new("offspring", |s| ours::values::<Words8, 8>(s, 1, CAPACITY)),
                Implementation::new("offspring_many", |s| ours::many::<Words8, 8>(s, CAPACITY)),
                Implementation::new("crossbeam", |s| crossbeam::values::<Words8, 8>(s, 1, CAPACITY)),
                Implementation::new("ipc_channel", |s| ipc::rate::<8>(s, 1)),
                Implementation::new("iceoryx2", |s| iceoryx::rate::<8>(s, 1, CAPACITY)),
                Implementation::new("pipe", |s| pipe::rate::<8>(s, 1)),
            ],
        ),
        rate(
            "queue/1x1/4KiB",
            "1 producer, 1 consumer, pinned to the processors in turn",
            vec![
                Implementation::new("offspring", |s| ours::values::<Words512, 512>(s, 1, CAPACITY)),
                Implementation::new("offspring_vec", |s| ours::values::<Vec<u64>, 512>(s, 1, CAPACITY)),
                Implementation::new("offspring_view", |s| ours::views::<512>(s, 1, CAPACITY)),
                Implementation::new("offspring_slice", |s| ours::slices::<512>(s, 1, CAPACITY)),
                Implementation::new("crossbeam", |s| crossbeam::values::<Words512, 512>(s, 1, CAPACITY)),
                Implementation::new("crossbeam_vec", |s| crossbeam::values::<Vec<u64>, 512>(s, 1, CAPACITY)),
                Implementation::new("ipc_channel", |s| ipc::rate::<512>(s, 1)),
                Implementation::new("iceoryx2", |s| iceoryx::rate::<512>(s, 1, CAPACITY)),
                Implementation::new("pipe", |s| pipe::rate::<512>(s, 1)),
            ],
        ),
        rate(
            "queue/1x1/1MiB",
            "1 producer, 1 consumer, pinned to the processors in turn",
            vec![
                Implementation::new("offspring", |s| ours::values::<Vec<u64>, MIB>(s, 1, FEW)),
                Implementation::new("offspring_view", |s| ours::views::<MIB>(s, 1, FEW)),
                Implementation::new("offspring_slice", |s| ours::slices::<MIB>(s, 1, FEW)),
                Implementation::new("crossbeam", |s| crossbeam::values::<Vec<u64>, MIB>(s, 1, FEW)),
                Implementation::new("ipc_channel", |s| ipc::rate::<MIB>(s, 1)),
                Implementation::new("iceoryx2", |s| iceoryx::rate::<MIB>(s, 1, FEW)),
                Implementation::new("pipe", |s| pipe::rate::<MIB>(s, 1)),
            ],
        ),
        rate(
            "queue/2x2/64B",
            "2 producers, 2 consumers, pinned to the processors in turn",
            vec![
                Implementation::new("offspring", |s| ours::values::<Words8, 8>(s, 2, CAPACITY)),
                Implementation::new("crossbeam", |s| crossbeam::values::<Words8, 8>(s, 2, CAPACITY)),
                Implementation::new("ipc_channel", |s| ipc::rate::<8>(s, 2)),
                Implementation::new("iceoryx2", |s| iceoryx::rate::<8>(s, 2, CAPACITY)),
                Implementation::new("pipe", |s| pipe::rate::<8>(s, 2)),
            ],
        ),
    ]
}

fn trips() -> Vec<Case> {
    let case = |name, what, implementations| Case {
        name,
        unit: "us",
        better: Better::Lower,
        what,
        implementations,
    };
    vec![
        case(
            "queue/rtt_awake",
            "both spin",
            vec![
                Implementation::new("offspring", |s| ours::round_trip(s, Trip::Apart, true)),
                Implementation::new("offspring_recv", |s| ours::round_trip(s, Trip::Apart, false)),
                Implementation::new("limit", |s| trip::line(s, Trip::Apart)),
                Implementation::new("crossbeam", |s| crossbeam::round_trip(s, Trip::Apart, true)),
                Implementation::new("iceoryx2", |s| iceoryx::round_trip(s, Trip::Apart, false)),
                Implementation::new("ipc_channel", |s| ipc::round_trip(s, Trip::Apart, true)),
            ],
        ),
        case(
            "queue/rtt_asleep",
            "both sleep",
            vec![
                Implementation::new("offspring", |s| ours::round_trip(s, Trip::Together, false)),
                Implementation::new("limit", |s| trip::futex(s, Trip::Together)),
                Implementation::new("crossbeam", |s| crossbeam::round_trip(s, Trip::Together, false)),
                Implementation::new("iceoryx2", |s| iceoryx::round_trip(s, Trip::Together, true)),
                Implementation::new("ipc_channel", |s| ipc::round_trip(s, Trip::Together, false)),
            ],
        ),
        case(
            "queue/rtt_unpinned",
            "unpinned",
            vec![
                Implementation::new("offspring", |s| ours::round_trip(s, Trip::Free, false)),
                Implementation::new("limit", |s| trip::futex(s, Trip::Free)),
                Implementation::new("crossbeam", |s| crossbeam::round_trip(s, Trip::Free, false)),
                Implementation::new("iceoryx2", |s| iceoryx::round_trip(s, Trip::Free, true)),
                Implementation::new("ipc_channel", |s| ipc::round_trip(s, Trip::Free, false)),
            ],
        ),
    ]
}
