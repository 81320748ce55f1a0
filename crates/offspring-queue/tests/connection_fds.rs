//! Descriptors over a connection: the behaviours of the reference implementation (K5, K9) and ours.

use std::fs::File;
use std::io::{IoSlice, PipeReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use offspring_queue::connection::frame::{Head, Kind};
use offspring_queue::connection::{Connection, ConnectionError};
use offspring_testing::{LeakCheck, Watchdog, watchdog};

fn guards() -> (LeakCheck, Watchdog) {
    (LeakCheck::new(), watchdog(Duration::from_secs(60)))
}

/// A pipe with these words in it, closed behind them.
fn pipe_with(words: &str) -> PipeReader {
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(words.as_bytes()).unwrap();
    reader
}

fn words_of(fd: OwnedFd) -> String {
    let mut words = String::new();
    File::from(fd).read_to_string(&mut words).unwrap();
    words
}

/// A connection, and the bare socket at its other end.
fn with_raw_peer() -> (Connection, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Connection::from_fd(near.into()).unwrap(), far)
}

/// Writes to a bare socket, with descriptors.
fn write_with(socket: &UnixStream, bytes: &[u8], descriptors: &[RawFd]) {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights };
    let sent = sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    );
    assert_eq!(sent.unwrap(), bytes.len());
}

fn head(kind: Kind, len: u64, tag: u64) -> Vec<u8> {
    Head { kind, len, tag }.encode().to_vec()
}

/// K5: what arrives is the same open file under a number of its own, closed by `exec`; high numbers too.
#[test]
fn a_descriptor_is_usable_where_it_arrives() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    let low = pipe_with("low");
    let taken: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
    let high = pipe_with("high");
    assert!(high.as_raw_fd() >= 256);
    here.send_fds(&[low.as_fd(), high.as_fd()]).unwrap();
    drop((low, high));
    let descriptors = there.recv_fds().unwrap();
    drop(taken);
    for fd in &descriptors {
        let flags = FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap());
        assert!(flags.contains(FdFlag::FD_CLOEXEC));
    }
    let words: Vec<_> = descriptors.into_iter().map(words_of).collect();
    assert_eq!(words, ["low", "high"]);
}

/// K9: the ends of pipes keep their direction; a connection that is sent goes on where it arrives, for values and
/// descriptors alike.
#[test]
fn ends_and_connections_can_be_sent() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let (mut stays, travels) = Connection::pair().unwrap();
    here.send_fds(&[reader.as_fd(), writer.as_fd(), travels.as_fd()])
        .unwrap();
    drop((reader, writer, travels));
    let [reader, writer, travelled] = <[OwnedFd; 3]>::try_from(there.recv_fds().unwrap()).unwrap();
    let (mut reader, mut writer) = (File::from(reader), File::from(writer));
    assert!(writer.read(&mut [0]).is_err() && reader.write(b"x").is_err());
    writer.write_all(b"through").unwrap();
    drop(writer);
    assert_eq!(words_of(reader.into()), "through");
    let mut travelled = Connection::from_fd(travelled).unwrap();
    travelled.send(&"from afar".to_string()).unwrap();
    assert_eq!(stays.recv::<String>().unwrap(), "from afar");
    let null = File::open("/dev/null").unwrap();
    stays.send_fds(&[null.as_fd()]).unwrap();
    assert_eq!(travelled.recv_fds().unwrap().len(), 1);
    drop(stays);
    assert!(travelled.recv_bytes().unwrap_err().is_disconnected());
}

/// More descriptors than the kernel passes at once go in several batches; other messages stay where they are between.
#[test]
fn any_number_of_descriptors_is_one_message() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let counts = [0, 1, 252, 253, 254, 506, 507, 600];
    let sending = thread::spawn(move || {
        for count in counts {
            here.send_fds(&vec![null.as_fd(); count]).unwrap();
            here.send(&count).unwrap();
        }
    });
    for count in counts {
        let descriptors = there.recv_fds().unwrap();
        assert_eq!(descriptors.len(), count);
        assert_eq!(there.recv::<usize>().unwrap(), count);
    }
    sending.join().unwrap();
    assert!(there.recv_fds().unwrap_err().is_disconnected());
}

/// A receive whose time runs out between two batches keeps the first.
#[test]
fn descriptors_survive_a_timeout() {
    let _guards = guards();
    let (mut connection, peer) = with_raw_peer();
    connection.set_recv_timeout(Some(Duration::ZERO));
    let null = File::open("/dev/null").unwrap();
    let many = vec![null.as_raw_fd(); 253];
    let first = head(Kind::Descriptors, 0, 300);
    write_with(&peer, &first[..1], &many);
    assert!(connection.recv_fds().unwrap_err().is_timeout());
    write_with(&peer, &first[1..], &[]);
    assert!(connection.recv_fds().unwrap_err().is_timeout());
    write_with(&peer, &head(Kind::Descriptors, 0, 47), &many[..47]);
    assert_eq!(connection.recv_fds().unwrap().len(), 300);
}

/// Too many are refused, closed, and the end.
#[test]
fn numbers_of_descriptors_have_limits() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    there.set_max_descriptors(2);
    let null = File::open("/dev/null").unwrap();
    here.send_fds(&[null.as_fd(); 2]).unwrap();
    assert_eq!(there.recv_fds().unwrap().len(), 2);
    here.send_fds(&[null.as_fd(); 3]).unwrap();
    let error = there.recv_fds().unwrap_err();
    assert!(
        error.to_string().contains("3 descriptors came, and 2 are allowed"),
        "{error}"
    );
    assert!(matches!(there.recv_fds().unwrap_err(), ConnectionError::Broken));
    assert!(here.recv_bytes().unwrap_err().is_disconnected());

    let (mut connection, peer) = with_raw_peer();
    write_with(&peer, &head(Kind::Descriptors, 0, u64::MAX), &[null.as_raw_fd(); 253]);
    let error = connection.recv_fds().unwrap_err();
    assert!(matches!(error, ConnectionError::TooManyDescriptors { .. }), "{error}");
}

/// Descriptors where there should be none, and none where there should be some: all are closed, and it is the end.
#[test]
fn descriptors_that_were_not_announced_are_closed() {
    let _guards = guards();
    let null = File::open("/dev/null").unwrap();
    let null = null.as_raw_fd();
    let mut bytes = head(Kind::Bytes, 3, 0);
    bytes.extend(b"abc");
    type Write<'a> = &'a dyn Fn(&UnixStream);
    let cases: [(&str, Write<'_>); 8] = [
        ("a message that has none", &|peer| write_with(peer, &bytes, &[null])),
        ("a message that has none", &|peer| {
            write_with(peer, &bytes[..7], &[null]);
            write_with(peer, &bytes[7..], &[]);
        }),
        ("the middle of a message", &|peer| {
            write_with(peer, &bytes[..24], &[]);
            write_with(peer, &bytes[24..], &[null, null]);
        }),
        ("more or fewer", &|peer| {
            write_with(peer, &head(Kind::Descriptors, 0, 1), &[]);
        }),
        ("more or fewer", &|peer| {
            write_with(peer, &head(Kind::Descriptors, 0, 1), &[null, null]);
        }),
        ("more or fewer", &|peer| {
            write_with(peer, &head(Kind::Descriptors, 0, 0), &[null]);
        }),
        ("ended too early", &|peer| {
            write_with(peer, &head(Kind::Descriptors, 0, 254), &[null; 253]);
            write_with(peer, &bytes, &[]);
        }),
        ("do not fit each other", &|peer| {
            write_with(peer, &head(Kind::Descriptors, 0, 254), &[null; 253]);
            write_with(peer, &head(Kind::Descriptors, 0, 2), &[null; 2]);
        }),
    ];
    for (words, write) in cases {
        let (mut connection, peer) = with_raw_peer();
        write(&peer);
        let error = if words.contains("message") && !words.contains("fit") {
            connection.recv_bytes().unwrap_err()
        } else {
            connection.recv_fds().unwrap_err()
        };
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

/// The other side goes between two batches: what came is closed.
#[test]
fn half_of_the_descriptors_are_none() {
    let _guards = guards();
    let null = File::open("/dev/null").unwrap();
    let (mut connection, peer) = with_raw_peer();
    write_with(&peer, &head(Kind::Descriptors, 0, 300), &[null.as_raw_fd(); 253]);
    drop(peer);
    let error = connection.recv_fds().unwrap_err();
    assert!(matches!(error, ConnectionError::Truncated), "{error}");
    drop(null);
    // Nothing of it is kept, although the connection lives.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let of_null = open.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|file| file.ends_with("null")));
    assert!(of_null.count() < 50);
}

/// A process without room for the descriptors loses none of its own, and keeps none of them.
#[test]
fn a_full_table_is_an_error() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    here.send_fds(&[null.as_fd(); 100]).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // The next number is the lowest free one: there is room for ten more at the most, unless there are gaps below.
    let next = null.try_clone().unwrap().as_raw_fd() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, next + 10, hard).unwrap();
    let received = there.recv_fds();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    let error = received.unwrap_err();
    assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
    assert!(here.recv_bytes().unwrap_err().is_disconnected());
}

/// A user who has too many descriptors on their way, which the kernel refuses to all but root, waits until some arrive.
#[test]
fn a_crowd_of_descriptors_arrives() {
    let _guards = guards();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(700), hard).unwrap();
    let (mut here, mut there) = Connection::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..8 {
                here.send_fds(&[null.as_fd(); 253]).unwrap();
            }
        });
        thread::sleep(Duration::from_millis(20));
        for _ in 0..8 {
            assert_eq!(there.recv_fds().unwrap().len(), 253);
        }
    });
    // Waiting ends with the other side, and in time.
    here.set_send_timeout(Some(Duration::from_millis(20)));
    let error = loop {
        if let Err(error) = here.send_fds(&[null.as_fd(); 253]) {
            break error;
        }
    };
    assert!(error.is_timeout(), "{error}");
    here.set_send_timeout(None);
    drop(there);
    assert!(here.send_fds(&[null.as_fd(); 253]).unwrap_err().is_disconnected());
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
}

/// The network carries no descriptors; the connection is as before.
#[test]
fn descriptors_do_not_go_over_tcp() {
    let _guards = guards();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut here = Connection::connect(listener.local_addr().unwrap()).unwrap();
    let mut there = Connection::from_fd(listener.accept().unwrap().0.into()).unwrap();
    let none: [BorrowedFd<'_>; 0] = [];
    let error = here.send_fds(&none).unwrap_err();
    assert!(error.to_string().contains("over Unix sockets only"), "{error}");
    assert!(
        here.peer_credentials()
            .unwrap_err()
            .to_string()
            .contains("Unix sockets only")
    );
    here.send(&5_u8).unwrap();
    assert_eq!(there.recv::<u8>().unwrap(), 5);
}
