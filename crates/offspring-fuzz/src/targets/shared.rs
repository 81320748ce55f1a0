//! Handles of shared values, and the records that they name.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use offspring_shm::{Handle, Shared, SharedSlice, ShmSafe, family, fuzzing};

use super::in_words;
use crate::input::Input;
use crate::memory::{Words, arena};

pub(super) fn run(data: &[u8]) {
    let arena = arena();
    let me = family::me().expect("a tag");
    let mut input = Input::new(data);
    let words = Words::of(arena);
    let shape = input.byte();
    let value = SharedSlice::<u64>::from_fn(1 + usize::from(shape >> 2), |at| at as u64).expect("room");
    let single = Shared::new(AtomicU64::new(5)).expect("room");
    let (handle, further) = if shape & 1 == 0 {
        (value.to_handle(), single.to_handle())
    } else {
        (single.to_handle(), value.to_handle())
    };
    let before = fuzzing::snapshot(arena, &handle);
    // A value that nobody here holds but for the bit in its record.
    let mut held = Some((value, single));
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0..=2 => {
                let word = input.below(20);
                let value = match input.byte() % 5 {
                    0 => u64::from(me.raw()) << 3 | u64::from(input.byte() % 8),
                    1 => further.id,
                    2 => u64::from(input.byte()) << 32 | u64::from(input.byte()),
                    _ => input.number(),
                };
                words.at(handle.offset as usize + word * 8).store(value, Relaxed);
            }
            3 => drop(held.take()),
            4 => attach::<u64>(handle),
            5 => attach::<AtomicU64>(further),
            _ => {
                let mut wrong = if input.byte() & 1 == 0 { handle } else { further };
                match input.byte() % 4 {
                    0 => wrong.offset = wrong.offset.wrapping_add(input.number()),
                    1 => wrong.id = input.number(),
                    2 => wrong.len = input.number(),
                    _ => {
                        wrong = Handle {
                            offset: input.number(),
                            id: input.number(),
                            len: input.number(),
                        }
                    }
                }
                attach::<u64>(wrong);
                attach::<[u8; 3]>(wrong);
            }
        }
    }
    drop(held);
    fuzzing::restore_and_detach(arena, &handle, &before, me);
}

fn attach<T: ShmSafe>(handle: Handle) {
    match Shared::<T>::from_handle(handle) {
        Ok(value) => sum(std::slice::from_ref(&*value)),
        Err(error) => in_words(&error),
    }
    match SharedSlice::<T>::from_handle(handle) {
        Ok(slice) => {
            assert_eq!(slice.len() as u64, handle.len);
            sum(&slice);
        }
        Err(error) => in_words(&error),
    }
}

/// Reads the ends of a slice.
fn sum<T: ShmSafe>(values: &[T]) {
    let at = std::ptr::NonNull::from(values).cast::<u8>();
    crate::memory::touch(at, size_of_val(values));
}
