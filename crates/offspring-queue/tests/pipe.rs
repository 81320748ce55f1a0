//! What a pipe does, between processes: the behaviours of the reference implementation (rows K1 to K7, K9, K10 and K13 of its
//! connections), and what types make of them.

// UNSAFETY: installs a signal handler.
#![expect(unsafe_code, reason = "sigaction")]

mod support;

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use offspring_queue::spsc::RecvBytesError;
use offspring_queue::{PipeEnd, Queue, Waitable, pipe, pipe_with_capacity, wait_any};
use offspring_testing::run_single_threaded;
use support::{fork, scene};

const LONG: Duration = Duration::from_secs(30);

/// Gives back what it is sent, until its other end is gone.
fn echo(end: &PipeEnd<Vec<f64>, Vec<f64>>) {
    while end.poll(LONG).unwrap() {
        match end.recv() {
            Ok(value) => end.send(value).unwrap(),
            Err(error) if error.is_disconnected() => return,
            // A message of bytes: it is still there.
            Err(_) => end.send_bytes(&end.recv_bytes().unwrap()).unwrap(),
        }
    }
}

/// K1: values, bytes, bytes into a buffer, a large message, the end.
fn an_echo_gives_everything_back() {
    let scene = scene();
    let (ours, theirs) = pipe::<Vec<f64>, Vec<f64>>().unwrap();
    let child = fork(move || echo(&theirs));
    let value = vec![1.0, 2.25];
    ours.send(value.clone()).unwrap();
    assert_eq!(ours.recv().unwrap(), value);
    ours.send_bytes(b"hello, world").unwrap();
    assert_eq!(ours.recv_bytes().unwrap(), b"hello, world");

    let mut buffer = [0_u8; 20];
    ours.send_bytes(b"hello").unwrap();
    assert_eq!(ours.recv_bytes_into(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..6], b"hello\0");
    ours.send_bytes(b"world").unwrap();
    assert_eq!(ours.recv_bytes_into(&mut buffer[3 * 4..]).unwrap(), 5);
    assert_eq!(&buffer[12..18], b"world\0");

    // Too long for the buffer: an error that says how long, and the message is still there.
    for len in [21, 40, 70_000] {
        ours.send_bytes(&vec![3; len]).unwrap();
        let error = ours.recv_bytes_into(&mut buffer).unwrap_err();
        assert!(
            matches!(error, RecvBytesError::TooShort { needed } if needed == len),
            "{error}"
        );
        assert_eq!(error.needed(), Some(len));
        assert_eq!(ours.recv_bytes().unwrap(), vec![3; len]);
    }

    // Nothing there: at once, and when the time runs out; then something.
    assert!(!ours.poll(Duration::ZERO).unwrap());
    let started = Instant::now();
    assert!(!ours.poll(Duration::from_millis(50)).unwrap());
    assert!(started.elapsed() >= Duration::from_millis(50));
    ours.send(Vec::new()).unwrap();
    assert!(ours.poll(LONG).unwrap());
    assert!(ours.poll(Duration::ZERO).unwrap(), "a look takes nothing away");
    assert!(ours.recv().unwrap().is_empty());

    let large: Vec<u8> = (0..16 << 20).map(|at: u32| (at / 3) as u8).collect();
    ours.send_bytes(&large).unwrap();
    let mut back = vec![0; large.len()];
    assert_eq!(ours.recv_bytes_into(&mut back).unwrap(), large.len());
    assert!(back == large);
    let large = vec![0.5; 2 << 20];
    ours.send(large.clone()).unwrap();
    assert!(ours.recv().unwrap() == large);
    drop(ours);
    child.join();
    scene.end();
}

/// K1, K6: at the end of the other end there is something to poll, and nothing to receive.
fn a_closed_end_ends_the_pipe() {
    let scene = scene();
    let (ours, theirs) = pipe::<u32, u32>().unwrap();
    let child = fork(move || theirs.send(5).unwrap());
    assert_eq!(ours.recv().unwrap(), 5);
    child.join();
    assert!(ours.poll(Duration::ZERO).unwrap());
    assert!(ours.recv().unwrap_err().is_disconnected());
    assert!(ours.recv_bytes().unwrap_err().is_disconnected());
    assert!(ours.recv_bytes_into(&mut [0; 4]).unwrap_err().is_disconnected());
    drop(ours);

    let (ours, theirs) = pipe::<u32, u32>().unwrap();
    ours.send(1).unwrap();
    ours.close();
    assert!(ours.is_closed() && theirs.is_closed());
    assert!(ours.send(2).unwrap_err().is_disconnected());
    assert!(theirs.send(2).unwrap_err().is_disconnected());
    assert_eq!(theirs.recv().unwrap(), 1);
    assert!(theirs.recv().unwrap_err().is_disconnected());
    drop((ours, theirs));
    scene.end();
}

/// K3: the parent may drop its copy as soon as the child is there.
fn the_parent_may_drop_its_copy_right_after_the_start() {
    let scene = scene();
    for _ in 0..20 {
        let (ours, theirs) = pipe::<u32, String>().unwrap();
        let child = fork(|| {
            theirs.send(theirs.recv().unwrap().to_string()).unwrap();
            assert!(theirs.recv().unwrap_err().is_disconnected());
        });
        drop(theirs);
        ours.send(12).unwrap();
        assert_eq!(ours.recv().unwrap(), "12");
        drop(ours);
        child.join();
    }
    scene.end();
}

/// K4, K7: parts of a buffer, empty messages, and no message is merged with another or split.
fn bytes_keep_their_boundaries() {
    let scene = scene();
    let (ours, theirs) = pipe::<(), ()>().unwrap();
    let text = b"abcdefghijklmnopqrstuvwxyz";
    let parts = [
        &text[..],
        &text[5..],
        &text[7..15],
        &text[26..],
        &text[26..26],
        &text[..0],
    ];
    for part in parts {
        ours.send_bytes(part).unwrap();
    }
    assert!(theirs.poll(Duration::ZERO).unwrap());
    for part in parts {
        assert_eq!(theirs.recv_bytes().unwrap(), part);
    }
    // An empty message is one.
    ours.send_bytes(&[]).unwrap();
    assert!(theirs.poll(Duration::ZERO).unwrap());
    assert_eq!(theirs.recv_bytes_into(&mut []).unwrap(), 0);
    assert!(!theirs.poll(Duration::ZERO).unwrap());
    // Small ones with pauses, in another process.
    let child = fork(move || {
        for number in 0..8_u8 {
            std::thread::sleep(Duration::from_millis(2));
            ours.send_bytes(&[b'0' + number; 3]).unwrap();
        }
    });
    for number in 0..8_u8 {
        while !theirs.poll(Duration::from_millis(1)).unwrap() {}
        assert_eq!(theirs.recv_bytes().unwrap(), [b'0' + number; 3]);
    }
    child.join();
    drop(theirs);
    scene.end();
}

/// Every length around those at which a message moves from its slot to a block, of values and of bytes, in turns.
fn all_lengths_come_through() {
    let scene = scene();
    let (ours, theirs) = pipe_with_capacity::<Vec<u8>, [u64; 30]>(3).unwrap();
    for len in (0..300).chain([1023, 1024, 4096, 70_001]) {
        let bytes: Vec<u8> = (0..len).map(|at: u32| (at * 7) as u8).collect();
        ours.send(bytes.clone()).unwrap();
        ours.send_bytes(&bytes).unwrap();
        theirs.send_bytes(&bytes).unwrap();
        theirs.send([u64::from(len); 30]).unwrap();
        assert!(theirs.recv_bytes().is_err(), "a value is next");
        assert_eq!(theirs.recv().unwrap(), bytes);
        assert!(theirs.try_recv().is_err(), "bytes are next");
        assert_eq!(theirs.try_recv_bytes().unwrap(), bytes);
        let error = ours.recv().unwrap_err().to_string();
        assert!(error.contains("raw bytes"), "{error}");
        assert_eq!(ours.recv_bytes().unwrap(), bytes);
        let error = ours.recv_bytes_into(&mut []).unwrap_err().to_string();
        assert!(error.contains("a value"), "{error}");
        assert_eq!(ours.recv().unwrap(), [u64::from(len); 30]);
    }
    drop((ours, theirs));
    scene.end();
}

/// K9: ends, and halves of them, go to processes that know nothing of each other.
fn ends_travel_in_messages() {
    let scene = scene();
    let posts = Queue::<PipeEnd<String, u32>>::new(2).unwrap();
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let posts = posts.clone();
            fork(move || {
                let end = posts.recv().unwrap();
                drop(posts);
                while let Ok(number) = end.recv() {
                    end.send(format!("{number} from {}", std::process::id())).unwrap();
                }
            })
        })
        .collect();
    let ends: Vec<_> = (0..2)
        .map(|number| {
            let (ours, theirs) = pipe().unwrap();
            ours.send(number).unwrap();
            posts.send(theirs).unwrap();
            ours
        })
        .collect();
    let mut answers: Vec<_> = ends.iter().map(|end| end.recv().unwrap()).collect();
    answers.sort();
    for worker in &workers {
        let answer = answers
            .iter()
            .filter(|answer| answer.contains(&worker.pid().to_string()));
        assert_eq!(answer.count(), 1, "{answers:?}");
    }
    drop(ends);
    workers.into_iter().for_each(support::Child::join);
    // Unsent, it is still here.
    let (ours, theirs) = pipe().unwrap();
    let (other, unused) = pipe().unwrap();
    posts.send(other).unwrap();
    posts.send(pipe().unwrap().0).unwrap();
    let theirs = posts.try_send(theirs).unwrap_err().into_inner();
    ours.send(1).unwrap();
    assert_eq!(theirs.recv().unwrap(), 1);
    drop((posts.recv().unwrap(), posts.recv().unwrap()));
    drop((posts, ours, theirs, unused));
    scene.end();
}

/// A pipe through which its own other end is sent.
fn an_end_may_be_sent_through_another_pipe() {
    let scene = scene();
    let (ours, theirs) = pipe::<PipeEnd<u32, u32>, ()>().unwrap();
    let child = fork(move || {
        let end = theirs.recv().unwrap();
        end.send(end.recv().unwrap() + 1).unwrap();
    });
    let (near, far) = pipe::<u32, u32>().unwrap();
    ours.send(far).unwrap();
    near.send(41).unwrap();
    assert_eq!(near.recv().unwrap(), 42);
    child.join();
    drop((ours, near));
    scene.end();
}

/// Two threads use the halves of one end.
fn halves_work_in_two_threads() {
    let (ours, theirs) = pipe_with_capacity::<u64, u64>(4).unwrap();
    let echo = std::thread::spawn(move || {
        for number in &theirs.split().1 {
            assert!(number > 0);
        }
    });
    drop(ours.split().0);
    echo.join().unwrap();

    let (ours, theirs) = pipe_with_capacity::<u64, u64>(4).unwrap();
    let doubling = std::thread::spawn(move || {
        while let Ok(number) = theirs.recv() {
            theirs.send(number * 2).unwrap();
        }
    });
    let (producer, consumer) = ours.split();
    let adding = std::thread::spawn(move || consumer.iter().sum::<u64>());
    producer.send_many(1..=1000).unwrap();
    drop(producer);
    doubling.join().unwrap();
    assert_eq!(adding.join().unwrap(), 1_001_000);
}

/// K10: four pipes with ten messages each, waited for together until all are at their end; then with a process that is killed.
fn several_pipes_are_waited_for() {
    let scene = scene();
    let mut children = Vec::new();
    let mut ends: Vec<PipeEnd<(), u32>> = Vec::new();
    for pipe_number in 0..4 {
        let (ours, theirs) = pipe().unwrap();
        children.push(fork(move || {
            for number in 0..10 {
                std::thread::sleep(Duration::from_micros(300 * u64::from(pipe_number + number % 3)));
                theirs.send(pipe_number * 10 + number).unwrap();
            }
        }));
        ends.push(ours);
    }
    let on: Vec<&dyn Waitable> = ends.iter().map(|end| end as &dyn Waitable).collect();
    let mut received = Vec::new();
    let mut open = vec![true; ends.len()];
    while open.contains(&true) {
        let watched: Vec<_> = (0..ends.len()).filter(|&at| open[at]).collect();
        let on: Vec<_> = watched.iter().map(|&at| on[at]).collect();
        let ready = wait_any(&on, None).unwrap();
        assert!(!ready.is_empty());
        for at in ready.into_iter().map(|at| watched[at]) {
            match ends[at].recv() {
                Ok(message) => received.push(message),
                Err(error) => {
                    assert!(error.is_disconnected());
                    open[at] = false;
                }
            }
        }
    }
    children.into_iter().for_each(support::Child::join);
    received.sort_unstable();
    assert_eq!(received, (0..40).collect::<Vec<_>>());
    drop(ends);

    let (ours, theirs) = pipe_with_capacity::<u32, u32>(1).unwrap();
    let child = fork(move || {
        theirs.send(theirs.recv().unwrap()).unwrap();
        std::thread::sleep(Duration::from_secs(1000));
    });
    let room: [&dyn Waitable; 2] = [ours.producer(), &ours];
    assert_eq!(wait_any(&room, Some(Duration::ZERO)).unwrap(), [0]);
    ours.send(5).unwrap();
    assert_eq!(wait_any(&room[1..], None).unwrap(), [0]);
    assert_eq!(ours.recv().unwrap(), 5);
    assert!(wait_any(&room[1..], Some(Duration::from_millis(2))).unwrap().is_empty());
    child.kill_only();
    assert_eq!(
        wait_any(&room[1..], None).unwrap(),
        [0],
        "the end is something to receive"
    );
    assert!(ours.recv().unwrap_err().is_disconnected());
    child.kill();
    drop(ours);
    scene.end();
}

/// A descriptor for an event loop is readable when there is a message, and at the end.
fn an_event_loop_is_told() {
    let scene = scene();
    let (ours, theirs) = pipe::<u32, u32>().unwrap();
    let descriptor = ours.descriptor().unwrap();
    let readable = |timeout: PollTimeout| {
        let mut entries = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        poll(&mut entries, timeout).unwrap() == 1
    };
    for number in 0..20 {
        assert!(!readable(PollTimeout::ZERO));
        theirs.send(number).unwrap();
        assert!(readable(PollTimeout::NONE));
        assert_eq!(ours.recv().unwrap(), number);
        descriptor.rearm().unwrap();
    }
    drop(theirs);
    assert!(readable(PollTimeout::NONE));
    assert!(ours.recv().unwrap_err().is_disconnected());
    drop((descriptor, ours));
    scene.end();
}

static SIGNALS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_signal: i32) {
    SIGNALS.fetch_add(1, SeqCst);
}

/// K13: a signal handler that runs during a wait is not noticed.
fn signals_do_not_end_a_wait() {
    let scene = scene();
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler adds to an atomic.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let (ours, theirs) = pipe_with_capacity::<u32, u32>(1).unwrap();
    let child = fork(move || {
        assert_eq!(theirs.recv().unwrap(), 1);
        theirs.send(2).unwrap();
        theirs.send(3).unwrap();
        assert!(SIGNALS.load(SeqCst) >= 2);
    });
    child.await_sleep();
    child.signal(Signal::SIGUSR1);
    child.await_sleep();
    ours.send(1).unwrap();
    while !ours.consumer().is_full() {
        std::thread::yield_now();
    }
    child.await_sleep();
    child.signal(Signal::SIGUSR1);
    child.await_sleep();
    assert_eq!((ours.recv().unwrap(), ours.recv().unwrap()), (2, 3));
    child.join();
    drop(ours);
    scene.end();
}

fn main() -> ExitCode {
    run_single_threaded(&[
        ("an_echo_gives_everything_back", an_echo_gives_everything_back),
        ("a_closed_end_ends_the_pipe", a_closed_end_ends_the_pipe),
        (
            "the_parent_may_drop_its_copy_right_after_the_start",
            the_parent_may_drop_its_copy_right_after_the_start,
        ),
        ("bytes_keep_their_boundaries", bytes_keep_their_boundaries),
        ("all_lengths_come_through", all_lengths_come_through),
        ("ends_travel_in_messages", ends_travel_in_messages),
        (
            "an_end_may_be_sent_through_another_pipe",
            an_end_may_be_sent_through_another_pipe,
        ),
        ("halves_work_in_two_threads", halves_work_in_two_threads),
        ("several_pipes_are_waited_for", several_pipes_are_waited_for),
        ("an_event_loop_is_told", an_event_loop_is_told),
        ("signals_do_not_end_a_wait", signals_do_not_end_a_wait),
    ])
}
