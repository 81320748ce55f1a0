//! Bytes that no honest peer sends: thousands of damaged frames, conversations and values. Whatever comes, it is a message or
//! an error with words; nothing panics, hangs or is left behind.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use offspring_queue::connection::{Client, Connection, ConnectionError, Listener, frame, value};
use offspring_testing::{LeakCheck, Watchdog, watchdog};
use rkyv::{Archive, Deserialize, Serialize};

/// A bit of everything that an archive can hold.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
enum Order {
    Cancel,
    Buy {
        name: String,
        amount: u32,
        tags: Vec<Option<String>>,
    },
    Many(Vec<(bool, char, i64)>),
    Table(BTreeMap<String, Vec<u16>>, Box<[f32]>, Option<Box<u128>>),
}

fn guards() -> (LeakCheck, Watchdog) {
    (LeakCheck::new(), watchdog(Duration::from_secs(100)))
}

fn orders() -> Vec<Order> {
    let tags = vec![
        Some("a tag that is long enough to lie elsewhere".to_string()),
        None,
        Some("b".to_string()),
    ];
    vec![
        Order::Cancel,
        Order::Buy {
            name: "any name".to_string(),
            amount: 7,
            tags,
        },
        Order::Many((0..20).map(|at| (at % 2 == 0, 'ü', at)).collect()),
        Order::Table(
            (0..9)
                .map(|at| (format!("key {at}"), vec![at; usize::from(at)]))
                .collect(),
            vec![0.5; 9].into(),
            Some(Box::new(u128::MAX)),
        ),
    ]
}

/// xorshift64*: the same damage in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Flips, sets, cuts, doubles, inserts and exchanges.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(8) {
                _ if bytes.is_empty() => bytes.push(self.next() as u8),
                0 | 1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                3 => bytes.truncate(at),
                4 => bytes.extend_from_within(at..),
                5 => bytes.insert(at, self.next() as u8),
                6 => drop(bytes.remove(at)),
                _ => {
                    let other = self.below(bytes.len());
                    bytes.swap(at, other);
                }
            }
        }
    }
}

/// What a connection puts on the wire when it is used like this.
fn wire(speak: impl FnOnce(&mut Connection)) -> Vec<u8> {
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut connection = Connection::from_fd(near.into()).unwrap();
    speak(&mut connection);
    drop(connection);
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn damaged_heads_are_heads_or_errors() {
    let _guards = guards();
    let mut random = Random(1);
    let (mut good, mut bad) = (0, 0);
    let heads: Vec<_> = [b"".as_slice(), b"some bytes"]
        .iter()
        .map(|body| wire(|to| to.send_bytes(body).unwrap()))
        .collect();
    for round in 0..50_000 {
        let mut bytes = heads[round % 2][..frame::HEAD].to_vec();
        random.damage(&mut bytes);
        match frame::decode(&bytes) {
            Ok(head) => {
                good += 1;
                assert_eq!(head.encode(), bytes[..], "a head has one form");
            }
            Err(error) => {
                bad += 1;
                assert!(error.to_string().starts_with("malformed message: "), "{error}");
            }
        }
    }
    assert!(good > 1000 && bad > 1000, "{good} {bad}");
}

#[test]
fn damaged_values_are_values_or_errors() {
    let _guards = guards();
    let mut random = Random(2);
    let (mut good, mut bad) = (0, 0);
    for order in orders() {
        let whole = value::encode(&order).unwrap();
        assert_eq!(value::decode::<Order>(&whole).unwrap(), order);
        for _ in 0..8_000 {
            let mut bytes = whole.to_vec();
            random.damage(&mut bytes);
            // At the alignment at which they are received.
            let mut aligned = rkyv::util::AlignedVec::<64>::new();
            aligned.extend_from_slice(&bytes);
            match value::decode::<Order>(&aligned) {
                Ok(other) => {
                    good += 1;
                    // What was accepted is a whole value: it can be sent again.
                    value::encode(&other).unwrap();
                }
                Err(error) => {
                    bad += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
            // At any other alignment it may be refused, and nothing worse.
            let _ = value::decode::<Order>(&bytes);
        }
    }
    assert!(good > 1000 && bad > 1000, "{good} {bad}");
}

/// All of a conversation, damaged: each receive is a message or an error, and after the first error that is not harmless
/// everything is over.
#[test]
fn damaged_conversations_end() {
    let _guards = guards();
    let mut random = Random(3);
    let orders = orders();
    let whole = wire(|to| {
        for order in &orders {
            to.send(order).unwrap();
            to.send_bytes(b"between").unwrap();
            to.send_fds(&[]).unwrap();
        }
    });
    let (mut received, mut ended, mut broken) = (0, 0, 0);
    for round in 0..4_000 {
        let mut bytes = whole.clone();
        if round > 0 {
            random.damage(&mut bytes);
        }
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut connection = Connection::from_fd(near.into()).unwrap();
        connection.set_max_message_len(1 << 20);
        far.write_all(&bytes).unwrap();
        drop(far);
        for turn in 0.. {
            let mut buffer = [0; 7];
            let got = match turn % 3 {
                0 => connection.recv::<Order>().map(drop),
                1 if random.below(2) == 0 => connection.recv_bytes().map(drop),
                1 => connection.recv_bytes_into(&mut buffer).map(drop),
                _ => connection.recv_fds().map(drop),
            };
            match got {
                Ok(()) => received += 1,
                Err(ConnectionError::BufferTooShort { message }) => assert!(message.len() > 7),
                Err(ConnectionError::Disconnected) => {
                    ended += 1;
                    break;
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    broken += 1;
                    assert!(matches!(connection.recv_bytes().unwrap_err(), ConnectionError::Broken));
                    break;
                }
            }
        }
        if round == 0 {
            assert_eq!((received, ended), (3 * orders.len(), 1));
        }
    }
    assert!(
        received > 4_000 && ended > 10 && broken > 1_000,
        "{received} {ended} {broken}"
    );
}

/// Damaged proofs of a key open nothing, and the listener stays.
#[test]
fn damaged_proofs_open_nothing() {
    let _guards = guards();
    let listener = Listener::builder().key(b"secret").bind_temporary().unwrap();
    let address = listener.address().clone();
    let offspring_queue::connection::Address::Unix(path) = &address else {
        panic!("{address}");
    };
    // What a client without the key may say.
    let head = |kind| frame::Head { kind, len: 32, tag: 0 }.encode();
    let said = [
        &head(frame::Kind::Challenge)[..],
        &[7; 32],
        &head(frame::Kind::Answer),
        &[8; 32],
    ]
    .concat();
    let mut random = Random(4);
    for round in 0..1_500 {
        let mut bytes = said.clone();
        if round > 0 {
            random.damage(&mut bytes);
        }
        let mut stranger = UnixStream::connect(path).unwrap();
        stranger.write_all(&bytes).unwrap();
        stranger.shutdown(std::net::Shutdown::Write).unwrap();
        let error = listener.accept().unwrap_err();
        assert!(!error.is_timeout(), "{error}");
    }
    let client = thread::spawn(move || Client::new().key(b"secret").connect(address)?.send(&1_u8));
    assert_eq!(listener.accept().unwrap().recv::<u8>().unwrap(), 1);
    client.join().unwrap().unwrap();
}
