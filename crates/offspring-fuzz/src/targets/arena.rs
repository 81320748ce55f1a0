//! An arena whose control words are overwritten while it is in use.

// UNSAFETY: frees and hands over blocks that it allocated, of owners that are no processes.
#![expect(unsafe_code, reason = "frees blocks")]

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use offspring_shm::{Arena, Block, Owner, fuzzing};

use super::in_words;
use crate::input::Input;
use crate::memory::{Words, touch};

/// The most operations of one run.
const STEPS: usize = 96;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let chunks = 1 + input.below(4);
    exercise(Arena::create(chunks << 20).expect("an arena"), &mut input);
}

pub(super) fn exercise(mut arena: Arena, input: &mut Input<'_>) {
    let words = Words::of(&arena);
    let mut owners: Vec<Owner> = Vec::new();
    let mut blocks: Vec<(Block, Owner)> = Vec::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let operation = input.byte();
        let owner = owners.get(usize::from(operation >> 4) % owners.len().max(1)).copied();
        match (operation % 16, owner) {
            (0 | 1, _) | (_, None) => match arena.reserve_child(owner) {
                Ok(new) => {
                    assert!(Owner::from_raw(new.raw()) == Some(new) && arena.is_reserved(new));
                    owners.push(new);
                }
                Err(error) => in_words(&error),
            },
            (2..=4, Some(owner)) => {
                let len = input.number() as usize % (5 << 20);
                match arena.allocate(owner, len) {
                    Ok(block) => {
                        assert!(block.capacity >= len);
                        touch(arena.pointer(block.offset, block.capacity).expect("a fresh block"), len);
                        assert_eq!(arena.owner_of(block.offset), Some(owner));
                        blocks.push((block, owner));
                    }
                    Err(error) => in_words(&error),
                }
            }
            (5, _) if !blocks.is_empty() => {
                let (block, _) = blocks.swap_remove(input.below(blocks.len()));
                // SAFETY: it was allocated here, and is forgotten now.
                unsafe { arena.free(block) };
            }
            (6, _) if !blocks.is_empty() => {
                let place = input.below(blocks.len());
                let len = input.number() as usize % (5 << 20);
                if let Some(grown) = arena.grow_in_place(blocks[place].0, len) {
                    assert!(grown.capacity >= len && grown.offset == blocks[place].0.offset);
                    if let Ok(at) = arena.pointer(grown.offset, len) {
                        touch(at, len);
                    }
                    blocks[place].0 = grown;
                }
            }
            (7, Some(owner)) if !blocks.is_empty() => {
                let place = input.below(blocks.len());
                let (block, from) = blocks[place];
                // SAFETY: nobody uses the block.
                if unsafe { arena.transfer(block, from, owner) } {
                    assert_eq!(arena.owner_of(block.offset), Some(owner));
                    blocks[place].1 = owner;
                }
            }
            (8 | 9, _) => {
                let (offset, len) = (offset(&arena, input), input.number() as usize);
                match arena.pointer(offset, len) {
                    Ok(at) => {
                        assert!(offset as usize + len <= words.len());
                        touch(at, len);
                    }
                    Err(error) => in_words(&error),
                }
                let _ = arena.owner_of(offset);
                let _ = arena.grow_in_place(Block { offset, capacity: len }, len);
            }
            (10..=13, _) => poke(&arena, &words, input),
            (14, Some(owner)) => {
                let dead = owners[input.below(owners.len())];
                // SAFETY: no owner is a process.
                unsafe { arena.sweep(dead, owner) };
                blocks.retain(|(_, holder)| *holder != dead);
                let _ = (
                    arena.children_of(dead),
                    arena.process_of(owner),
                    arena.is_reserved(dead),
                );
            }
            _ => {
                let census = arena.census();
                assert_eq!(census.capacity, arena.capacity());
                arena.set_watermark(input.number() as usize);
                match Arena::attach(arena.as_fd().try_clone_to_owned().expect("a descriptor")) {
                    Ok(other) => arena = other,
                    Err(error) => in_words(&error),
                }
            }
        }
    }
}

/// The offset of a chunk's payload, of a block in it, or of anything.
fn offset(arena: &Arena, input: &mut Input<'_>) -> u64 {
    let payload = fuzzing::arrays(arena)[7] as u64;
    match input.byte() % 3 {
        0 => payload + ((input.below(5) as u64) << 20),
        1 => payload + ((input.below(1 << 14) as u64) << 8),
        _ => payload.wrapping_add(input.number()),
    }
}

/// Overwrites a word of some array.
fn poke(arena: &Arena, words: &Words, input: &mut Input<'_>) {
    let arrays = fuzzing::arrays(arena);
    let array = input.below(7);
    // What is used of each array is at its start.
    let at = arrays[array] + input.below(64) * 8;
    let value = match input.byte() % 4 {
        0 => input.number(),
        // As a chunk's or a block's word: a number, a tag, and a state.
        1 => input.below(8) as u64,
        2 => u64::from(input.byte()) << 32 | (1 << 18 | u64::from(input.byte())) << 2 | u64::from(input.byte() % 4),
        _ => words.at(arrays[array] + input.below(64) * 8).load(Relaxed) ^ 1 << (input.byte() % 64),
    };
    if at < arrays[array + 1] {
        words.at(at).store(value, Relaxed);
    }
}
