//! One function in a process of its own: its life, its end, its relatives.
//
// UNSAFETY: children do to themselves what only C code does: exit, signals without a handler.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "children that exit, kill themselves and close descriptors")]

mod scene;

use std::process::{Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use offspring_pool::{Process, active_children, current, parent};
use offspring_process::{ExitStatus, StartMethod};
use offspring_shm::{Shared, SharedSlice};
use scene::{Scene, eventually, program, role};

const METHODS: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

fn sleep_long() {
    thread::sleep(Duration::from_secs(1000));
}

fn sleeper() -> Process<()> {
    Process::builder().daemon(true).spawn(sleep_long, ()).unwrap()
}

fn signal_of(process: &Process<()>) -> Option<i32> {
    process.exit_status().unwrap().unwrap().signal()
}

#[test]
fn this_process_is_the_main_one() {
    let _scene = Scene::new();
    assert_eq!(current().pid(), id());
    assert_eq!(current().name(), "MainProcess");
    assert!(!current().is_child());
    assert!(parent().is_none());
}

#[test]
fn arguments_arrive_as_they_were_sent() {
    let _scene = Scene::new();
    let list = vec![Some("a".to_string()), None, Some("ü".repeat(1000))];
    let copy = list.clone();
    assert_eq!(
        Process::spawn(|list: Vec<Option<String>>| list, list)
            .unwrap()
            .result()
            .unwrap(),
        copy
    );
    let six = |a: u8, b: i64, c: char, d: String, e: Vec<u16>, f: (bool, f64)| (f, e, d, c, b, a);
    let argument = (1, -2, 'ß', "x".to_string(), vec![3, 4], (true, 0.5));
    let back = Process::spawn(six, argument).unwrap().result().unwrap();
    assert_eq!(back, ((true, 0.5), vec![3, 4], "x".to_string(), 'ß', -2, 1));
    assert_eq!(Process::spawn(|| 7_u8, ()).unwrap().result().unwrap(), 7);
    Process::spawn(|(): ()| (), ()).unwrap().result().unwrap();
}

#[test]
fn a_view_is_read_where_it_lies() {
    let _scene = Scene::new();
    fn total(numbers: &rkyv::Archived<Vec<u64>>) -> u64 {
        numbers.iter().map(|number| number.to_native()).sum()
    }
    let process = Process::spawn(total, (1..=1000).collect::<Vec<u64>>()).unwrap();
    assert_eq!(process.result_view().unwrap().to_native(), 500_500);
    assert_eq!(process.result().unwrap(), 500_500, "the view takes nothing away");
}

#[test]
fn a_process_lives_from_spawn_to_join() {
    let _scene = Scene::new();
    for method in METHODS {
        let gate = Shared::new(AtomicU32::new(0)).unwrap();
        fn wait(gate: Shared<AtomicU32>, word: String) -> (String, String, u32) {
            while gate.load(Relaxed) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            (word, current().name().to_string(), id())
        }
        let builder = Process::builder()
            .name("gate keeper, with a long name")
            .start_method(method);
        let process = builder.spawn(wait, (gate.clone(), "word".to_string())).unwrap();
        assert!(process.is_alive());
        assert!(!process.is_daemon());
        assert_eq!(process.exit_status().unwrap(), None);
        assert_eq!(
            active_children().iter().map(|child| child.pid()).collect::<Vec<_>>(),
            [process.pid()]
        );
        assert!(!process.join_timeout(Duration::ZERO).unwrap());
        gate.store(1, Relaxed);
        process.join().unwrap();
        process.join().unwrap();
        assert!(process.join_timeout(Duration::ZERO).unwrap());
        assert!(!process.is_alive());
        assert!(active_children().is_empty());
        assert_eq!(process.exit_status().unwrap(), Some(ExitStatus::Code(0)));
        let expected = (
            "word".to_string(),
            "gate keeper, with a long name".to_string(),
            process.pid(),
        );
        assert_eq!(process.result().unwrap(), expected);
        assert_eq!(process.result().unwrap(), expected, "the result stays");
        process.close().unwrap();
    }
}

#[test]
fn a_child_knows_its_parent() {
    let _scene = Scene::new();
    fn relatives() -> (Option<u32>, Option<String>, bool) {
        let parent = parent();
        (
            parent.as_ref().map(|p| p.pid()),
            parent.map(|p| p.name().to_string()),
            current().is_child(),
        )
    }
    for method in METHODS {
        let child = Process::builder().start_method(method).spawn(relatives, ()).unwrap();
        assert_eq!(child.result().unwrap(), (Some(id()), Some("MainProcess".into()), true));
    }
    let grandchild = Process::builder().name("middle");
    let relatives_below = || {
        Process::spawn(relatives, ())
            .and_then(|child| child.result())
            .map_err(|e| e.to_string())
    };
    let grandchild = grandchild.spawn(relatives_below, ()).unwrap();
    assert_eq!(
        grandchild.result().unwrap().unwrap(),
        (Some(grandchild.pid()), Some("middle".into()), true)
    );
}

#[test]
fn names_count_by_generation() {
    let _scene = Scene::new();
    let name = || current().name().to_string();
    let below = |()| {
        let name = || current().name().to_string();
        let children = [Process::spawn(name, ()).unwrap(), Process::spawn(name, ()).unwrap()];
        let mut names = vec![name()];
        names.extend(children.iter().map(|child| child.result().unwrap()));
        names
    };
    let first = Process::spawn(name, ()).unwrap();
    let second = Process::spawn(below, ()).unwrap();
    assert_eq!(first.result().unwrap(), first.name());
    let own = second.name();
    assert_eq!(
        second.result().unwrap(),
        [own.to_string(), format!("{own}:1"), format!("{own}:2")]
    );
    assert_ne!(first.name(), second.name());
}

#[test]
fn a_hundred_children_at_once() {
    let _scene = Scene::new();
    let nap = |number: u32| {
        thread::sleep(Duration::from_millis(10));
        number
    };
    let children: Vec<_> = (0..100).map(|number| Process::spawn(nap, number).unwrap()).collect();
    for (number, child) in (0..).zip(&children) {
        assert_eq!(child.result().unwrap(), number);
    }
    drop(children);
    let sleepers: Vec<_> = (0..100).map(|_| sleeper()).collect();
    assert_eq!(active_children().len(), 100);
    sleepers.iter().for_each(|sleeper| sleeper.terminate().unwrap());
    for sleeper in &sleepers {
        sleeper.join().unwrap();
        assert_eq!(signal_of(sleeper), Some(libc::SIGTERM));
    }
}

#[test]
fn children_start_children_in_depth() {
    let _scene = Scene::new();
    /// Each process writes its path into the next free place, then starts its children one after the other.
    fn visit(log: SharedSlice<AtomicU32>, next: Shared<AtomicU32>, path: u32, depth: u32) {
        log[next.fetch_add(1, Relaxed) as usize].store(path, Relaxed);
        for child in 1..=2 {
            if depth > 0 {
                let arguments = (log.clone(), next.clone(), path * 10 + child, depth - 1);
                Process::spawn(visit, arguments).unwrap().result().unwrap();
            }
        }
    }
    let log = SharedSlice::from_fn(16, |_| AtomicU32::new(0)).unwrap();
    let next = Shared::new(AtomicU32::new(0)).unwrap();
    let first = (log.clone(), next.clone(), 9, 2);
    Process::spawn(visit, first).unwrap().result().unwrap();
    assert_eq!(next.load(Relaxed), 7);
    let order: Vec<u32> = log
        .iter()
        .map(|path| path.load(Relaxed))
        .take_while(|&path| path != 0)
        .collect();
    assert_eq!(order, [9, 91, 911, 912, 92, 921, 922]);
}

#[test]
fn a_child_has_as_many_descriptors_as_its_siblings() {
    let _scene = Scene::new();
    fn count() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
    for method in METHODS {
        let first = Process::builder()
            .start_method(method)
            .spawn(count, ())
            .unwrap()
            .result()
            .unwrap();
        let _siblings: Vec<_> = (0..20).map(|_| sleeper()).collect();
        let _files: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let last = Process::builder()
            .start_method(method)
            .spawn(count, ())
            .unwrap()
            .result()
            .unwrap();
        assert_eq!(first, last);
        assert!(last < 10, "{last} descriptors");
    }
}

#[test]
fn request_and_response_through_shared_words() {
    let _scene = Scene::new();
    const STOP: u32 = u32::MAX;
    fn doubler(word: Shared<AtomicU32>) {
        loop {
            match word.load(Relaxed) {
                STOP => return,
                // Odd: a request. Its answer is even.
                request if request % 2 == 1 => word.store(request * 2, Relaxed),
                _ => thread::yield_now(),
            }
        }
    }
    let word = Shared::new(AtomicU32::new(0)).unwrap();
    let process = Process::spawn(doubler, word.clone()).unwrap();
    for request in [1, 3, 501] {
        word.store(request, Relaxed);
        eventually("an answer", || word.load(Relaxed) == request * 2);
    }
    word.store(STOP, Relaxed);
    process.join().unwrap();
    assert!(process.exit_status().unwrap().unwrap().success());
}

#[test]
fn a_child_that_closes_every_descriptor_still_delivers() {
    let _scene = Scene::new();
    fn close_all(len: usize) -> Vec<u8> {
        // SAFETY: closes what this process will not use any more, its owners' feelings aside.
        unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
        vec![7; len]
    }
    assert_eq!(Process::spawn(close_all, 100).unwrap().result().unwrap(), vec![7; 100]);
    // More than there is at hand: it may fail, with words, since the arena cannot grow any more.
    match Process::spawn(close_all, 8 << 20).unwrap().result() {
        Ok(bytes) => assert_eq!(bytes.len(), 8 << 20),
        Err(error) => assert!(error.is_out_of_memory(), "{error}"),
    }
}

#[test]
fn a_result_that_is_large() {
    let _scene = Scene::new();
    let bytes = Process::spawn(|len: usize| vec![3_u8; len], 64 << 20).unwrap();
    let view = bytes.result_view().unwrap();
    assert_eq!(view.len(), 64 << 20);
    assert!(view.iter().all(|&byte| byte == 3));
}

#[test]
fn many_threads_start_and_wait() {
    let _scene = Scene::new();
    let threads: Vec<_> = (0..8_u64)
        .map(|thread| {
            thread::spawn(move || {
                for round in 0..20 {
                    let process = Process::spawn(|a: u64, b: u64| a * 1000 + b, (thread, round)).unwrap();
                    assert_eq!(process.result().unwrap(), thread * 1000 + round);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn one_process_is_waited_for_by_many_threads() {
    let _scene = Scene::new();
    let process = Process::spawn(
        || {
            thread::sleep(Duration::from_millis(30));
            vec![1_u8, 2, 3]
        },
        (),
    )
    .unwrap();
    thread::scope(|scope| {
        for thread in 0..8 {
            let process = &process;
            scope.spawn(move || match thread % 3 {
                0 => assert_eq!(process.result().unwrap(), [1, 2, 3]),
                1 => process.join().unwrap(),
                _ => assert!(process.join_timeout(scene::LIMIT).unwrap()),
            });
        }
    });
}

#[test]
fn fork_is_refused_where_there_are_threads() {
    let _scene = Scene::new();
    // The harness of this test has a second thread, and here is a third one.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || stopped.recv());
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    let error = Process::fork(|| 1_u8).unwrap_err();
    assert!(
        error.to_string().contains(&threads.to_string()),
        "{error} should name {threads} threads"
    );
    drop(stop);
    assert!(thread.join().unwrap().is_err());
}

#[test]
fn closed_streams_do_no_harm() {
    const TEST: &str = "closed_streams_do_no_harm";
    const DONE: i32 = 33;
    if role().is_some() {
        let scene = Scene::new();
        let talk = || {
            // What cannot be written is lost, and no reason to panic or to hang.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), b"to nobody\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"to nobody\n");
            std::fs::read_link("/proc/self/fd/0")
                .map(|target| target.to_string_lossy().into_owned())
                .ok()
        };
        for stream in 0..=2 {
            // SAFETY: the descriptors of the standard streams have no owner that minds.
            unsafe { libc::close(stream) };
        }
        for method in METHODS {
            let process = Process::builder().start_method(method).spawn(talk, ()).unwrap();
            assert_eq!(process.result().unwrap().as_deref(), Some("/dev/null"));
        }
        drop(scene);
        // libtest has no stream to say on that the test has passed.
        std::process::exit(DONE);
    }
    let status = program(TEST, "parent")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(DONE), "{status}");
}

#[test]
fn a_timeout_waits_no_longer() {
    let _scene = Scene::new();
    let process = sleeper();
    let since = Instant::now();
    assert!(!process.join_timeout(Duration::from_millis(20)).unwrap());
    assert!(since.elapsed() >= Duration::from_millis(20));
    process.kill().unwrap();
    assert!(process.join_timeout(Duration::MAX).unwrap());
}
