//! How a pool ends, in every order and by every death, and that nothing is left of it.
//
// UNSAFETY: signals to processes of the family, and a signal that is ignored.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "kill and signal")]

mod scene;

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio, id};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use offspring_pool::{Pool, Process};
use offspring_process::{StartMethod, zygote};
use offspring_shm::{Shared, SharedSlice};
use scene::{Scene, assert_gone, descendants, eventually, program, role};

type Flags = SharedSlice<AtomicU32>;

fn flags(count: usize) -> Flags {
    SharedSlice::from_fn(count, |_| AtomicU32::new(0)).unwrap()
}

fn double(n: u64) -> u64 {
    n * 2
}

fn sleep_long(started: Flags) {
    started[0].fetch_add(1, Relaxed);
    thread::sleep(Duration::from_secs(1000));
}

fn kill(pid: u32, signal: i32) {
    // SAFETY: a signal to a process of this test.
    unsafe { libc::kill(pid as i32, signal) };
}

#[test]
fn a_closed_pool_takes_no_calls() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let error = pool.join().unwrap_err();
    assert!(error.to_string().contains("close") && !error.is_closed(), "{error}");
    pool.close();
    pool.close();
    for error in [
        pool.map(double, [1]).unwrap_err(),
        pool.map_all(double, [1]).unwrap_err(),
    ] {
        assert!(error.is_closed(), "{error}");
    }
    assert!(pool.map_views(double, [1]).unwrap_err().is_closed());
    let none: [u64; 0] = [];
    assert!(pool.map(double, none).unwrap_err().is_closed(), "not even for nothing");
    pool.join().unwrap();
    pool.join().unwrap();
    assert!(pool.pids().is_empty());
    pool.terminate();
    pool.close();
    pool.join().unwrap();
    assert!(pool.map(double, [1]).unwrap_err().is_closed());
}

#[test]
fn calls_under_way_end_before_a_closed_pool_does() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let started = flags(1);
    fn work(started: Flags, n: u64) -> u64 {
        started[0].store(1, Relaxed);
        thread::sleep(Duration::from_millis(2));
        n
    }
    thread::scope(|scope| {
        let items = (0..200).map(|n| (started.clone(), n));
        let call = scope.spawn(|| pool.chunk_size(1).map(work, items));
        eventually("the call runs", || started[0].load(Relaxed) != 0);
        pool.close();
        pool.join().unwrap();
        assert!(call.join().unwrap().unwrap().into_iter().eq(0..200));
    });
}

#[test]
fn terminate_ends_ten_thousand_endless_tasks() {
    let _scene = Scene::new();
    let pool = Pool::new(3).unwrap();
    let started = flags(1);
    thread::scope(|scope| {
        let call = scope.spawn(|| pool.chunk_size(1).map(sleep_long, vec![started.clone(); 10_000]));
        eventually("all workers sleep", || started[0].load(Relaxed) == 3);
        pool.terminate();
        let error = call.join().unwrap().unwrap_err();
        assert!(error.is_closed() && error.to_string().contains("terminated"), "{error}");
        pool.join().unwrap();
    });
    assert_eq!(started[0].load(Relaxed), 3);
}

#[test]
fn terminate_ends_workers_that_will_not_listen() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let started = flags(1);
    fn stubborn(started: Flags) {
        // SAFETY: ignores a signal.
        unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
        sleep_long(started);
    }
    let pids = pool.pids();
    thread::scope(|scope| {
        let call = scope.spawn(|| pool.map(stubborn, vec![started.clone(); 2]));
        eventually("both are deaf", || started[0].load(Relaxed) == 2);
        pool.terminate();
        assert!(call.join().unwrap().unwrap_err().is_closed());
    });
    drop(pool);
    pids.into_iter().for_each(assert_gone);
}

#[test]
fn ends_in_every_order_from_every_thread() {
    let _scene = Scene::new();
    for round in 0..12 {
        let pool = Pool::new(2).unwrap();
        if round % 2 == 0 {
            assert_eq!(pool.map(double, 0..10).unwrap().len(), 10);
        }
        thread::scope(|scope| {
            for thread in 0..4 {
                let pool = &pool;
                scope.spawn(move || {
                    match (thread + round) % 3 {
                        0 => pool.close(),
                        1 => pool.terminate(),
                        // It may come too early, or when the pool has just been ended.
                        _ => drop(pool.map(double, 0..100)),
                    }
                    pool.close();
                    pool.join().unwrap();
                });
            }
        });
        assert!(pool.pids().is_empty());
    }
}

#[test]
fn dropping_a_pool_is_enough() {
    let _scene = Scene::new();
    for method in [StartMethod::Zygote, StartMethod::Spawn] {
        let pool = Pool::builder().workers(2).start(method).build().unwrap();
        let pids = pool.pids();
        assert_eq!(pool.map(double, 0..10).unwrap().len(), 10);
        drop(pool);
        assert!(pids.into_iter().all(offspring_testing::process_gone));
        drop(Pool::builder().workers(2).start(method).build().unwrap());
    }
    for n in 0..50 {
        assert_eq!(Pool::new(1).unwrap().map(double, [n]).unwrap(), [n * 2]);
    }
}

#[test]
fn dropping_a_pool_in_a_panic_is_quick() {
    let _scene = Scene::new();
    let started = flags(1);
    let thread = thread::spawn({
        let started = started.clone();
        move || {
            let pool = Pool::new(2).unwrap();
            let _error = pool.chunk_size(1).map(
                |started: Flags, n: u32| -> u8 {
                    if n == 0 {
                        sleep_long(started.clone());
                    }
                    while started[0].load(Relaxed) == 0 {
                        thread::yield_now();
                    }
                    panic!("one");
                },
                (0..2).map(|n| (started.clone(), n)),
            );
            panic!("with a pool in hand, one of whose workers sleeps");
        }
    });
    assert!(thread.join().is_err());
    assert_eq!(started[0].load(Relaxed), 1);
}

#[test]
fn a_pool_outlives_the_thread_that_made_it() {
    let _scene = Scene::new();
    let pool = thread::spawn(|| Pool::new(2).unwrap()).join().unwrap();
    let pids = pool.pids();
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(20));
        assert_eq!(pool.map(double, 0..10).unwrap().len(), 10);
    }
    assert_eq!(pool.pids(), pids, "no worker went with the thread");
    kill(pids[0], libc::SIGKILL);
    eventually("it is replaced", || pool.pids().len() == 2 && pool.pids()[0] != pids[0]);
    thread::spawn(move || drop(pool)).join().unwrap();
    // Made, used and dropped in threads that end at once.
    for n in 0..10 {
        let use_one = move || Pool::new(1).unwrap().map(double, [n]).unwrap();
        assert_eq!(thread::spawn(use_one).join().unwrap(), [n * 2]);
    }
}

#[test]
fn several_pools_side_by_side() {
    let _scene = Scene::new();
    let pools: Vec<Pool> = (1..6).map(|workers| Pool::new(workers).unwrap()).collect();
    thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| {
                for n in 0..50 {
                    assert_eq!(pool.map(double, 0..n).unwrap().len(), n as usize);
                }
            });
        }
    });
}

fn pool_in_a_worker(n: u64) -> u64 {
    let pool = Pool::new(2).unwrap();
    pool.map(double, 0..n).unwrap().into_iter().sum()
}

#[test]
fn a_worker_may_have_a_pool() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    assert_eq!(
        pool.chunk_size(1).map(pool_in_a_worker, 0..10).unwrap(),
        (0..10).map(|n| n * (n - n.min(1))).collect::<Vec<u64>>()
    );
    // Three generations, and processes between them.
    fn deep(n: u64) -> u64 {
        let process = Process::spawn(
            |n: u64| {
                let pool = Pool::new(1).unwrap();
                pool.map(pool_in_a_worker, [n, n]).unwrap().into_iter().sum::<u64>()
            },
            n,
        );
        process.unwrap().result().unwrap()
    }
    assert_eq!(pool.map(deep, [5, 6]).unwrap(), [40, 60]);
}

#[test]
fn a_pool_kept_by_a_worker_ends_with_it() {
    let _scene = Scene::new();
    static POOL: OnceLock<Pool> = OnceLock::new();
    fn sum(n: u64) -> (u64, Vec<u32>) {
        let pool = POOL.get_or_init(|| Pool::new(2).unwrap());
        let sum = pool.map(double, 0..n).unwrap().into_iter().sum();
        let mut pids = pool.pids();
        pids.extend(zygote::pid());
        (sum, pids)
    }
    let pool = Pool::new(1).unwrap();
    let results = pool.chunk_size(1).map(sum, [3, 4]).unwrap();
    assert_eq!((results[0].0, results[1].0), (6, 12));
    assert_eq!(results[0].1, results[1].1, "the same pool in both tasks");
    drop(pool);
    results[0].1.iter().for_each(|&pid| assert_gone(pid));
}

#[test]
fn a_worker_that_is_killed_takes_its_pool_with_it() {
    let _scene = Scene::new();
    fn inner(place: Flags, n: u32) -> Vec<u32> {
        place[1 + n as usize].store(id(), Relaxed);
        place[0].fetch_add(1, Relaxed);
        thread::sleep(Duration::from_secs(1000));
        vec![n; 1000]
    }
    fn outer(place: Flags) -> usize {
        // Much of everything: processes, results, shared values.
        let _mine: Vec<_> = (0..20)
            .map(|n| SharedSlice::from_slice(&[n; 10_000]).unwrap())
            .collect();
        let process = Process::builder()
            .daemon(true)
            .spawn(sleep_long, place.clone())
            .unwrap();
        let pool = Pool::new(3).unwrap();
        pool.map(|n: u64| vec![n; 5000], 0..10).unwrap();
        place[10].store(process.pid(), Relaxed);
        place[11].store(zygote::pid().unwrap(), Relaxed);
        pool.chunk_size(1)
            .map(inner, (0..3).map(|n| (place.clone(), n)))
            .unwrap()
            .len()
    }
    let pool = Pool::new(2).unwrap();
    for _ in 0..5 {
        let place = flags(12);
        thread::scope(|scope| {
            let call = scope.spawn(|| pool.map(outer, [place.clone()]));
            eventually("the whole family is there", || place[0].load(Relaxed) == 4);
            let relatives: Vec<u32> = [1, 2, 3, 10, 11].map(|at| place[at].load(Relaxed)).to_vec();
            let worker = pool
                .pids()
                .into_iter()
                .find(|&pid| descendants(pid).contains(&relatives[0]))
                .unwrap();
            kill(worker, libc::SIGKILL);
            let error = call.join().unwrap().unwrap_err();
            assert!(error.is_worker_death() && error.pid() == Some(worker), "{error}");
            relatives.into_iter().for_each(assert_gone);
        });
    }
    assert_eq!(pool.map(double, 0..4).unwrap(), [0, 2, 4, 6]);
}

#[test]
fn a_pool_goes_on_without_its_zygote() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    for signal in [libc::SIGKILL, libc::SIGTERM] {
        let zygote = zygote::pid().unwrap();
        kill(zygote, signal);
        assert_gone(zygote);
        assert_eq!(pool.map(double, 0..100).unwrap().len(), 100);
        let pids = pool.pids();
        kill(pids[0], libc::SIGKILL);
        assert_eq!(pool.map(double, 0..100).unwrap().len(), 100);
        eventually("it is replaced", || pool.pids().len() == 2 && pool.pids()[0] != pids[0]);
    }
}

/// The family that is left behind in the tests below: a pool at work, with a pool in a worker, and processes.
fn leave_a_family() -> ! {
    fn busy(place: Flags, n: u32) {
        if n == 0 {
            let pool = Pool::new(2).unwrap();
            pool.map(sleep_long, vec![place.clone(); 2]).unwrap();
        }
        sleep_long(place);
    }
    let place = flags(1);
    let _process = Process::spawn(
        |place: Flags| Process::spawn(sleep_long, place).unwrap().join().unwrap(),
        place.clone(),
    )
    .unwrap();
    thread::spawn({
        let place = place.clone();
        move || {
            let pool = Pool::new(3).unwrap();
            pool.chunk_size(1).map(busy, (0..3).map(|n| (place.clone(), n)))
        }
    });
    eventually("all sleep", || place[0].load(Relaxed) == 5);
    println!("ready");
    loop {
        thread::sleep(Duration::from_secs(1000));
    }
}

fn start_a_family(test: &str) -> (Child, Vec<u32>) {
    let mut command = program(test, "root");
    command.stdout(Stdio::piped()).process_group(0);
    let mut root = command.spawn().unwrap();
    let lines = BufReader::new(root.stdout.take().unwrap()).lines();
    assert!(
        lines.map(Result::unwrap).any(|line| line.ends_with("ready")),
        "the family is there"
    );
    let family = descendants(root.id());
    // Two zygotes or more, two processes, three workers, two workers of a worker.
    assert!(family.len() >= 9, "{family:?}");
    (root, family)
}

#[test]
fn the_family_dies_with_its_root() {
    const TEST: &str = "the_family_dies_with_its_root";
    if role().is_some() {
        leave_a_family();
    }
    let _scene = Scene::new();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGABRT] {
        let (mut root, family) = start_a_family(TEST);
        kill(root.id(), signal);
        assert_eq!(root.wait().unwrap().signal(), Some(signal));
        family.into_iter().for_each(assert_gone);
    }
}

#[test]
fn ctrl_c_ends_the_family_without_noise() {
    const TEST: &str = "ctrl_c_ends_the_family_without_noise";
    if role().is_some() {
        leave_a_family();
    }
    let _scene = Scene::new();
    let (root, family) = start_a_family(TEST);
    // SAFETY: a signal to the group that the program leads, as a terminal sends it.
    unsafe { libc::kill(-(root.id() as i32), libc::SIGINT) };
    let mut root = root;
    assert_eq!(root.wait().unwrap().signal(), Some(libc::SIGINT));
    family.into_iter().for_each(assert_gone);
}

#[test]
fn a_middle_generation_that_dies_takes_the_younger_ones() {
    const TEST: &str = "a_middle_generation_that_dies_takes_the_younger_ones";
    if role().is_some() {
        leave_a_family();
    }
    let _scene = Scene::new();
    let (mut root, family) = start_a_family(TEST);
    // Whoever has children of its own: the worker with a pool, and the process with a process.
    let parents: Vec<u32> = family
        .iter()
        .copied()
        .filter(|&pid| !descendants(pid).is_empty())
        .collect();
    assert!(parents.len() >= 2, "{parents:?}");
    for parent in parents {
        let younger = descendants(parent);
        kill(parent, libc::SIGKILL);
        younger.into_iter().for_each(assert_gone);
    }
    kill(root.id(), libc::SIGKILL);
    root.wait().unwrap();
    family.into_iter().for_each(assert_gone);
}

#[test]
fn a_pool_that_is_left_at_exit_does_no_harm() {
    const TEST: &str = "a_pool_that_is_left_at_exit_does_no_harm";
    static POOL: OnceLock<Pool> = OnceLock::new();
    match role().as_deref() {
        Some("static") => {
            let pool = POOL.get_or_init(|| Pool::new(2).unwrap());
            assert_eq!(pool.map(double, [1]).unwrap(), [2]);
            return println!("pids {:?}", descendants(id()));
        }
        Some("leaked") => {
            let pool = Pool::new(2).unwrap();
            assert_eq!(pool.map(double, [1]).unwrap(), [2]);
            println!("pids {:?}", descendants(id()));
            std::mem::forget(Process::spawn(sleep_long, flags(1)).unwrap());
            return std::mem::forget(pool);
        }
        Some("exit in a call") => {
            let place = flags(1);
            let pool = POOL.get_or_init(|| Pool::new(2).unwrap());
            thread::spawn({
                let place = place.clone();
                move || pool.map(sleep_long, [place])
            });
            eventually("the task runs", || place[0].load(Relaxed) == 1);
            println!("pids {:?}", descendants(id()));
            std::process::exit(0);
        }
        _ => {}
    }
    let _scene = Scene::new();
    for role in ["static", "leaked", "exit in a call"] {
        let output = program(TEST, role).output().unwrap();
        scene::assert_success(&output);
        assert!(
            output.stderr.is_empty(),
            "{role}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let words = String::from_utf8_lossy(&output.stdout);
        let pids = words
            .split_once("pids [")
            .and_then(|(_, rest)| rest.split_once(']'))
            .unwrap()
            .0;
        let pids: Vec<u32> = pids.split(", ").map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 3, "a zygote and two workers");
        pids.into_iter().for_each(assert_gone);
    }
}

#[test]
fn ignored_children_cost_a_status_and_nothing_else() {
    scene::alone("ignored_children_cost_a_status_and_nothing_else", || {
        let _scene = Scene::new();
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.map(double, [1]).unwrap(), [2]);
        // The kernel reaps this process's children from now on, behind the library's back.
        // SAFETY: a disposition without a handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let old = pool.pids();
        old.iter().for_each(|&pid| kill(pid, libc::SIGKILL));
        assert_eq!(pool.map(double, 0..100).unwrap().len(), 100);
        let counted = Shared::new(AtomicU32::new(0)).unwrap();
        fn die_once(counted: Shared<AtomicU32>) {
            if counted.fetch_add(1, Relaxed) == 0 {
                std::process::abort();
            }
        }
        let outcomes = pool.map_all(die_once, vec![counted.clone(); 2]).unwrap();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
        drop(pool);
        assert_eq!(counted.load(Relaxed), 2);
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    });
}
