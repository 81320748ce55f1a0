//! What a connection does with messages: the behaviours of the reference implementation (K1, K2, K4, K6, K7, K11) and ours.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use offspring_queue::connection::frame::{HEAD, Head, Kind};
use offspring_queue::connection::{Connection, ConnectionError};
use offspring_testing::{LeakCheck, Watchdog, watchdog};

const SHORT: Duration = Duration::from_millis(20);

fn guards() -> (LeakCheck, Watchdog) {
    (LeakCheck::new(), watchdog(Duration::from_secs(60)))
}

/// A connection, and the bare socket at its other end.
fn with_raw_peer() -> (Connection, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Connection::from_fd(near.into()).unwrap(), far)
}

fn head(kind: Kind, len: u64) -> [u8; HEAD] {
    Head { kind, len, tag: 0 }.encode()
}

/// Sends everything back until the other side is gone.
fn echo(mut connection: Connection) {
    loop {
        match connection.recv_bytes() {
            Ok(bytes) => connection.send_bytes(&bytes).unwrap(),
            Err(error) => {
                assert!(error.is_disconnected(), "{error}");
                return;
            }
        }
    }
}

/// K1: values and bytes come back as they were sent, up to 16 MiB; then the end.
#[test]
fn values_and_bytes_come_back() {
    let _guards = guards();
    let (mut here, there) = Connection::pair().unwrap();
    let other = thread::spawn(move || {
        let mut there = there;
        for _ in 0..2 {
            let value: (String, Vec<f64>, Option<u8>) = there.recv().unwrap();
            there.send(&value).unwrap();
        }
        echo(there);
    });
    for value in [
        ("seven".to_string(), vec![1.5, 2.5], Some(7)),
        ("a longer text, out of line".to_string(), vec![0.25; 100_000], None),
    ] {
        here.send(&value).unwrap();
        assert_eq!(here.recv::<(String, Vec<f64>, Option<u8>)>().unwrap(), value);
    }
    let large: Vec<u8> = (0..16 << 20).map(|at: u32| (at ^ at >> 9) as u8).collect();
    for bytes in [&b"hello world"[..], b"", &large] {
        here.send_bytes(bytes).unwrap();
        assert!(here.recv_bytes().unwrap() == bytes);
    }
    drop(here);
    other.join().unwrap();
}

/// K1: a message goes straight into a buffer, or to a place in it; one that does not fit comes with the error.
#[test]
fn messages_go_into_buffers() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    here.send_bytes(b"abc").unwrap();
    let mut buffer = [b'.'; 8];
    assert_eq!(there.recv_bytes_into(&mut buffer).unwrap(), 3);
    assert_eq!(&buffer, b"abc.....");
    here.send_bytes(b"abc").unwrap();
    assert_eq!(there.recv_bytes_into(&mut buffer[3..]).unwrap(), 3);
    assert_eq!(&buffer, b"abcabc..");
    here.send_bytes(b"123456789").unwrap();
    let error = there.recv_bytes_into(&mut buffer).unwrap_err();
    assert!(error.to_string().contains("the message of 9 bytes"), "{error}");
    let ConnectionError::BufferTooShort { message } = error else {
        panic!("{error}");
    };
    assert_eq!(message, b"123456789");
    here.send_bytes(b"12345678").unwrap();
    assert_eq!(there.recv_bytes_into(&mut buffer).unwrap(), 8);
    assert_eq!(&buffer, b"12345678");
    here.send_bytes(b"").unwrap();
    assert_eq!(there.recv_bytes_into(&mut []).unwrap(), 0);
}

/// K1, K7: looking takes nothing; an empty message counts; the end counts; no time and no limit are times.
#[test]
fn a_poll_takes_nothing() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    assert!(!there.poll(Some(Duration::ZERO)).unwrap());
    let started = Instant::now();
    assert!(!there.poll(Some(SHORT)).unwrap());
    assert!(started.elapsed() >= SHORT);
    here.send_bytes(b"").unwrap();
    for timeout in [Some(Duration::ZERO), Some(Duration::MAX), None] {
        assert!(there.poll(timeout).unwrap());
    }
    assert_eq!(there.recv_bytes().unwrap(), b"");
    assert!(!there.poll(Some(Duration::ZERO)).unwrap());
    here.send_bytes(b"all of it").unwrap();
    assert!(there.poll(None).unwrap());
    assert_eq!(there.recv_bytes().unwrap(), b"all of it");
    drop(here);
    assert!(there.poll(None).unwrap());
    assert!(there.recv_bytes().unwrap_err().is_disconnected());
    assert!(there.recv_bytes().unwrap_err().is_disconnected());
}

/// K7: small messages, one by one and all at once, neither merge nor split.
#[test]
fn messages_keep_their_boundaries() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    let words = [&b"a"[..], b"", b"bcd", b"e", b"", b"", b"fghijk", b"l"];
    let other = thread::spawn(move || {
        for word in words {
            here.send_bytes(word).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        for word in words {
            here.send_bytes(word).unwrap();
        }
    });
    for word in words.iter().chain(&words) {
        assert!(there.poll(None).unwrap());
        assert_eq!(there.recv_bytes().unwrap(), *word);
    }
    other.join().unwrap();
    assert!(there.recv_bytes().unwrap_err().is_disconnected());
}

/// K4: any part of a buffer is a message; what lies outside of it, the slice refuses.
#[test]
fn any_slice_is_a_message() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    let letters = b"abcdefghijklmnopqrstuvwxyz";
    for range in [0..26, 5..26, 7..15, 0..0, 26..26, 25..26] {
        here.send_bytes(&letters[range.clone()]).unwrap();
        assert_eq!(there.recv_bytes().unwrap(), letters[range]);
    }
    for range in [0..27, 27..27, 22..27] {
        assert!(letters.get(range).is_none());
    }
}

/// K2: each half goes in one direction, on its own thread; a sender's end is the end of that direction only.
#[test]
fn halves_are_ends_of_one_way() {
    let _guards = guards();
    let (here, mut there) = Connection::pair().unwrap();
    let (mut receiver, mut sender) = here.split();
    let sending = thread::spawn(move || {
        for number in 0..1000_u32 {
            sender.send(&number).unwrap();
        }
    });
    for number in 0..1000_u32 {
        there.send_bytes(&number.to_le_bytes()).unwrap();
        assert_eq!(there.recv::<u32>().unwrap(), number);
        assert_eq!(receiver.recv_bytes().unwrap(), number.to_le_bytes());
    }
    sending.join().unwrap();
    assert!(there.recv::<u32>().unwrap_err().is_disconnected());
    there.send_bytes(b"still").unwrap();
    assert_eq!(receiver.recv_bytes().unwrap(), b"still");
    drop(receiver);
    assert!(there.send_bytes(b"nobody").unwrap_err().is_disconnected());
}

/// K11: a descriptor of something else is refused in words, and closed.
#[test]
fn what_is_no_connection_is_refused() {
    let _guards = guards();
    let refused = |fd: OwnedFd, why: &str| {
        let error = Connection::from_fd(fd).unwrap_err().to_string();
        assert!(error.contains("is no connection") && error.contains(why), "{error}");
    };
    refused(File::open("/dev/null").unwrap().into(), "no socket");
    let (reader, writer) = std::io::pipe().unwrap();
    refused(reader.into(), "no socket");
    refused(writer.into(), "no socket");
    refused(UdpSocket::bind("127.0.0.1:0").unwrap().into(), "without streams");
    refused(UnixDatagram::pair().unwrap().0.into(), "without streams");
    refused(TcpListener::bind("127.0.0.1:0").unwrap().into(), "not connected");
    let directory = offspring_testing::temp_dir();
    refused(
        UnixListener::bind(directory.join("listener")).unwrap().into(),
        "not connected",
    );
}

/// K6: who was dropped is gone for the other side; a receive in vain is an error, then and later.
#[test]
fn what_was_dropped_is_closed() {
    let _guards = guards();
    let (mut here, there) = Connection::pair().unwrap();
    drop(there);
    assert!(matches!(here.recv::<u8>().unwrap_err(), ConnectionError::Disconnected));
    assert!(matches!(here.send(&1_u8).unwrap_err(), ConnectionError::Disconnected));
    let error = std::io::Error::from(here.recv_bytes().unwrap_err());
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

/// What comes before its sender is gone can be received afterwards.
#[test]
fn the_last_words_are_heard() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    there.send_bytes(b"first").unwrap();
    there.send(&2_u32).unwrap();
    drop(there);
    assert!(here.send_bytes(b"nobody").unwrap_err().is_disconnected());
    assert_eq!(here.recv_bytes().unwrap(), b"first");
    assert_eq!(here.recv::<u32>().unwrap(), 2);
    assert!(here.recv::<u32>().unwrap_err().is_disconnected());
}

/// A receive whose time runs out, wherever in the message, loses nothing.
#[test]
fn a_message_survives_timeouts_at_every_byte() {
    let _guards = guards();
    let (mut connection, mut peer) = with_raw_peer();
    connection.set_recv_timeout(Some(Duration::ZERO));
    let mut wire = head(Kind::Bytes, 5).to_vec();
    wire.extend(b"hello");
    let mut buffer = [0; 5];
    for into in [false, true] {
        for byte in &wire {
            assert!(connection.recv_bytes().unwrap_err().is_timeout());
            assert!(connection.recv_bytes_into(&mut buffer).unwrap_err().is_timeout());
            peer.write_all(&[*byte]).unwrap();
        }
        if into {
            assert_eq!(connection.recv_bytes_into(&mut buffer).unwrap(), 5);
            assert_eq!(&buffer, b"hello");
        } else {
            assert_eq!(connection.recv_bytes().unwrap(), b"hello");
        }
    }
    // The memory that one call took for a body is not met by what another call receives.
    for message in [b"12345".as_slice(), b"678", b""] {
        peer.write_all(&head(Kind::Bytes, message.len() as u64)).unwrap();
        if !message.is_empty() {
            assert!(connection.recv_bytes().unwrap_err().is_timeout());
        }
        peer.write_all(message).unwrap();
        assert_eq!(connection.recv_bytes_into(&mut buffer).unwrap(), message.len());
        assert_eq!(&buffer[..message.len()], message);
        peer.write_all(&[&head(Kind::Bytes, 1)[..], b"x"].concat()).unwrap();
        peer.write_all(&[&head(Kind::Bytes, 2)[..], b"yz"].concat()).unwrap();
        assert_eq!(connection.recv_bytes().unwrap(), b"x");
        assert_eq!(connection.recv_bytes().unwrap(), b"yz");
    }
    let (mut sender, mut wire) = with_raw_peer();
    sender.send(&"a value".to_string()).unwrap();
    drop(sender);
    let mut bytes = Vec::new();
    wire.read_to_end(&mut bytes).unwrap();
    for byte in bytes {
        assert!(connection.recv::<String>().unwrap_err().is_timeout());
        peer.write_all(&[byte]).unwrap();
    }
    assert_eq!(connection.recv::<String>().unwrap(), "a value");
}

/// A send whose time runs out leaves the connection usable while nothing was sent, and ends it in the middle of a message.
#[test]
fn a_send_ends_in_time() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    here.set_send_timeout(Some(SHORT));
    let block = vec![7; 1000];
    let mut sent = 0;
    let error = loop {
        match here.send_bytes(&block) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_timeout() && sent > 0, "{error}");
    for _ in 0..sent {
        assert_eq!(there.recv_bytes().unwrap(), block);
    }
    here.send(&"usable".to_string()).unwrap();
    assert_eq!(there.recv::<String>().unwrap(), "usable");

    assert!(here.send_bytes(&vec![7; 16 << 20]).unwrap_err().is_timeout());
    let error = here.send_bytes(b"more").unwrap_err();
    assert!(matches!(error, ConnectionError::Broken), "{error}");
    assert!(error.to_string().contains("connect again"), "{error}");
    assert!(matches!(there.recv_bytes().unwrap_err(), ConnectionError::Truncated));
}

/// A message that is too long is refused before memory is taken for it; the other side sees the end.
#[test]
fn lengths_have_limits() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    there.set_max_message_len(10);
    here.send_bytes(b"1234567890").unwrap();
    assert_eq!(there.recv_bytes().unwrap().len(), 10);
    here.send_bytes(b"1234567890a").unwrap();
    let error = there.recv_bytes().unwrap_err();
    assert!(
        error.to_string().contains("11 bytes came, and 10 are allowed"),
        "{error}"
    );
    assert!(matches!(there.recv_bytes().unwrap_err(), ConnectionError::Broken));
    assert!(here.recv_bytes().unwrap_err().is_disconnected());

    let (mut connection, mut peer) = with_raw_peer();
    peer.write_all(&head(Kind::Bytes, 1 << 31)).unwrap();
    let error = connection.recv_bytes().unwrap_err();
    assert!(
        matches!(error, ConnectionError::TooLong { len: 0x8000_0000, .. }),
        "{error}"
    );

    // A lie about the length costs memory for what was sent, whatever is allowed.
    let (mut connection, mut peer) = with_raw_peer();
    connection.set_max_message_len(usize::MAX);
    peer.write_all(&head(Kind::Bytes, 1 << 62)).unwrap();
    peer.write_all(&[1; 100_000]).unwrap();
    drop(peer);
    let error = connection.recv_bytes().unwrap_err();
    assert!(matches!(error, ConnectionError::Truncated), "{error}");
}

/// Another kind of message, another type, bytes that are no value: words, and the end of the connection on both sides.
#[test]
fn misunderstandings_are_told() {
    let _guards = guards();
    type Receive = fn(&mut Connection) -> ConnectionError;
    let as_bytes: Receive = |connection| connection.recv_bytes().unwrap_err();
    let as_number: Receive = |connection| connection.recv::<u64>().unwrap_err();
    let as_descriptors: Receive = |connection| connection.recv_fds().unwrap_err();
    let text = "text".to_string();
    type Send<'a> = &'a dyn Fn(&mut Connection);
    let cases: [(&str, Send<'_>, Receive); 5] = [
        ("a value came where bytes", &|peer| peer.send(&text).unwrap(), as_bytes),
        (
            "bytes came where a value",
            &|peer| peer.send_bytes(b"12345678").unwrap(),
            as_number,
        ),
        (
            "bytes came where descriptors",
            &|peer| peer.send_bytes(b"x").unwrap(),
            as_descriptors,
        ),
        (
            "descriptors came where bytes",
            &|peer| peer.send_fds(&[]).unwrap(),
            as_bytes,
        ),
        ("is no u64", &|peer| peer.send(&text).unwrap(), as_number),
    ];
    for (words, send, receive) in cases {
        let (mut here, mut there) = Connection::pair().unwrap();
        send(&mut there);
        let error = receive(&mut here);
        assert!(error.to_string().contains(words), "{error}");
        assert!(matches!(receive(&mut here), ConnectionError::Broken));
        assert!(there.recv_bytes().unwrap_err().is_disconnected());
    }
}

/// What another program says that knows nothing of us.
#[test]
fn other_protocols_are_refused() {
    let _guards = guards();
    let (mut connection, mut peer) = with_raw_peer();
    peer.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let error = connection.recv_bytes().unwrap_err();
    assert!(error.to_string().contains("does not speak this protocol"), "{error}");
    assert_eq!(peer.read(&mut [0; 8]).unwrap_or(0), 0);
}

/// The end of the other side in the middle of a message is told from the end between two.
#[test]
fn half_a_message_is_an_error() {
    let _guards = guards();
    let mut wire = head(Kind::Bytes, 3).to_vec();
    wire.extend(b"abc");
    for len in 0..wire.len() {
        let (mut connection, mut peer) = with_raw_peer();
        peer.write_all(&wire[..len]).unwrap();
        drop(peer);
        let error = connection.recv_bytes().unwrap_err();
        assert!(error.is_disconnected());
        assert_eq!(
            matches!(error, ConnectionError::Disconnected),
            len == 0,
            "{len}: {error}"
        );
    }
}
