//! Names of queues, and memory that is said to be a queue.

use std::sync::atomic::Ordering::Relaxed;

use offspring_queue::{Queue, QueueHandle, Receiver, Sender, fuzzing};
use offspring_shm::{Handle, family};

use super::in_words;
use crate::input::Input;
use crate::memory::arena;

pub(super) fn run(data: &[u8]) {
    arena();
    let mut input = Input::new(data);
    let capacity = 1 + usize::from(input.byte() % 4);
    let model = Queue::<u64>::new(capacity).expect("room");
    let (handle, _) = fuzzing::memory_of(model.to_handle());
    // A copy of a queue, with another name, in which words are wrong from the start.
    let model_words = fuzzing::words(&model);
    let lines = match input.byte() % 4 {
        0 => input.below(64),
        _ => model_words.len() / 16,
    };
    let Ok(bare) = fuzzing::Bare::new(lines) else { return };
    for (to, from) in bare.words().iter().zip(model_words) {
        to.store(from.load(Relaxed), Relaxed);
    }
    for _ in 0..input.byte() % 8 {
        let at = usize::from(input.byte());
        let value = match input.byte() % 3 {
            0 => u64::from(family::me().map_or(0, |me| me.raw())) << 32 | input.number() & 0xffff_ffff,
            _ => input.number(),
        };
        if let Some(word) = bare.words().get(at) {
            word.store(value, Relaxed);
        }
    }
    let mut name = match input.byte() % 3 {
        0 => handle,
        _ => bare.handle(),
    };
    let mut from = 0;
    match input.byte() % 6 {
        0 => name.offset = name.offset.wrapping_add(input.number()),
        1 => name.id = input.number(),
        2 => name.len = input.number(),
        3 => from = family::me().map_or(0, |me| me.raw()),
        4 => from = input.number() as u32,
        _ => {}
    }
    let foreign = name != handle;
    let name = fuzzing::queue_handle(name, from);
    if let Ok(queue) = attached(Queue::<u64>::from_handle(name)) {
        let _ = queue.try_send(7).map_err(|error| in_words(&error));
        let _ = queue.try_recv().map_err(|error| in_words(&error));
        assert!(queue.len() <= queue.capacity());
        assert!(foreign || queue.capacity() == capacity);
    }
    let _ = attached(Sender::<u64>::from_handle(name)).map(|sender| sender.try_send(8));
    let _ = attached(Receiver::<u64>::from_handle(name)).map(|receiver| receiver.try_recv());
    // Another type.
    assert!(attached(Queue::<[u32; 2]>::from_handle(name)).is_err() || foreign);
    let _ = attached(Queue::<String>::from_handle(name));
    round_trip(model.to_handle(), bare.handle());
}

fn attached<T>(outcome: std::io::Result<T>) -> Result<T, ()> {
    outcome.map_err(|error| in_words(&error))
}

/// A name is the same on the other side.
fn round_trip(one: QueueHandle, other: Handle) {
    for name in [one, fuzzing::queue_handle(other, 5)] {
        let bytes = rkyv::to_bytes::<rkyv::rancor::BoxedError>(&name).expect("room");
        let read = rkyv::access::<rkyv::Archived<QueueHandle>, rkyv::rancor::BoxedError>(&bytes).expect("a name");
        assert_eq!(
            rkyv::deserialize::<QueueHandle, rkyv::rancor::BoxedError>(read).expect("a name"),
            name
        );
    }
}
