//! Offsets in the program's image.

// UNSAFETY: reads what the code under test says is part of the image.
#![expect(unsafe_code, reason = "reads the image")]

use offspring_process::image;

use super::in_words;
use crate::input::Input;

static ANCHOR: u64 = 7;

#[repr(align(64))]
struct Wide {
    bytes: [u8; 4096],
}

pub(super) fn run(data: &[u8]) {
    let anchor = image::offset_of(&ANCHOR).expect("a static of this program");
    let mut input = Input::new(data);
    let near = input.byte() & 1 == 0;
    let offset = if near {
        anchor.wrapping_add(input.number())
    } else {
        input.number()
    };
    match image::at::<u8>(offset) {
        Ok(at) => {
            // SAFETY: the code under test promises that the place is in the image, whose segments can be read.
            let _ = unsafe { at.read_volatile() };
        }
        Err(error) => in_words(&error),
    }
    match image::at::<Wide>(offset) {
        Ok(at) => {
            assert!(at.is_aligned());
            assert!(image::at::<u8>(offset + 4095).is_ok());
            // SAFETY: as above; both ends of it.
            let bytes = unsafe { &raw const (*at.as_ptr()).bytes }.cast::<u8>();
            // SAFETY: as above.
            let _ = unsafe { (bytes.read_volatile(), bytes.add(4095).read_volatile()) };
        }
        Err(error) => in_words(&error),
    }
}
