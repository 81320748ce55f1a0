//! What a new process is told: its entry point, its settings and its streams.

use offspring_process::{Arguments, EntryPoint, fuzzing, image};

use super::in_words;
use crate::input::Input;

static ENTRY: EntryPoint = EntryPoint::new("fuzzed", entry);

fn entry(_: Arguments) -> i32 {
    0
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => {
            let offset = image::offset_of(&ENTRY).expect("a static of this program");
            let mut body = offset.to_le_bytes().to_vec();
            body.extend(input.rest());
            match fuzzing::request(&body) {
                Ok(name) => assert_eq!(name, ENTRY.name()),
                Err(error) => in_words(&error),
            }
        }
        1 => {
            if let Err(error) = fuzzing::only_settings(input.rest()) {
                in_words(&error);
            }
        }
        // Any offset at all: there are not many entry points.
        _ => match fuzzing::request(input.rest()) {
            Ok(name) => assert!(!name.is_empty()),
            Err(error) => in_words(&error),
        },
    }
}
