//! A queue whose memory is overwritten while it is in use: slots, hints, peers, lengths and roots.
//!
//! What is sent has an archived form of which every bit pattern is a value: whether the bytes of a message are a message is
//! not a queue's matter, and they are read without validation.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use offspring_queue::{Message, Queue, TryRecvError, TrySendError, fuzzing};
use offspring_shm::family;
use offspring_sync::{Membership, Tag};

use super::in_words;
use crate::input::Input;
use crate::memory::arena;

/// The most operations of one run.
const STEPS: usize = 64;

/// In its slot as it is.
type Plain = [u64; 3];
/// Archived into its slot, with padding.
type Flexible = (u8, u64);
/// Always in a block.
type Large = [u64; 200];

pub(super) fn run(data: &[u8]) {
    arena();
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 | 1 => exercise::<Plain>(
            &mut input,
            |number| [number; 3],
            |read| read.map(|word| word.to_native()),
        ),
        2 => exercise::<Flexible>(
            &mut input,
            |number| (number as u8, number),
            |read| (read.0, read.1.to_native()),
        ),
        _ => exercise::<Large>(
            &mut input,
            |number| [number; 200],
            |read| read.map(|word| word.to_native()),
        ),
    }
}

fn exercise<T: Message + PartialEq + std::fmt::Debug>(
    input: &mut Input<'_>,
    make: fn(u64) -> T,
    read: fn(&T::Archived) -> T,
) {
    let capacity = 1 + input.below(6);
    let queue = match Queue::<T>::new(capacity) {
        Ok(queue) => queue,
        Err(error) => return in_words(&error),
    };
    let second = queue.clone();
    let receivers = [queue.receiver(), second.receiver()];
    let mut view = None;
    let mut damaged = false;
    let mut sent = std::collections::VecDeque::new();
    for step in 0..STEPS as u64 {
        if input.is_empty() {
            break;
        }
        let operation = input.byte();
        let queue = if operation & 128 == 0 { &queue } else { &second };
        match operation % 8 {
            0 | 1 => match queue.try_send(make(step)) {
                Ok(()) => sent.push_back(step),
                Err(TrySendError::Full(value)) => {
                    assert_eq!(value, make(step));
                    assert!(damaged || view.is_some() || sent.len() == capacity);
                }
                Err(error) => {
                    assert!(damaged, "{error}");
                    in_words(&error);
                }
            },
            2 => match queue.try_recv() {
                Ok(value) => assert!(damaged || sent.pop_front().is_some_and(|number| value == make(number))),
                Err(TryRecvError::Empty) => assert!(damaged || sent.is_empty()),
                Err(error) => {
                    assert!(damaged, "{error}");
                    in_words(&error);
                }
            },
            3 if view.is_none() => match receivers[usize::from(operation >> 7)].try_recv_view() {
                Ok(leased) => {
                    let value = read(&leased);
                    assert!(leased.delivery_count() >= 1);
                    assert!(damaged || sent.pop_front().is_some_and(|number| value == make(number)));
                    match operation >> 4 & 3 {
                        0 => {
                            view = Some(leased);
                        }
                        // What is given back comes first again, but behind what is leased it cannot be told.
                        1 => {
                            leased.give_back();
                            damaged = true;
                        }
                        _ => {}
                    }
                }
                Err(TryRecvError::Empty) => assert!(damaged || sent.is_empty()),
                Err(error) => {
                    assert!(damaged, "{error}");
                    in_words(&error);
                }
            },
            3 => view = None,
            4 => {
                let seen = (queue.len(), queue.is_empty(), queue.is_full(), queue.is_closed());
                assert!(seen.0 <= capacity && queue.capacity() == capacity);
                assert!(damaged || seen.0 == sent.len(), "{seen:?} {sent:?}");
                assert!(!format!("{queue:?}").is_empty());
            }
            _ => {
                damaged = true;
                poke(queue, input);
            }
        }
    }
    drop(view);
    if damaged {
        fuzzing::mark_astray(&queue);
    }
}

/// Overwrites a word.
fn poke<T: Message>(queue: &Queue<T>, input: &mut Input<'_>) {
    let words = fuzzing::words(queue);
    let (header, stride) = fuzzing::layout(queue);
    let place = input.byte();
    let at = match place % 4 {
        // The parts of a header stand 128 bytes apart, then the peers.
        0 => usize::from(place >> 2) % 6 * 16 + usize::from(place >> 6),
        1 => input.below(words.len()),
        _ => header / 8 + usize::from(place >> 2) % 6 * stride / 8 + usize::from(place >> 5) % 4,
    };
    let me = Membership::family().and_then(|members| members.me()).ok();
    let tag = match input.byte() % 4 {
        0 => 0,
        1 => me.map_or(0, Tag::bits),
        // Never given out, or long gone.
        2 => Tag::new(1 + usize::from(place), 7).map_or(0, Tag::bits),
        _ => u64::from(input.byte()) as u32,
    };
    let lap = match input.byte() % 4 {
        0 => u32::from(input.byte() % 8),
        1 => u32::from(input.byte()) << 24,
        2 => (input.byte() as i8) as u32,
        _ => 0,
    };
    let state = u64::from(lap) << 32 | u64::from(tag) << 2 | u64::from(input.byte() % 4);
    let value = match input.byte() % 6 {
        0 => input.number(),
        // A peer's cell.
        1 => u64::from(family::me().map_or(0, |me| me.raw())) << 32 | input.number() & 0xffff_ffff,
        // An inline message of some length and root.
        2 => u64::from(input.byte()) << 34 | u64::from(input.byte()) << 2 | u64::from(input.byte() % 4),
        _ => state,
    };
    if let Some(word) = words.get(at) {
        word.store(value, if place & 1 == 0 { SeqCst } else { Relaxed });
    }
}
