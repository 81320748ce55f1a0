//! Forked processes: what they capture, what they may not touch, and what is theirs to give back. One thread only.
//
// UNSAFETY: the last test forks behind the library's back.
#![expect(unsafe_code, reason = "a raw fork")]

mod scene;

use std::cell::{Cell, RefCell};
use std::process::{ExitCode, id};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use offspring_pool::{Pool, Process, active_children, current, parent};
use offspring_process::{ExitStatus, Forked};
use offspring_shm::{Shared, SharedSlice, family};
use offspring_testing::run_single_threaded;
use scene::{Scene, assert_gone};

fn main() -> ExitCode {
    run_single_threaded(&[
        ("a_closure_captures_what_it_likes", a_closure_captures_what_it_likes),
        ("a_panic_and_a_death_are_told", a_panic_and_a_death_are_told),
        ("forks_fork", forks_fork),
        ("a_fork_starts_processes_and_pools", a_fork_starts_processes_and_pools),
        ("shared_values_are_held_by_both", shared_values_are_held_by_both),
        (
            "captured_processes_stay_the_parents",
            captured_processes_stay_the_parents,
        ),
        ("captured_views_stay_the_parents", captured_views_stay_the_parents),
        (
            "what_is_moved_into_a_fork_is_given_back_once",
            what_is_moved_into_a_fork_is_given_back_once,
        ),
        ("a_captured_pool_says_whose_it_is", a_captured_pool_says_whose_it_is),
        ("fork_is_refused_beside_threads", fork_is_refused_beside_threads),
        ("settings_are_applied_in_the_fork", settings_are_applied_in_the_fork),
        ("a_fork_dies_with_its_parent", a_fork_dies_with_its_parent),
        (
            "a_raw_fork_may_not_use_what_it_has_copies_of",
            a_raw_fork_may_not_use_what_it_has_copies_of,
        ),
    ])
}

fn a_closure_captures_what_it_likes() {
    let _scene = Scene::new();
    let words = Rc::new(vec!["neither".to_string(), "Send".to_string()]);
    let seen = Cell::new(1);
    let captured = Rc::clone(&words);
    let process = Process::fork(|| {
        seen.set(2);
        (
            captured.join(" "),
            id(),
            current().is_child(),
            parent().map(|parent| parent.pid()),
        )
    })
    .unwrap();
    let expected = ("neither Send".to_string(), process.pid(), true, Some(id()));
    assert_eq!(process.result().unwrap(), expected);
    assert_eq!(seen.get(), 1, "the child changed its copy");
    assert_eq!(process.exit_status().unwrap(), Some(ExitStatus::Code(0)));
}

fn a_panic_and_a_death_are_told() {
    let _scene = Scene::new();
    let number = 3;
    let error = Process::<u8>::fork(|| panic!("forked {number}"))
        .unwrap()
        .result()
        .unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "forked 3");
    let error = Process::<u8>::fork(|| std::process::exit(5))
        .unwrap()
        .result()
        .unwrap_err();
    assert_eq!(error.exit_status(), Some(&ExitStatus::Code(5)));
    let error = Process::<u8>::fork(|| std::process::abort())
        .unwrap()
        .result()
        .unwrap_err();
    assert_eq!(error.exit_status().unwrap().signal(), Some(libc::SIGABRT));
    let large = Process::fork(|| vec![number as u8; 16 << 20]).unwrap();
    assert_eq!(large.result_view().unwrap().len(), 16 << 20);
}

fn forks_fork() {
    let _scene = Scene::new();
    fn depth(levels: u32) -> Vec<u32> {
        let mut pids = match levels {
            0 => Vec::new(),
            _ => Process::fork(|| depth(levels - 1)).unwrap().result().unwrap(),
        };
        pids.push(id());
        pids
    }
    let pids = depth(6);
    assert_eq!(pids.len(), 7);
    assert!(pids.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(pids.last(), Some(&id()));
}

fn a_fork_starts_processes_and_pools() {
    let _scene = Scene::new();
    // The parent has a zygote and a child of its own, which the fork must leave alone.
    let sibling = Process::spawn(|| std::thread::sleep(std::time::Duration::from_secs(1000)), ()).unwrap();
    let process = Process::fork(|| {
        assert!(active_children().is_empty(), "the parent's child is not the fork's");
        let one = Process::spawn(|a: u32, b: u32| a * b, (3, 4))
            .unwrap()
            .result()
            .unwrap();
        let pool = Pool::new(2).unwrap();
        let many: u32 = pool.map(|n: u32| n * n, 0..10).unwrap().iter().sum();
        (one, many)
    })
    .unwrap();
    assert_eq!(process.result().unwrap(), (12, 285));
    assert!(sibling.is_alive());
    sibling.kill().unwrap();
    sibling.join().unwrap();
}

fn shared_values_are_held_by_both() {
    let _scene = Scene::new();
    let counter = Shared::new(AtomicU32::new(1)).unwrap();
    let numbers = SharedSlice::from_slice(&[1_u64, 2, 3]).unwrap();
    let process = Process::fork({
        let counter = counter.clone();
        move || {
            counter.fetch_add(10, Relaxed);
            numbers.iter().sum::<u64>()
        }
    })
    .unwrap();
    assert_eq!(
        process.result().unwrap(),
        6,
        "the parent's own handle went with the closure"
    );
    assert_eq!(counter.load(Relaxed), 11);
}

fn captured_processes_stay_the_parents() {
    let _scene = Scene::new();
    let held = blocks_of_this_process();
    let children = RefCell::new(Vec::new());
    for word in ["first", "second"] {
        children
            .borrow_mut()
            .push(Process::spawn(|word: String| word + "!", word.to_string()).unwrap());
    }
    assert_eq!(children.borrow()[0].result().unwrap(), "first!");
    children.borrow()[1].join().unwrap();
    let with_two = blocks_of_this_process();
    let fork = Process::fork(|| {
        let refused = children.borrow()[1].join().unwrap_err().to_string();
        assert!(refused.contains("not of this one"), "{refused}");
        assert!(children.borrow()[0].kill().is_err());
        // Copies: neither the parent's children nor their results go with them.
        children.borrow_mut().clear();
    })
    .unwrap();
    fork.result().unwrap();
    drop(fork);
    assert_eq!(
        blocks_of_this_process(),
        with_two,
        "the fork has freed blocks of its parent"
    );
    assert_eq!(children.borrow()[0].result().unwrap(), "first!");
    assert_eq!(children.borrow()[1].result().unwrap(), "second!");
    children.borrow_mut().clear();
    assert_eq!(blocks_of_this_process(), held);
}

fn captured_views_stay_the_parents() {
    let _scene = Scene::new();
    let held = blocks_of_this_process();
    let pool = Pool::new(2).unwrap();
    let views = RefCell::new(Some(pool.map_views(|n: u64| vec![n; 100], [7, 8]).unwrap()));
    drop(pool);
    scene::eventually("one thread is left", || {
        std::fs::read_dir("/proc/self/task").unwrap().count() == 1
    });
    let with_views = blocks_of_this_process();
    let sum = || -> u64 {
        let views = views.borrow();
        views
            .as_ref()
            .unwrap()
            .iter()
            .map(|view| view.iter().map(|n| n.to_native()).sum::<u64>())
            .sum()
    };
    let fork = Process::fork(|| {
        let sum = sum();
        views.take();
        sum
    });
    assert_eq!(fork.unwrap().result().unwrap(), 1500);
    assert_eq!(
        blocks_of_this_process(),
        with_views,
        "the fork has freed its parent's results"
    );
    assert_eq!(sum(), 1500);
    views.take();
    assert_eq!(blocks_of_this_process(), held);
}

/// A closure that moves something in is dropped in both processes.
fn what_is_moved_into_a_fork_is_given_back_once() {
    let _scene = Scene::new();
    let held = blocks_of_this_process();
    for _ in 0..3 {
        let child = Process::spawn(|| "x".repeat(5000), ()).unwrap();
        child.join().unwrap();
        let fork = Process::fork(move || drop(child)).unwrap();
        // Where the child's result was.
        let others: Vec<_> = (0..8).map(|n| SharedSlice::from_slice(&[n; 5000]).unwrap()).collect();
        fork.result().unwrap();
        let again: Vec<_> = (8..16).map(|n| SharedSlice::from_slice(&[n; 5000]).unwrap()).collect();
        for (n, slice) in (0_u8..).zip(others.iter().chain(&again)) {
            assert!(slice.iter().all(|&element| element == n), "a block was given to two");
        }
    }
    assert_eq!(blocks_of_this_process(), held);
}

fn blocks_of_this_process() -> usize {
    let arena = family::arena().unwrap();
    arena.flush();
    arena
        .census()
        .owners
        .get(&family::me().unwrap())
        .map_or(0, |holding| holding.blocks)
}

fn a_captured_pool_says_whose_it_is() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(|n: u8| n, [1, 2]).unwrap(), [1, 2]);
    pool.close();
    pool.join().unwrap();
    let refused = Process::fork(|| {
        let refused = pool.map(|n: u8| n, [1, 2]).unwrap_err().to_string();
        pool.close();
        pool.terminate();
        (refused, pool.join().unwrap_err().to_string())
    });
    let (called, joined) = refused.unwrap().result().unwrap();
    assert!(called.contains("parent of this process"), "{called}");
    assert!(joined.contains("parent of this process"), "{joined}");
}

fn fork_is_refused_beside_threads() {
    let _scene = Scene::new();
    let pool = Pool::new(1).unwrap();
    let error = Process::fork(|| 1_u8).unwrap_err();
    assert!(
        error.to_string().contains('2'),
        "{error} should name 2 threads, this one and the pool's supervisor"
    );
    drop(pool);
    // The supervisor was joined as far as its work goes; its thread may need a moment to leave the process.
    scene::eventually("one thread is left", || {
        std::fs::read_dir("/proc/self/task").unwrap().count() == 1
    });
    assert_eq!(Process::fork(|| 1_u8).unwrap().result().unwrap(), 1);
}

fn settings_are_applied_in_the_fork() {
    let _scene = Scene::new();
    let builder = Process::builder()
        .name("fork")
        .env("OFFSPRING_FORKED", "yes")
        .current_dir("/")
        .nice(5);
    let process = builder.fork(|| {
        let directory = std::env::current_dir().unwrap().to_string_lossy().into_owned();
        (
            current().name().to_string(),
            std::env::var("OFFSPRING_FORKED").unwrap(),
            directory,
        )
    });
    assert_eq!(
        process.unwrap().result().unwrap(),
        ("fork".into(), "yes".into(), "/".into())
    );
    assert!(std::env::var("OFFSPRING_FORKED").is_err());
    let error = Process::builder().current_dir("/nowhere").fork(|| 1_u8).unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

fn a_fork_dies_with_its_parent() {
    let _scene = Scene::new();
    let pid = Shared::new(AtomicU32::new(0)).unwrap();
    let middle = Process::fork(|| {
        let sleeper = Process::fork(|| std::thread::sleep(std::time::Duration::from_secs(1000))).unwrap();
        pid.store(sleeper.pid(), Relaxed);
        sleeper.join().unwrap();
    })
    .unwrap();
    scene::eventually("the grandchild starts", || pid.load(Relaxed) != 0);
    middle.kill().unwrap();
    middle.join().unwrap();
    assert_gone(pid.load(Relaxed));
}

fn a_raw_fork_may_not_use_what_it_has_copies_of() {
    let _scene = Scene::new();
    let shared = Shared::new(AtomicU32::new(0)).unwrap();
    let pool = Pool::new(1).unwrap();
    // SAFETY: the pool's supervisor sleeps in the kernel and holds no lock; the child exits below.
    match unsafe { offspring_process::fork() }.unwrap() {
        Forked::Child => {
            let refused = |error: &str| error.contains("forked") || error.contains("parent of this process");
            let words = [
                Process::spawn(|| 1_u8, ()).unwrap_err().to_string(),
                Pool::new(1).map(drop).unwrap_err().to_string(),
                pool.map(|n: u8| n, [1]).unwrap_err().to_string(),
            ];
            let all = words.iter().all(|words| refused(words));
            drop((shared, pool));
            std::process::exit(if all { 0 } else { 1 });
        }
        Forked::Parent(child) => assert_eq!(child.wait().unwrap(), ExitStatus::Code(0)),
    }
    assert_eq!(pool.map(|n: u8| n + 1, [1, 2]).unwrap(), [2, 3]);
    assert_eq!(shared.load(Relaxed), 0);
}
