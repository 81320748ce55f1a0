// UNSAFETY: forks, and reads and writes memory that two processes have.
#![expect(unsafe_code, reason = "fork and shared memory")]
//! Two processes that are not of one family: this program, and a copy of it that was executed anew and told an address.
//!
//! | row | test |
//! |---|---|
//! | K1 | `values_and_bytes_come_back_from_a_stranger` |
//! | K3 | `a_stranger_may_have_the_only_other_end` |
//! | K5 | `a_stranger_writes_into_a_pipe_that_it_was_given` |
//! | K9 | `two_strangers_are_connected_by_a_third` |
//!
//! The rest is ours.

mod stranger;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use offspring_queue::connection::{Address, Connection, Listener};
use offspring_shm::{Mapping, Segment};
use offspring_testing::{LeakCheck, Watchdog, run_single_threaded, watchdog};
use stranger::{LONG, Letter, Stranger, connect, keyed, letter};

fn guards() -> (LeakCheck, Watchdog) {
    (LeakCheck::new(), watchdog(LONG))
}

/// A listener, a stranger in this role, and the connection to it.
fn meet(role: &str) -> (Listener, Stranger, Connection) {
    let listener = keyed();
    let stranger = Stranger::start(role, listener.address());
    let connection = listener.accept().unwrap();
    (listener, stranger, connection)
}

/// What the other process does. It ends by itself when this one is gone: whatever it waits for is over then.
fn play(role: &str) {
    let _watchdog = watchdog(LONG);
    match role {
        "echo" => {
            let mut connection = connect();
            let value: Letter = connection.recv().unwrap();
            connection.send(&value).unwrap();
            while let Ok(bytes) = connection.recv_bytes() {
                connection.send_bytes(&bytes).unwrap();
            }
        }
        "writer" => {
            let mut connection = connect();
            for pipe in connection.recv_fds().unwrap() {
                File::from(pipe).write_all(b"written by a stranger").unwrap();
            }
        }
        "mapper" => {
            let mut connection = connect();
            let [file, segment] = <[OwnedFd; 2]>::try_from(connection.recv_fds().unwrap()).unwrap();
            // What is no segment is known by its seals.
            let error = Segment::from_fd(file).unwrap_err().to_string();
            assert!(error.contains("is no shared memory segment"), "{error}");
            let segment = Segment::from_fd(segment).unwrap();
            let mapping = segment.map().unwrap();
            let len = mapping.len() as u64;
            let bytes = read(&mapping, 5);
            connection.send(&(len, bytes)).unwrap();
            write(&mapping, b"ready");
            connection.send_bytes(b"look").unwrap();
            connection.recv_bytes().unwrap_err();
        }
        "heir" => {
            let input = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
            let mut connection = Connection::from_fd(input).unwrap();
            let value: Letter = connection.recv().unwrap();
            connection.send(&value).unwrap();
            assert!(connection.recv_bytes().unwrap_err().is_disconnected());
        }
        "introduced" => {
            let mut connection = connect();
            let [other] = <[OwnedFd; 1]>::try_from(connection.recv_fds().unwrap()).unwrap();
            let mut other = Connection::from_fd(other).unwrap();
            other.send(&std::process::id()).unwrap();
            let pid: u32 = other.recv().unwrap();
            connection.send(&pid).unwrap();
        }
        other => panic!("no stranger is called {other}"),
    }
}

fn read(mapping: &Mapping, len: usize) -> Vec<u8> {
    assert!(len <= mapping.len());
    // SAFETY: the bytes lie in the mapping, and the other process writes at another time: a message lies between.
    (0..len)
        .map(|at| unsafe { mapping.as_ptr().add(at).read_volatile() })
        .collect()
}

fn write(mapping: &Mapping, bytes: &[u8]) {
    assert!(bytes.len() <= mapping.len());
    for (at, byte) in bytes.iter().enumerate() {
        // SAFETY: as in `read`.
        unsafe { mapping.as_ptr().add(at).write_volatile(*byte) };
    }
}

fn values_and_bytes_come_back_from_a_stranger() {
    let _guards = guards();
    let (_listener, stranger, mut connection) = meet("echo");
    assert_eq!(connection.peer_credentials().unwrap().pid, stranger.0.id());
    connection.send(&letter(49)).unwrap();
    assert_eq!(connection.recv::<Letter>().unwrap(), letter(49));
    for len in [0, 1, 100_000, 16 << 20] {
        let bytes = vec![b'x'; len];
        connection.send_bytes(&bytes).unwrap();
        assert!(connection.recv_bytes().unwrap() == bytes);
    }
    drop(connection);
    stranger.end();
}

fn a_stranger_writes_into_a_pipe_that_it_was_given() {
    let _guards = guards();
    let (_listener, stranger, mut connection) = meet("writer");
    let (mut reader, writer) = std::io::pipe().unwrap();
    connection.send_fds(&[writer.as_fd()]).unwrap();
    drop(writer);
    let mut words = String::new();
    reader.read_to_string(&mut words).unwrap();
    assert_eq!(words, "written by a stranger");
    stranger.end();
}

fn a_segment_is_handed_over() {
    let _guards = guards();
    let (_listener, stranger, mut connection) = meet("mapper");
    let segment = Segment::anonymous("handed over", 1 << 20).unwrap();
    let mapping = segment.map().unwrap();
    write(&mapping, b"hello");
    let file = File::open("/proc/self/exe").unwrap();
    connection.send_fds(&[file.as_fd(), segment.as_fd()]).unwrap();
    drop(segment);
    let (len, bytes) = connection.recv::<(u64, Vec<u8>)>().unwrap();
    assert_eq!((len, &bytes[..]), (1 << 20, &b"hello"[..]));
    assert_eq!(connection.recv_bytes().unwrap(), b"look");
    assert_eq!(read(&mapping, 5), b"ready");
    drop(connection);
    stranger.end();
}

fn a_stranger_may_have_the_only_other_end() {
    let _guards = guards();
    let (mut here, there) = Connection::pair().unwrap();
    let there_fd = there.as_fd().try_clone_to_owned().unwrap();
    drop(there);
    let stranger = Stranger::start_with("heir", &Address::abstract_name("unused"), there_fd.into());
    here.send(&letter(3)).unwrap();
    assert_eq!(here.recv::<Letter>().unwrap(), letter(3));
    drop(here);
    stranger.end();
}

fn two_strangers_are_connected_by_a_third() {
    let _guards = guards();
    let listener = keyed();
    let strangers = [(); 2].map(|()| Stranger::start("introduced", listener.address()));
    let mut connections = [(); 2].map(|()| listener.accept().unwrap());
    let (one, two) = Connection::pair().unwrap();
    connections[0].send_fds(&[one.as_fd()]).unwrap();
    connections[1].send_fds(&[two.as_fd()]).unwrap();
    drop((one, two));
    let pids = connections
        .each_ref()
        .map(|connection| connection.peer_credentials().unwrap().pid);
    assert_eq!(connections[0].recv::<u32>().unwrap(), pids[1]);
    assert_eq!(connections[1].recv::<u32>().unwrap(), pids[0]);
    strangers.into_iter().for_each(Stranger::end);
}

/// A child that was forked has the listener too, and takes nothing away when it drops it.
fn a_forked_copy_of_a_listener_leaves_the_file() {
    let _guards = guards();
    let mut listener = Some(Listener::bind_temporary().unwrap());
    // SAFETY: this program has one thread; the child leaves by _exit.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(listener.take());
            // SAFETY: ends the child at once, without the parent's destructors.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
    Connection::connect(listener.unwrap().address()).unwrap();
}

fn main() -> ExitCode {
    if let Some(role) = stranger::role() {
        play(&role);
        return ExitCode::SUCCESS;
    }
    run_single_threaded(&[
        (
            "values_and_bytes_come_back_from_a_stranger",
            values_and_bytes_come_back_from_a_stranger,
        ),
        (
            "a_stranger_writes_into_a_pipe_that_it_was_given",
            a_stranger_writes_into_a_pipe_that_it_was_given,
        ),
        ("a_segment_is_handed_over", a_segment_is_handed_over),
        (
            "a_stranger_may_have_the_only_other_end",
            a_stranger_may_have_the_only_other_end,
        ),
        (
            "two_strangers_are_connected_by_a_third",
            two_strangers_are_connected_by_a_third,
        ),
        (
            "a_forked_copy_of_a_listener_leaves_the_file",
            a_forked_copy_of_a_listener_leaves_the_file,
        ),
    ])
}
