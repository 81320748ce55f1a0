//! Queues: messages a second, round trips, large messages, and what a queue costs.

mod content;
mod create;
mod crossbeam;
mod flow;
mod home;
mod iceoryx;
mod ipc;
mod large;
mod limit;
mod ours;
mod pipe;
mod place;
mod trip;

use std::process::ExitCode;

use offspring::Message;
use offspring_benches::{Better, Case, Implementation, copy_big, run};

use crate::content::{Content, MIB};
use crate::flow::Plan;
use crate::place::Place;

fn main() -> ExitCode {
    let cases = [rates(), elsewhere(), trips(), large_values(), costs()];
    run("queues", &cases.into_iter().flatten().collect::<Vec<_>>())
}

const ONE: Plan = Plan {
    pairs: 1,
    place: Place::Apart,
};
const TWO: Plan = Plan {
    pairs: 2,
    place: Place::Apart,
};
const FOUR: Plan = Plan {
    pairs: 4,
    place: Place::Apart,
};

fn rate(name: &'static str, what: &'static str, implementations: Vec<Implementation>) -> Case {
    Case {
        name,
        unit: "ops/s",
        better: Better::Higher,
        what,
        implementations,
    }
}

/// The messages that a channel has room for; a pipe has 1 MiB, a socket what the system gives it.
const fn room(words: usize) -> usize {
    if words == MIB { 8 } else { 1024 }
}

/// Values as they are.
fn ours<M: Message + Content<WORDS>, const WORDS: usize>(plan: Plan) -> Implementation {
    Implementation::new("offspring", move |setting| {
        ours::values::<M, WORDS>(setting, plan, room(WORDS))
    })
}

/// The same through a pair of one producer and one consumer.
fn pair<M: Message + Content<WORDS>, const WORDS: usize>(plan: Plan) -> Implementation {
    Implementation::new("offspring_pair", move |setting| {
        ours::pair::<M, WORDS>(setting, plan, room(WORDS))
    })
}

/// 64 of them in a call.
fn many<M: Message + Content<WORDS>, const WORDS: usize>(plan: Plan) -> Implementation {
    Implementation::new("offspring_many", move |setting| {
        ours::many::<M, WORDS>(setting, plan, room(WORDS))
    })
}

/// Vectors that are made and read in place.
fn view<const WORDS: usize>(plan: Plan) -> Implementation {
    Implementation::new("offspring_view", move |setting| {
        ours::views::<WORDS>(setting, plan, room(WORDS))
    })
}

fn limit<const WORDS: usize>(plan: Plan) -> Implementation {
    Implementation::new("limit", move |setting| limit::rate::<WORDS>(setting, plan))
}

fn crossbeam<M: Content<WORDS> + Send + 'static, const WORDS: usize>(plan: Plan) -> Implementation {
    Implementation::new("crossbeam", move |setting| {
        crossbeam::values::<M, WORDS>(setting, plan, room(WORDS))
    })
}

fn iceoryx<const WORDS: usize>(plan: Plan) -> Implementation {
    Implementation::new("iceoryx2", move |setting| {
        iceoryx::rate::<WORDS>(setting, plan, room(WORDS))
    })
}

/// The peers between processes.
fn processes<const WORDS: usize>(plan: Plan) -> Vec<Implementation> {
    let pipe = if plan.pairs > 1 && WORDS > 512 {
        Implementation::missing("pipe", "a pipe does not keep messages of more than 4 KiB together")
    } else {
        Implementation::new("pipe", move |setting| pipe::rate::<WORDS>(setting, plan))
    };
    vec![
        Implementation::new("ipc_channel", move |setting| ipc::rate::<WORDS>(setting, plan)),
        iceoryx::<WORDS>(plan),
        pipe,
        Implementation::cpython(),
    ]
}

/// Messages of a few words, one by one and many in a call.
fn small<M: Message + Content<WORDS> + Send, const WORDS: usize>(
    name: &'static str,
    what: &'static str,
    plan: Plan,
) -> Case {
    let mut all = vec![ours::<M, WORDS>(plan), many::<M, WORDS>(plan)];
    if plan.pairs == 1 {
        all.push(pair::<M, WORDS>(plan));
        all.push(limit::<WORDS>(plan));
    }
    all.push(crossbeam::<M, WORDS>(plan));
    all.extend(processes::<WORDS>(plan));
    rate(name, what, all)
}

/// Messages that travel in blocks, rebuilt and in place.
fn large<M: Message + Content<WORDS> + Send, const WORDS: usize>(
    name: &'static str,
    what: &'static str,
    plan: Plan,
) -> Case {
    let mut all = vec![ours::<M, WORDS>(plan), view::<WORDS>(plan)];
    if plan.pairs == 1 {
        all.push(pair::<M, WORDS>(plan));
    }
    all.push(crossbeam::<M, WORDS>(plan));
    all.extend(processes::<WORDS>(plan));
    rate(name, what, all)
}

fn rates() -> Vec<Case> {
    vec![
        small::<u64, 1>(
            "queue/1x1/8B",
            "1 producer, 1 consumer, each on a processor of its own; room for 1024; every word is written, read and checked; \
             many: 64 messages in a call; pair: spsc; limit: a bare ring that spins, and lets the other side run ahead",
            ONE,
        ),
        small::<[u64; 8], 8>("queue/1x1/64B", "the same, [u64; 8]", ONE),
        large::<[u64; 512], 512>(
            "queue/1x1/4KiB",
            "the same, [u64; 512], which suits both better than Vec<u64>; view: Vec<u64>, made and read in place",
            ONE,
        ),
        large::<Vec<u64>, MIB>(
            "queue/1x1/1MiB",
            "the same, Vec<u64>, room for 8; view: made and read in place, as by iceoryx2",
            ONE,
        ),
        small::<u64, 1>(
            "queue/2x2/8B",
            "2 producers, 2 consumers, on the processors in turn; room for 1024; every word is written, read and checked",
            TWO,
        ),
        small::<[u64; 8], 8>("queue/2x2/64B", "the same, [u64; 8]", TWO),
        large::<[u64; 512], 512>(
            "queue/2x2/4KiB",
            "the same, [u64; 512]; view: Vec<u64>, made and read in place",
            TWO,
        ),
        large::<Vec<u64>, MIB>("queue/2x2/1MiB", "the same, Vec<u64>, room for 8", TWO),
        small::<[u64; 8], 8>(
            "queue/4x4/64B",
            "4 producers, 4 consumers, on the processors in turn; [u64; 8]; room for 1024",
            FOUR,
        ),
    ]
}

/// The same messages where the processors play another part.
fn elsewhere() -> Vec<Case> {
    let case = |name, what, plan| {
        let mut all = vec![ours::<[u64; 8], 8>(plan), many::<[u64; 8], 8>(plan)];
        if plan.pairs == 1 {
            all.push(pair::<[u64; 8], 8>(plan));
        }
        all.push(crossbeam::<[u64; 8], 8>(plan));
        all.push(iceoryx::<8>(plan));
        rate(name, what, all)
    };
    vec![
        case(
            "queue/1x1/64B_together",
            "1 producer, 1 consumer, both on one processor: what the calls cost when no cache line moves",
            Plan {
                pairs: 1,
                place: Place::Together,
            },
        ),
        case(
            "queue/2x2/64B_free",
            "2 producers, 2 consumers, nothing pinned",
            Plan {
                pairs: 2,
                place: Place::Free,
            },
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
    let asleep = |place| {
        vec![
            Implementation::new("offspring", move |setting| ours::round_trip(setting, place, false)),
            Implementation::new("limit", move |setting| trip::futex(setting, place)),
            Implementation::new("crossbeam", move |setting| crossbeam::round_trip(setting, place, false)),
            Implementation::new("iceoryx2", move |setting| iceoryx::round_trip(setting, place, true)),
            Implementation::new("ipc_channel", move |setting| ipc::round_trip(setting, place, false)),
        ]
    };
    let apart = Place::Apart;
    vec![
        microseconds(
            "queue/rtt_awake",
            "8 bytes there and back, each side on a processor of its own, trying again and again; recv: with the call that \
             waits, and spins first; limit: spinning on one word in one cache line",
            vec![
                Implementation::new("offspring", move |setting| ours::round_trip(setting, apart, true)),
                Implementation::new("offspring_recv", move |setting| ours::round_trip(setting, apart, false)),
                Implementation::new("limit", move |setting| trip::line(setting, apart)),
                Implementation::new("crossbeam", move |setting| crossbeam::round_trip(setting, apart, true)),
                Implementation::new("iceoryx2", move |setting| iceoryx::round_trip(setting, apart, false)),
                Implementation::new("ipc_channel", move |setting| ipc::round_trip(setting, apart, true)),
            ],
        ),
        microseconds(
            "queue/rtt_asleep",
            "8 bytes there and back, with calls that wait, both sides on one processor: one sleeps while the other runs; \
             limit: a bare futex; iceoryx2: an event for each message",
            asleep(Place::Together),
        ),
        microseconds(
            "queue/rtt_unpinned",
            "the same, nothing pinned: sometimes on one processor and sometimes on two, where who spins need not sleep",
            asleep(Place::Free),
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
            "256 MiB that lie in shared memory already, sent, looked at, and answered; limit: memcpy into warm memory",
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
            "to make one of 10 000 queues that are there at once, none with a descriptor, pass a message, and drop it",
            vec![
                Implementation::new("offspring", create::many_of_ours),
                Implementation::new("crossbeam", create::many_of_crossbeam),
            ],
        ),
    ]
}
