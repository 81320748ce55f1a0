//! A message from a family's socket, with descriptors.

use offspring_process::fuzzing;

use super::in_words;
use crate::input::Input;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    // Up to three descriptors: bodies of some length, or what is no body.
    let shape = input.byte();
    let mut descriptors = Vec::new();
    for place in 0..shape % 4 {
        let made = if shape >> (2 + place) & 1 == 0 {
            let len = usize::from(input.byte());
            fuzzing::sealed(input.bytes(len))
        } else {
            fuzzing::null()
        };
        descriptors.push(made.expect("a descriptor"));
    }
    let rest = input.rest();
    // As it is, or with a head whose length fits it.
    if shape & 128 == 0 {
        receive(rest, &descriptors);
    } else {
        let (kind, body) = rest.split_first().unwrap_or((&0, &[]));
        let mut message = vec![*kind, 0];
        message.extend((body.len() as u64).to_le_bytes());
        message.extend(body);
        if let Some(got) = receive(&message, &descriptors) {
            assert_eq!(got, body);
        }
    }
}

fn receive(message: &[u8], descriptors: &[std::os::fd::OwnedFd]) -> Option<Vec<u8>> {
    // An empty message is the end of a connection.
    match fuzzing::packet(message, descriptors) {
        Ok(body) => Some(body),
        Err(error) => {
            in_words(&error);
            None
        }
    }
}
