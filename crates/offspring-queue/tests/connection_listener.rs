//! Listeners, clients and their keys: the behaviours of the reference implementation (K8, K11, K15) and ours.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use offspring_queue::connection::frame::{HEAD, Head, Kind, PROOF};
use offspring_queue::connection::{Address, Client, Connection, ConnectionError, Listener, ListenerBuilder};
use offspring_testing::{LeakCheck, TempDir, Watchdog, temp_dir, watchdog};

const KEY: &[u8] = b"what both know";

/// Long enough for any machine, where a test ends before.
const LONG: Duration = Duration::from_secs(100);

/// A listener with the key that gives every machine time to prove it.
fn keyed() -> ListenerBuilder {
    Listener::builder().key(KEY).handshake_timeout(LONG)
}

fn guards() -> (LeakCheck, Watchdog, TempDir) {
    (LeakCheck::new(), watchdog(Duration::from_secs(60)), temp_dir())
}

/// A name that no other test has.
fn abstract_name(directory: &Path) -> Address {
    Address::abstract_name(directory.file_name().unwrap().as_encoded_bytes())
}

fn path_of(listener: &Listener) -> PathBuf {
    match listener.address() {
        Address::Unix(path) => path.clone(),
        other => panic!("{other}"),
    }
}

/// K8: every family; a value each way.
#[test]
fn clients_come_by_every_family() {
    let (_leaks, _watchdog, directory) = guards();
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut places = vec![
        Address::from(directory.join("socket")),
        abstract_name(&directory),
        local.into(),
    ];
    // A machine without IPv6 says so itself, without our help.
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    match TcpListener::bind(six) {
        Ok(_) => places.push(six.into()),
        Err(_) => assert!(
            Listener::bind(six)
                .unwrap_err()
                .to_string()
                .contains("cannot listen at tcp:[::1]:0")
        ),
    }
    for place in places {
        for key in [None, Some(KEY)] {
            let builder = Listener::builder();
            let listener = match key {
                Some(key) => builder.key(key).handshake_timeout(LONG).bind(&place).unwrap(),
                None => builder.bind(&place).unwrap(),
            };
            let address = listener.address().clone();
            let client = thread::spawn(move || {
                let client = Client::new();
                let client = key.map_or(client.clone(), |key| client.key(key));
                let mut connection = client.connect(address).unwrap();
                connection.send(&"from the client".to_string()).unwrap();
                assert_eq!(connection.recv::<String>().unwrap(), "from the listener");
            });
            let mut connection = listener.accept().unwrap();
            assert_eq!(connection.recv::<String>().unwrap(), "from the client");
            connection.send(&"from the listener".to_string()).unwrap();
            client.join().unwrap();
            assert!(connection.recv_bytes().unwrap_err().is_disconnected());
            match (&place, listener.last_accepted()) {
                (Address::Tcp(_), Some(Address::Tcp(from))) => assert!(from.ip().is_loopback()),
                (Address::Unix(_) | Address::Abstract(_), None) => {}
                (place, from) => panic!("{place}: {from:?}"),
            }
        }
    }
}

/// K8: a second listener at an address is an error, and the first goes on.
#[test]
fn an_address_has_one_listener() {
    let (_leaks, _watchdog, directory) = guards();
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for place in [directory.join("socket").into(), abstract_name(&directory), local.into()] {
        let listener = Listener::bind(place).unwrap();
        let error = Listener::bind(listener.address()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains("a process listens there already"), "{error}");
        let mut client = Connection::connect(listener.address()).unwrap();
        client.send(&1_u8).unwrap();
        assert_eq!(listener.accept().unwrap().recv::<u8>().unwrap(), 1);
        let address = listener.address().clone();
        drop((listener, client));
        drop(Listener::bind(address).unwrap());
    }
}

/// The file of a listener that was killed, and what is no socket: words, and nothing is removed.
#[test]
fn what_is_in_the_way_is_told_and_left() {
    let (_leaks, _watchdog, directory) = guards();
    let refused = |path: &Path, why: &str| {
        let error = Listener::bind(path).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(path.exists());
    };
    let stale = directory.join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    refused(&stale, "has left its file: remove");
    let datagram = directory.join("datagram");
    let _alive = UnixDatagram::bind(&datagram).unwrap();
    refused(&datagram, "a process listens there already");
    let file = directory.join("file");
    fs::write(&file, "precious").unwrap();
    refused(&file, "no socket is in its place");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let error = Listener::bind(directory.join("none").join("socket")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fs::remove_file(&stale).unwrap();
    drop(Listener::bind(stale.as_path()).unwrap());
    assert!(!stale.exists());
}

/// A listener removes its own file, and nothing that has taken its place.
#[test]
fn only_what_was_made_is_removed() {
    let (_leaks, _watchdog, directory) = guards();
    let path = directory.join("socket");
    let listener = Listener::bind(path.as_path()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());

    let listener = Listener::bind(path.as_path()).unwrap();
    fs::rename(&path, directory.join("aside")).unwrap();
    let second = Listener::bind(path.as_path()).unwrap();
    drop(listener);
    assert!(path.exists());
    Connection::connect(path.as_path()).unwrap();
    drop(second);
    assert!(!path.exists());

    let open = Listener::builder().any_user(true).bind(path.as_path()).unwrap();
    let allowed = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let mask = allowed ^ 0o666;
    assert_eq!(
        mask & 0o600,
        0,
        "only the mask of this process takes from 666: {allowed:o}"
    );
    drop(open);
}

/// Without an address a listener makes one that nobody else can reach, and leaves nothing.
#[test]
fn a_temporary_address_is_private_and_goes() {
    let (_leaks, _watchdog, _directory) = guards();
    let (one, two) = (Listener::bind_temporary().unwrap(), Listener::bind_temporary().unwrap());
    assert_ne!(one.address(), two.address());
    let path = path_of(&one);
    let directory = path.parent().unwrap().to_path_buf();
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    Connection::connect(one.address()).unwrap();
    drop(one);
    assert!(!directory.exists() && path_of(&two).exists());
}

/// K8: what a client wrote before it was accepted is received, although it is gone.
#[test]
fn a_client_may_be_gone_before_it_is_accepted() {
    let (_leaks, _watchdog, directory) = guards();
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for place in [directory.join("socket").into(), abstract_name(&directory), local.into()] {
        let listener = Listener::bind(place).unwrap();
        let mut client = Connection::connect(listener.address()).unwrap();
        client.send_bytes(b"hello").unwrap();
        drop(client);
        let mut connection = listener.accept().unwrap();
        assert!(connection.poll(None).unwrap());
        assert_eq!(connection.recv_bytes().unwrap(), b"hello");
        assert!(connection.recv_bytes().unwrap_err().is_disconnected());
    }
}

/// Nobody listens, at any kind of address; K11: what is no address.
#[test]
fn a_client_in_vain_is_told() {
    let (_leaks, _watchdog, directory) = guards();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for place in [directory.join("socket").into(), abstract_name(&directory), port.into()] {
        let error = Connection::connect(&place).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot connect to {place}: nobody listens there")
        );
    }
    let error = Connection::connect(PathBuf::new()).unwrap_err();
    assert!(error.to_string().contains("has no path"), "{error}");
    let error = Listener::bind(
        "x".repeat(200)
            .parse::<Address>()
            .unwrap_or(Address::abstract_name([b'x'; 200])),
    );
    assert!(error.unwrap_err().to_string().contains("is too long"));
}

/// A wait for clients ends in time; a client makes the descriptor readable.
#[test]
fn an_accept_ends_in_time() {
    let (_leaks, _watchdog, _directory) = guards();
    let listener = Listener::bind_temporary().unwrap();
    assert!(listener.last_accepted().is_none());
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        assert!(listener.accept_timeout(timeout).unwrap_err().is_timeout());
    }
    let ready = || {
        poll(
            &mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)],
            PollTimeout::ZERO,
        )
        .unwrap()
    };
    assert_eq!(ready(), 0);
    let client = Connection::connect(listener.address()).unwrap();
    assert_eq!(ready(), 1);
    let connection = listener.accept_timeout(Duration::MAX).unwrap();
    assert_eq!(ready(), 0);
    for end in [&client, &connection] {
        let credentials = end.peer_credentials().unwrap();
        assert_eq!(credentials.pid, std::process::id());
        assert_eq!(credentials.uid, nix::unistd::getuid().as_raw());
        assert_eq!(credentials.gid, nix::unistd::getgid().as_raw());
    }
}

/// A full queue of clients that nobody accepts: the next one waits, and not for ever.
#[test]
fn a_connect_ends_in_time() {
    let (_leaks, _watchdog, directory) = guards();
    let listener = Listener::builder().backlog(0).bind(abstract_name(&directory)).unwrap();
    let client = Client::new().timeout(Duration::from_millis(20));
    let mut connected = Vec::new();
    let error = loop {
        match client.connect(listener.address()) {
            Ok(connection) => connected.push(connection),
            Err(error) => break error,
        }
    };
    assert!(error.is_timeout() && !connected.is_empty(), "{error}");
    // With a key it waits for the listener's word.
    let listener = keyed().bind_temporary().unwrap();
    let error = client.key(KEY).connect(listener.address()).unwrap_err();
    assert!(
        error.is_authentication() && error.to_string().contains("in time"),
        "{error}"
    );
}

/// K8: an empty key is a key.
#[test]
fn an_empty_key_is_proved_like_any_other() {
    let (_leaks, _watchdog, _directory) = guards();
    let listener = keyed().key(b"").bind_temporary().unwrap();
    let address = listener.address().clone();
    let client = thread::spawn(move || {
        let error = Client::new().key(b"x").connect(&address).unwrap_err();
        assert!(error.is_authentication(), "{error}");
        Client::new().key(b"").connect(&address)?.send(&1729_u32)
    });
    assert!(listener.accept().unwrap_err().is_authentication());
    assert_eq!(listener.accept().unwrap().recv::<u32>().unwrap(), 1729);
    client.join().unwrap().unwrap();
}

/// K15: another key is an error on both sides, for this client alone.
#[test]
fn another_key_is_an_error_on_both_sides() {
    let (_leaks, _watchdog, directory) = guards();
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    for place in [Address::from(directory.join("socket")), local.into()] {
        let listener = keyed().bind(&place).unwrap();
        let address = listener.address().clone();
        let client = thread::spawn(move || {
            let error = Client::new().key(b"another").connect(&address).unwrap_err();
            assert!(error.is_authentication(), "{error}");
            assert!(error.to_string().contains("another key"), "{error}");
            Client::new().key(KEY).connect(&address)?.send_bytes(b"right")
        });
        let error = listener.accept().unwrap_err();
        assert!(
            error.is_authentication() && error.to_string().contains("another key"),
            "{error}"
        );
        assert_eq!(listener.accept().unwrap().recv_bytes().unwrap(), b"right");
        client.join().unwrap().unwrap();
    }
}

/// One side has a key and the other knows of none: words on both sides.
#[test]
fn a_missing_key_is_told() {
    let (_leaks, _watchdog, _directory) = guards();
    let listener = keyed().bind_temporary().unwrap();
    let mut client = Connection::connect(listener.address()).unwrap();
    client.send_bytes(b"let me in").unwrap();
    let error = listener.accept().unwrap_err();
    assert!(
        error.is_authentication() && error.to_string().contains("it has none"),
        "{error}"
    );
    let error = client.recv_bytes().unwrap_err();
    assert!(
        error.is_authentication() && error.to_string().contains("was given none"),
        "{error}"
    );

    let listener = Listener::bind_temporary().unwrap();
    let address = listener.address().clone();
    let client = thread::spawn(move || Client::new().key(KEY).connect(address).unwrap_err());
    let error = listener.accept().unwrap().recv_bytes().unwrap_err();
    assert!(
        error.is_authentication() && error.to_string().contains("was given none"),
        "{error}"
    );
    assert!(client.join().unwrap().is_disconnected());
}

/// A client that says nothing is given up in time, and the next one is heard; one that goes is given up at once.
#[test]
fn a_silent_client_does_not_block_the_listener() {
    let (_leaks, _watchdog, _directory) = guards();
    let listener = Listener::builder()
        .key(KEY)
        .handshake_timeout(Duration::from_millis(50))
        .bind_temporary()
        .unwrap();
    let path = path_of(&listener);
    let silent = UnixStream::connect(&path).unwrap();
    let error = listener.accept().unwrap_err();
    assert!(
        error.is_authentication() && error.to_string().contains("in time"),
        "{error}"
    );
    // One that dribbles gains nothing by it: the limit is for the whole proof.
    let mut slow = UnixStream::connect(&path).unwrap();
    let dribbling = thread::spawn(move || {
        let bytes = Head {
            kind: Kind::Challenge,
            len: PROOF as u64,
            tag: 0,
        }
        .encode();
        while bytes.iter().all(|byte| {
            thread::sleep(Duration::from_millis(5));
            slow.write_all(&[*byte]).is_ok()
        }) {}
    });
    assert!(listener.accept().is_err());
    dribbling.join().unwrap();
    drop(UnixStream::connect(&path).unwrap());
    assert!(listener.accept().unwrap_err().is_disconnected());
    // Whether an honest one is in time depends on the machine; one of them is at last.
    let client = thread::spawn(move || while Client::new().key(KEY).connect(path.as_path()).is_err() {});
    while listener.accept().is_err() {}
    client.join().unwrap();
    drop(silent);
}

/// Reads one frame that has a body of a nonce or code.
fn hear(socket: &mut UnixStream, kind: Kind) -> [u8; PROOF] {
    let mut bytes = [0; HEAD + PROOF];
    socket.read_exact(&mut bytes).unwrap();
    assert_eq!(
        bytes[..HEAD],
        Head {
            kind,
            len: PROOF as u64,
            tag: 0
        }
        .encode()
    );
    bytes[HEAD..].try_into().unwrap()
}

fn say(socket: &mut UnixStream, kind: Kind, body: &[u8]) {
    let head = Head {
        kind,
        len: body.len() as u64,
        tag: 0,
    };
    socket.write_all(&[&head.encode()[..], body].concat()).unwrap();
}

/// Who has no key gets nowhere with what the listener says: neither with its nonce, nor by playing it against itself.
#[test]
fn what_the_listener_says_opens_nothing() {
    let (_leaks, _watchdog, _directory) = guards();
    let listener = Listener::builder()
        .key(KEY)
        .handshake_timeout(LONG)
        .bind_temporary()
        .unwrap();
    let path = path_of(&listener);
    let refused = |client: &dyn Fn(&mut UnixStream), why: &str| {
        thread::scope(|scope| {
            let accepting = scope.spawn(|| listener.accept().unwrap_err());
            let mut socket = UnixStream::connect(&path).unwrap();
            client(&mut socket);
            let error = accepting.join().unwrap();
            assert!(error.is_authentication() && error.to_string().contains(why), "{error}");
        });
    };
    // A mirror.
    refused(
        &|socket| {
            let nonce = hear(socket, Kind::Challenge);
            say(socket, Kind::Challenge, &nonce);
        },
        "repeats what it is told",
    );
    // The nonce instead of a code.
    refused(
        &|socket| {
            let nonce = hear(socket, Kind::Challenge);
            say(socket, Kind::Challenge, &[1; PROOF]);
            say(socket, Kind::Answer, &nonce);
            hear_refusal(socket);
        },
        "another key",
    );
    // An honest client's answer to another connection's nonce.
    let recorded = {
        let directory = temp_dir();
        let fake = UnixListener::bind(directory.join("fake")).unwrap();
        let client = thread::spawn({
            let path = directory.join("fake");
            move || Client::new().key(KEY).connect(path).unwrap_err()
        });
        let (mut socket, _) = fake.accept().unwrap();
        let nonce = hear(&mut socket, Kind::Challenge);
        say(&mut socket, Kind::Challenge, &[9; PROOF]);
        let answer = hear(&mut socket, Kind::Answer);
        say(&mut socket, Kind::Answer, &answer);
        let error = client.join().unwrap();
        assert!(
            error.is_authentication(),
            "a client does not take its own answer for the listener's: {error}"
        );
        (nonce, answer)
    };
    refused(
        &|socket| {
            hear(socket, Kind::Challenge);
            say(socket, Kind::Challenge, &recorded.0);
            say(socket, Kind::Answer, &recorded.1);
            hear_refusal(socket);
        },
        "another key",
    );
}

fn hear_refusal(socket: &mut UnixStream) {
    let mut head = [0; HEAD];
    socket.read_exact(&mut head).unwrap();
    assert_eq!(
        head,
        Head {
            kind: Kind::Refusal,
            len: 0,
            tag: 0
        }
        .encode()
    );
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
}

/// Any number of threads may accept: each client is one thread's.
#[test]
fn several_threads_accept() {
    let (_leaks, _watchdog, _directory) = guards();
    let listener = keyed().bind_temporary().unwrap();
    let numbers = thread::scope(|scope| {
        let accepting =
            [(); 4].map(|()| scope.spawn(|| [(); 5].map(|()| listener.accept().unwrap().recv::<u32>().unwrap())));
        for number in 0..20_u32 {
            let client = Client::new().key(KEY).timeout(LONG).connect(listener.address());
            client.unwrap().send(&number).unwrap();
        }
        accepting.map(|thread| thread.join().unwrap())
    });
    let mut numbers = numbers.concat();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

/// K15: a listener that has no key convinces no client.
#[test]
fn a_bogus_listener_is_found_out() {
    let (_leaks, _watchdog, directory) = guards();
    let path = directory.join("bogus");
    let bogus = UnixListener::bind(&path).unwrap();
    let meet = |listener: &dyn Fn(&mut UnixStream)| -> ConnectionError {
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                Client::new()
                    .key(KEY)
                    .timeout(LONG)
                    .connect(path.as_path())
                    .unwrap_err()
            });
            let (mut socket, _) = bogus.accept().unwrap();
            listener(&mut socket);
            client.join().unwrap()
        })
    };
    let error = meet(&|socket| {
        say(socket, Kind::Challenge, &[1; PROOF]);
        hear(socket, Kind::Challenge);
        hear(socket, Kind::Answer);
        say(socket, Kind::Answer, &[2; PROOF]);
    });
    assert!(error.to_string().contains("the listener has another key"), "{error}");
    let error = meet(&|socket| say(socket, Kind::Bytes, b"welcome"));
    assert!(
        error.is_authentication() && error.to_string().contains("it has none"),
        "{error}"
    );
    let error = meet(&|socket| {
        let nonce = hear(socket, Kind::Challenge);
        say(socket, Kind::Challenge, &nonce);
    });
    assert!(error.to_string().contains("repeats what it is told"), "{error}");
}
