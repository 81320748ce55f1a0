//! Bytes that are said to be a message: what passes the check can be read, and nothing else is.

// UNSAFETY: takes over a block as a parcel, which is checked before it is read.
#![expect(unsafe_code, reason = "makes parcels of any bytes, to be checked")]

use std::collections::BTreeMap;

use offspring_queue::{Message, Parcel};
use offspring_shm::{Arena, Owner, family};

use super::in_words;
use crate::input::Input;
use crate::memory::{arena, touch};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug, PartialEq, Clone)]
enum Shape {
    Point,
    Line {
        from: (i32, i32),
        to: Option<Box<(u8, u64)>>,
    },
    Text(String),
    Many(Vec<Vec<char>>),
}

type Words = Vec<(String, Option<bool>)>;
type Shapes = BTreeMap<u16, Shape>;

pub(super) fn run(data: &[u8]) {
    let (arena, me) = (arena(), family::me().expect("a tag"));
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => read::<Words>(arena, me, input),
        1 => read::<Shapes>(arena, me, input),
        2 => read::<[f64; 4]>(arena, me, input),
        _ => write(arena, me, input),
    }
}

/// Reads what may be anything.
fn read<T: Message + PartialEq + std::fmt::Debug>(arena: &'static Arena, me: Owner, mut input: Input<'_>) {
    let place = input.byte();
    let far = input.number();
    let bytes = input.rest();
    let block = arena.allocate(me, bytes.len().max(64)).expect("room");
    let at = arena.pointer(block.offset, block.capacity).expect("a fresh block");
    touch(at, block.capacity);
    // SAFETY: the block is ours and has room for as many bytes; the rest of it is set, too, so that a run repeats.
    unsafe {
        at.write_bytes(0, block.capacity);
        at.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
    }
    let size = size_of::<T::Archived>() as u64;
    let root = match place % 4 {
        // The root of what rkyv wrote stands last.
        0 | 1 => block.offset + (bytes.len() as u64).saturating_sub(size),
        2 => block.offset + u64::from(place >> 2),
        _ => block.offset.wrapping_add(far),
    };
    // SAFETY: the block is ours; that it holds a `T` is checked before it is read as one.
    let parcel = unsafe { Parcel::<T>::from_raw(arena, block, root) };
    match parcel.check() {
        Ok(()) => {
            // Floats that are not numbers are not what they are.
            let value = parcel.decode().expect("what was checked can be read");
            let again = Parcel::encode(arena, me, &value).expect("room");
            again.check().expect("what was written is right");
            let read = again.decode().expect("what was written can be read");
            assert_eq!(format!("{read:?}"), format!("{value:?}"));
        }
        Err(error) => {
            in_words(&error);
            // A place outside of the arena, or where no `T` can lie, is refused even unchecked.
            if arena.pointer(root, size as usize).is_err() || !root.is_multiple_of(align_of::<T::Archived>() as u64) {
                assert!(parcel.view().is_err());
            }
        }
    }
}

/// Writes what is made up, and reads it again.
fn write(arena: &'static Arena, me: Owner, mut input: Input<'_>) {
    let mut shapes = Shapes::new();
    while !input.is_empty() && shapes.len() < 40 {
        let len = usize::from(input.byte() % 16);
        let text = String::from_utf8_lossy(input.bytes(len)).into_owned();
        let shape = match input.byte() % 4 {
            0 => Shape::Point,
            1 => Shape::Line {
                from: (input.number() as i32, len as i32),
                to: (len > 4).then(|| Box::new((len as u8, input.number()))),
            },
            2 => Shape::Text(text.repeat(1 + len * len)),
            _ => Shape::Many(vec![text.chars().collect(); len]),
        };
        shapes.insert(input.word() as u16, shape);
    }
    let parcel = Parcel::encode(arena, me, &shapes).expect("room");
    parcel.check().expect("what was written is right");
    assert_eq!(parcel.decode().expect("what was written can be read"), shapes);
    let list: Vec<Shape> = shapes.into_values().collect();
    let parcel = Parcel::encode_slice(arena, me, &list).expect("room");
    assert!(parcel.raw().1 >= parcel.raw().0.offset);
}
