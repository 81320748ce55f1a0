// UNSAFETY: installs a signal handler, and gives SIGPIPE its default action back, which the runtime takes away.
#![expect(unsafe_code, reason = "signal handlers")]
//! K13: signals are invisible to who receives, sends, accepts and connects; SIGPIPE never comes.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use offspring_queue::connection::{Connection, Listener};
use offspring_testing::{LeakCheck, Watchdog, watchdog};

fn guards() -> (LeakCheck, Watchdog) {
    (LeakCheck::new(), watchdog(Duration::from_secs(60)))
}

extern "C" fn nothing(_: i32) {}

fn set(signal: Signal, handler: SigHandler) {
    // Without SA_RESTART: every system call that waits is interrupted.
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, or is the default.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// Runs `waits` on a thread that gets a signal every millisecond until `relief` has let it end.
fn interrupted<R: Send>(waits: impl FnOnce() -> R + Send, relief: impl FnOnce()) -> R {
    set(Signal::SIGUSR1, SigHandler::Handler(nothing));
    thread::scope(|scope| {
        let (who, told) = mpsc::channel();
        let waiting = scope.spawn(move || {
            who.send(pthread_self()).unwrap();
            waits()
        });
        let thread = told.recv().unwrap();
        let bother = |times: usize| {
            for _ in 0..times {
                // A thread that has ended keeps its name until it is joined.
                let _ = pthread_kill(thread, Signal::SIGUSR1);
                thread::sleep(Duration::from_millis(1));
            }
        };
        bother(30);
        assert!(!waiting.is_finished(), "it waits for more than a signal");
        relief();
        while !waiting.is_finished() {
            bother(1);
        }
        waiting.join().unwrap()
    })
}

#[test]
fn a_receive_goes_on_after_a_signal() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    let got = interrupted(
        || here.recv::<String>().unwrap(),
        || there.send(&"at last".to_string()).unwrap(),
    );
    assert_eq!(got, "at last");
    here.set_recv_timeout(Some(Duration::from_secs(50)));
    let got = interrupted(|| here.recv_bytes().unwrap(), || there.send_bytes(b"in time").unwrap());
    assert_eq!(got, b"in time");
    assert!(interrupted(
        || here.poll(None).unwrap(),
        || there.send_bytes(b"x").unwrap()
    ));
}

#[test]
fn a_send_goes_on_after_a_signal() {
    let _guards = guards();
    let (mut here, mut there) = Connection::pair().unwrap();
    let large: Vec<u8> = (0..4 << 20).map(|at: u32| ((at * 7) >> 5) as u8).collect();
    let mut got = Vec::new();
    interrupted(
        || here.send_bytes(&large).unwrap(),
        || got = there.recv_bytes().unwrap(),
    );
    assert!(got == large);
}

#[test]
fn an_accept_goes_on_after_a_signal() {
    let _guards = guards();
    let listener = Listener::builder().key(b"key").bind_temporary().unwrap();
    let mut clients = Vec::new();
    let connect = || {
        let address = listener.address().clone();
        clients.push(thread::spawn(move || {
            offspring_queue::Client::new().key(b"key").connect(address).unwrap()
        }));
    };
    let connection = interrupted(|| listener.accept().unwrap(), connect);
    drop((connection, clients.pop().unwrap().join().unwrap()));
}

#[test]
fn a_connect_goes_on_after_a_signal() {
    let _guards = guards();
    // A client waits for the listener's word while it proves its key, and before that for a place in the queue.
    let listener = Listener::builder().key(b"key").backlog(0).bind_temporary().unwrap();
    let first = Connection::connect(listener.address()).unwrap();
    let client = offspring_queue::Client::new()
        .key(b"key")
        .timeout(Duration::from_secs(50));
    thread::scope(|scope| {
        let accepting = || {
            drop(first);
            assert!(listener.accept().is_err());
            scope.spawn(|| listener.accept().unwrap());
        };
        interrupted(|| client.connect(listener.address()).unwrap(), accepting);
    });
}

#[test]
fn a_peer_that_is_gone_is_no_signal() {
    let _guards = guards();
    set(Signal::SIGPIPE, SigHandler::SigDfl);
    let (mut here, there) = Connection::pair().unwrap();
    drop(there);
    assert!(here.send_bytes(b"nobody").unwrap_err().is_disconnected());
    assert!(here.send(&1_u8).unwrap_err().is_disconnected());
    assert!(here.send_fds(&[]).unwrap_err().is_disconnected());
}
