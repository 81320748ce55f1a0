//! Queues: messages a second, round trips, large messages, and what a queue costs.

mod content;
mod create;
mod crossbeam;
mod flow;
mod home;
mod iceoryx;
mod ipc;
mod large;
mod ours;
mod pipe;
mod trip;

use std::process::ExitCode;

use offspring::Message;
use offspring_benches::{Better, Case, Implementation, copy_big, run};

use crate::content::{Content, MIB};
use crate::trip::Trip;

fn main() -> ExitCode {
    let cases = [rates(), trips(), large_values(), costs()];
    run("queues", &cases.into_iter().flatten().collect::<Vec<_>>())
}

/// The messages that a channel of each kind has room for; a pipe has 1 MiB, a socket what the system gives it.
const fn room(words: usize) -> usize {
    if words == MIB { 8 } else { 1024 }
}

/// Values of a type that each of ours and crossbeam's carries as it is; the others carry the same words.
fn rate<M: Message + Content<WORDS> + Send, const WORDS: usize, const PAIRS: usize>(
    name: &'static str,
    what: &'static str,
    variants: impl IntoIterator<Item = Implementation>,
) -> Case {
    let pipe = if PAIRS > 1 && WORDS > 512 {
        Implementation::missing("pipe", "a pipe does not keep messages of more than 4 KiB together")
    } else {
        Implementation::new("pipe", |setting| pipe::rate::<WORDS>(setting, PAIRS))
    };
    let ours = Implementation::new("offspring", |setting| {
        ours::values::<M, WORDS>(setting, PAIRS, room(WORDS))
    });
    let peers = [
        Implementation::new("crossbeam", |setting| {
            crossbeam::values::<M, WORDS>(setting, PAIRS, room(WORDS))
        }),
        Implementation::new("ipc_channel", |setting| ipc::rate::<WORDS>(setting, PAIRS)),
        Implementation::new("iceoryx2", |setting| {
            iceoryx::rate::<WORDS>(setting, PAIRS, room(WORDS))
        }),
        pipe,
        Implementation::cpython(),
    ];
    Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations: [ours].into_iter().chain(variants).chain(peers).collect(),
    }
}

/// 64 messages in a call.
fn many<M: Message + Content<WORDS>, const WORDS: usize, const PAIRS: usize>() -> [Implementation; 1] {
    [Implementation::new("offspring_many", |setting| {
        ours::many::<M, WORDS>(setting, PAIRS, room(WORDS))
    })]
}

/// Vectors, read in place.
fn view<const WORDS: usize, const PAIRS: usize>() -> [Implementation; 1] {
    [Implementation::new("offspring_view", |setting| {
        ours::views::<WORDS>(setting, PAIRS, room(WORDS))
    })]
}

fn rates() -> Vec<Case> {
    vec![
        rate::<u64, 1, 1>(
            "queue/1x1/8B",
            "1 producer, 1 consumer, each on a processor of its own, room for 1024; every word is written, read and checked; \
             many: 64 messages in a call",
            many::<u64, 1, 1>(),
        ),
        rate::<[u64; 8], 8, 1>("queue/1x1/64B", "the same, [u64; 8]", many::<[u64; 8], 8, 1>()),
        rate::<[u64; 512], 512, 1>(
            "queue/1x1/4KiB",
            "the same, [u64; 512]; view: Vec<u64>, read in place",
            view::<512, 1>(),
        ),
        rate::<Vec<u64>, MIB, 1>(
            "queue/1x1/1MiB",
            "the same, Vec<u64>, room for 8; view: read in place; iceoryx2 writes in place too",
            view::<MIB, 1>(),
        ),
        rate::<u64, 1, 2>(
            "queue/2x2/8B",
            "2 producers, 2 consumers, pinned to the processors in turn",
            many::<u64, 1, 2>(),
        ),
        rate::<[u64; 8], 8, 2>("queue/2x2/64B", "the same, [u64; 8]", many::<[u64; 8], 8, 2>()),
        rate::<[u64; 512], 512, 2>("queue/2x2/4KiB", "the same, [u64; 512]", view::<512, 2>()),
        rate::<Vec<u64>, MIB, 2>("queue/2x2/1MiB", "the same, Vec<u64>, room for 8", view::<MIB, 2>()),
        rate::<[u64; 8], 8, 4>(
            "queue/4x4/64B",
            "4 producers, 4 consumers, pinned to the processors in turn",
            many::<[u64; 8], 8, 4>(),
        ),
    ]
}

fn microseconds(name: &'static str, what: &'static str, implementations: Vec<Implementation>) -> Case {
    Case {
        name,
        unit: "us",
        better: Better::Lower,
        what,
        implementations,
    }
}

fn trips() -> Vec<Case> {
    vec![
        microseconds(
            "queue/rtt_awake",
            "8 bytes there and back, each side on a processor of its own, trying again and again; recv: with the call that \
             waits, and spins first; limit: spinning on one word in one cache line",
            vec![
                Implementation::new("offspring", |setting| ours::round_trip(setting, Trip::Apart, true)),
                Implementation::new("offspring_recv", |setting| {
                    ours::round_trip(setting, Trip::Apart, false)
                }),
                Implementation::new("limit", |setting| trip::line(setting, Trip::Apart)),
                Implementation::new("crossbeam", |setting| crossbeam::round_trip(setting, Trip::Apart, true)),
                Implementation::new("iceoryx2", |setting| iceoryx::round_trip(setting, Trip::Apart, false)),
                Implementation::new("ipc_channel", |setting| ipc::round_trip(setting, Trip::Apart, true)),
            ],
        ),
        microseconds(
            "queue/rtt_asleep",
            "8 bytes there and back, with calls that wait, both sides on one processor: one sleeps while the other runs; \
             limit: a bare futex; iceoryx2: an event for each message",
            vec![
                Implementation::new("offspring", |setting| ours::round_trip(setting, Trip::Together, false)),
                Implementation::new("limit", |setting| trip::futex(setting, Trip::Together)),
                Implementation::new("crossbeam", |setting| {
                    crossbeam::round_trip(setting, Trip::Together, false)
                }),
                Implementation::new("iceoryx2", |setting| iceoryx::round_trip(setting, Trip::Together, true)),
                Implementation::new("ipc_channel", |setting| ipc::round_trip(setting, Trip::Together, false)),
            ],
        ),
        microseconds(
            "queue/rtt_unpinned",
            "the same, nothing pinned: who spins first need not sleep",
            vec![
                Implementation::new("offspring", |setting| ours::round_trip(setting, Trip::Free, false)),
                Implementation::new("limit", |setting| trip::futex(setting, Trip::Free)),
                Implementation::new("crossbeam", |setting| crossbeam::round_trip(setting, Trip::Free, false)),
                Implementation::new("iceoryx2", |setting| iceoryx::round_trip(setting, Trip::Free, true)),
                Implementation::new("ipc_channel", |setting| ipc::round_trip(setting, Trip::Free, false)),
            ],
        ),
    ]
}

fn large_values() -> Vec<Case> {
    vec![
        microseconds(
            "value/queue_256MiB",
            "from before 256 MiB are written into shared memory until another process has answered that it sees them; the \
             sender keeps its own; moved: `send` takes a vector, and frees it; limit: memcpy into warm memory",
            vec![
                Implementation::new("offspring", large::written),
                Implementation::new("offspring_moved", large::moved),
                Implementation::new("limit", copy_big),
            ],
        ),
        microseconds(
            "value/queue_inplace_256MiB",
            "the same, but they lie in shared memory already; limit: memcpy into warm memory",
            vec![
                Implementation::new("offspring", large::in_arena),
                Implementation::new("limit", copy_big),
            ],
        ),
    ]
}

fn costs() -> Vec<Case> {
    vec![
        microseconds(
            "queue/create",
            "to make a queue with room for 100 numbers, and drop it",
            vec![
                Implementation::new("offspring", create::ours),
                Implementation::new("crossbeam", create::crossbeam),
                Implementation::cpython(),
            ],
        ),
        microseconds(
            "queue/create_10000",
            "to make one of 10 000 queues, all there at once and without a descriptor, pass a message, and drop it",
            vec![
                Implementation::new("offspring", create::many_of_ours),
                Implementation::new("crossbeam", create::many_of_crossbeam),
            ],
        ),
    ]
}
