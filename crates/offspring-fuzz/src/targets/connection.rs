//! What a stranger sends over a connection: heads of frames, values, and a whole conversation.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use offspring_queue::connection::{Connection, frame, value};

use super::in_words;
use crate::input::Input;

/// What is received: text, numbers, and pointers to pointers.
type Message = Vec<(String, Option<Box<u32>>)>;

/// More than any input is.
const MOST: usize = 4096;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => match frame::decode(input.rest()) {
            Ok(head) => assert_eq!(head.encode()[..], data[1..]),
            Err(error) => in_words(&error),
        },
        1 => read(input.rest()),
        _ => converse(&mut input),
    }
}

fn read(bytes: &[u8]) {
    let mut aligned = rkyv::util::AlignedVec::<64>::new();
    aligned.extend_from_slice(bytes);
    match value::decode::<Message>(&aligned) {
        Ok(message) => {
            let again = value::encode(&message).expect("it can be sent");
            assert_eq!(
                value::decode::<Message>(&again).expect("what was written can be read"),
                message
            );
        }
        Err(error) => in_words(&error),
    }
    // What is made of the same bytes arrives as it was.
    let made: Message = bytes
        .chunks(5)
        .map(|part| {
            (
                String::from_utf8_lossy(part).into_owned(),
                part.get(4).map(|&byte| Box::new(byte.into())),
            )
        })
        .collect();
    let sent = value::encode(&made).expect("it can be sent");
    assert_eq!(
        value::decode::<Message>(&sent).expect("what was written can be read"),
        made
    );
}

/// Sends frames whose heads are right or nearly so, then closes, and receives in some way until the end.
fn converse(input: &mut Input<'_>) {
    let (mut stranger, ours) = UnixStream::pair().expect("a socket pair");
    let mut connection = Connection::from_fd(ours.into()).expect("a connected socket");
    connection.set_max_message_len(MOST);
    connection.set_max_descriptors(4);
    connection.set_recv_timeout(Some(Duration::from_secs(5)));
    let ways = input.bytes(4);
    while !input.is_empty() {
        let len = input.byte();
        let mut head = b"ofs1".to_vec();
        head.extend([input.byte() % 8, 0, 0, 0]);
        head.extend(u64::from(len).to_le_bytes());
        let tag = match input.byte() % 4 {
            0 => value::fingerprint::<Message>(),
            1 => input.number(),
            _ => 0,
        };
        head.extend(tag.to_le_bytes());
        let wrong = usize::from(input.byte());
        if let Some(byte) = head.get_mut(wrong) {
            *byte ^= input.byte();
        }
        head.extend(input.bytes(usize::from(len)));
        // A connection that was given up takes no more.
        if stranger.write_all(&head).is_err() {
            break;
        }
    }
    drop(stranger);
    for step in 0..MOST {
        let way = ways.get(step % 4).copied().unwrap_or(0);
        let outcome = match way % 4 {
            0 => connection.recv_bytes().map(|bytes| assert!(bytes.len() <= MOST)),
            1 => connection.recv_bytes_into(&mut [0; 16]).map(|len| assert!(len <= 16)),
            2 => connection.recv::<Message>().map(drop),
            _ => connection.recv_fds().map(|descriptors| assert!(descriptors.len() <= 4)),
        };
        if let Err(error) = outcome {
            in_words(&error);
            if step >= 64 || !connection.poll(Some(Duration::ZERO)).unwrap_or(false) {
                break;
            }
        }
    }
}
