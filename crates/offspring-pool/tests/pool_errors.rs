//! Tasks that fail and workers that die, in every way: exactly the guilty item pays.
#![cfg(feature = "start-hook")]

mod deaths;
mod scene;

use std::panic::panic_any;
use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use deaths::{End, die, kill};
use offspring_pool::{Error, Pool};
use offspring_process::ExitStatus;
use offspring_shm::SharedSlice;
use scene::{Scene, eventually};

type Flags = SharedSlice<AtomicU32>;

fn flags(count: usize) -> Flags {
    SharedSlice::from_fn(count, |_| AtomicU32::new(0)).unwrap()
}

fn double(n: u64) -> u64 {
    n * 2
}

const ENDS: [(End, Option<i32>, &str); 9] = [
    (End::Exit(3), None, "exited with code 3"),
    (End::ExitAtOnce, None, "exited with code 0"),
    (End::ExitInThread, None, "exited with code 4"),
    (End::Abort, Some(libc::SIGABRT), "killed by SIGABRT"),
    (End::Kill, Some(libc::SIGKILL), "killed by SIGKILL"),
    (End::Terminate, Some(libc::SIGTERM), "killed by SIGTERM"),
    (End::Fault, Some(libc::SIGSEGV), "killed by SIGSEGV"),
    (End::Overflow, None, "killed by SIG"),
    (End::UnmapArena, None, "killed by SIG"),
];

fn die_at(guilty: u64, n: u64, end: End) -> u64 {
    if n == guilty { die(end) } else { n * 2 }
}

fn check_death(error: &Error, item: usize, signal: Option<i32>, words: &str) {
    assert!(
        error.is_worker_death() && !error.is_panic() && !error.is_closed() && !error.is_broken(),
        "{error}"
    );
    assert_eq!(error.item(), Some(item), "{error}");
    let text = error.to_string();
    assert!(text.contains(words), "{text}");
    assert!(text.contains(&format!("process {}", error.pid().unwrap())), "{text}");
    assert!(text.contains(&format!("item {item}")), "{text}");
    if signal.is_some() {
        assert_eq!(error.exit_status().and_then(ExitStatus::signal), signal);
    }
}

#[test]
fn every_death_fails_its_item_alone() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    for (end, signal, words) in ENDS {
        for (chunk, guilty) in [(1, 7), (3, 6), (16, 20), (16, 31), (40, 39), (40, 0)] {
            let items: Vec<_> = (0..40).map(|n| (guilty, n, end)).collect();
            let outcomes = pool.chunk_size(chunk).map_all(die_at, items).unwrap();
            assert_eq!(outcomes.len(), 40);
            for (n, outcome) in outcomes.iter().enumerate() {
                match outcome {
                    Ok(result) => assert_eq!(*result, n as u64 * 2, "{end:?}"),
                    Err(error) => {
                        assert_eq!(n as u64, guilty, "{end:?}, chunks of {chunk}: {error}");
                        check_death(error, n, signal, words);
                    }
                }
            }
            assert!(outcomes[guilty as usize].is_err(), "{end:?}, chunks of {chunk}");
        }
    }
    eventually("both workers are there again", || pool.pids().len() == 2);
    assert_eq!(pool.map(double, 0..4).unwrap(), [0, 2, 4, 6]);
}

#[test]
fn the_first_death_ends_a_map() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    for (end, signal, words) in ENDS {
        for chunk in [1, 5] {
            let error = pool
                .chunk_size(chunk)
                .map(die_at, (0..20).map(|n| (11, n, end)))
                .unwrap_err();
            check_death(&error, 11, signal, words);
            let error = pool
                .chunk_size(chunk)
                .map_views(die_at, (0..20).map(|n| (3, n, end)))
                .unwrap_err();
            check_death(&error, 3, signal, words);
        }
    }
    assert_eq!(pool.map(double, 0..4).unwrap(), [0, 2, 4, 6]);
}

#[test]
fn all_items_may_be_deadly() {
    let _scene = Scene::new();
    let pool = Pool::new(3).unwrap();
    for chunk in [1, 4, 30] {
        let outcomes = pool.chunk_size(chunk).map_all(die, vec![End::Kill; 30]).unwrap();
        assert_eq!(outcomes.len(), 30);
        for (item, outcome) in outcomes.iter().enumerate() {
            check_death(outcome.as_ref().unwrap_err(), item, Some(libc::SIGKILL), "SIGKILL");
        }
    }
    assert_eq!(pool.map(double, 0..4).unwrap(), [0, 2, 4, 6]);
}

#[test]
fn a_panic_fails_its_item_and_the_worker_lives_on() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let mut before = pool.pids();
    let fussy = |n: u32| if n % 10 == 7 { panic!("not {n}") } else { n };
    for chunk in [1, 3, 100] {
        let outcomes = pool.chunk_size(chunk).map_all(fussy, 0..100).unwrap();
        for (n, outcome) in (0..).zip(outcomes) {
            match outcome {
                Ok(result) => assert_eq!(result, n),
                Err(error) => {
                    assert_eq!(error.item(), Some(n as usize));
                    let panic = error.panic().unwrap();
                    assert_eq!(panic.message(), format!("not {n}"));
                    assert!(panic.location().contains("pool_errors.rs"), "{}", panic.location());
                    assert!(error.pid().is_none() && error.exit_status().is_none());
                    assert_eq!(n % 10, 7);
                }
            }
        }
        let error = pool.chunk_size(chunk).map(fussy, 0..10).unwrap_err();
        assert_eq!((error.item(), error.is_panic()), (Some(7), true));
    }
    let mut after = pool.pids();
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(after, before);
}

#[test]
fn panics_of_any_kind_and_size() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let message = |outcomes: Vec<offspring_pool::Result<u8>>| {
        outcomes[0].as_ref().unwrap_err().panic().unwrap().message().to_string()
    };
    assert_eq!(
        message(pool.map_all(|_: u8| -> u8 { panic_any(5_u64) }, [1]).unwrap()),
        "a value that is not text"
    );
    assert_eq!(
        message(pool.map_all(|_: u8| -> u8 { panic!() }, [1]).unwrap()),
        "explicit panic"
    );
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload's destructor");
        }
    }
    assert_eq!(
        message(pool.map_all(|_: u8| -> u8 { panic_any(Bomb) }, [1]).unwrap()),
        "a value that is not text"
    );
    // A message of a MiB in each of many tasks neither blocks nor gets lost.
    let long = pool
        .map_all(|n: u32| -> u8 { panic!("{n} {}", "x".repeat(1 << 20)) }, 0..20)
        .unwrap();
    for (n, outcome) in long.iter().enumerate() {
        let error = outcome.as_ref().unwrap_err();
        assert!(error.panic().unwrap().message().starts_with(&format!("{n} xxx")));
        assert_eq!(error.item(), Some(n));
    }
    let nested = |n: u8| {
        thread::spawn(move || if n == 1 { panic!("in a thread") } else { n })
            .join()
            .unwrap()
    };
    assert!(
        pool.map_all(nested, [0, 1]).unwrap()[1]
            .as_ref()
            .unwrap_err()
            .is_panic()
    );
}

#[test]
fn panics_and_deaths_in_one_chunk() {
    let _scene = Scene::new();
    let pool = Pool::new(1).unwrap();
    fn mixed(n: u64) -> String {
        match n % 5 {
            1 => panic!("panic {n}"),
            3 => std::process::exit(n as i32),
            _ => "ok".repeat(n as usize),
        }
    }
    for chunk in [1, 4, 7, 50] {
        let outcomes = pool.chunk_size(chunk).map_all(mixed, 0..50).unwrap();
        assert_eq!(outcomes.len(), 50);
        for (n, outcome) in outcomes.into_iter().enumerate() {
            match n % 5 {
                1 => assert_eq!(outcome.unwrap_err().panic().unwrap().message(), format!("panic {n}")),
                3 => check_death(&outcome.unwrap_err(), n, None, &format!("exited with code {n}")),
                _ => assert_eq!(outcome.unwrap(), "ok".repeat(n)),
            }
        }
    }
}

#[test]
fn results_beside_long_panics_survive_a_death() {
    let _scene = Scene::new();
    let pool = Pool::new(1).unwrap();
    /// The reports of the panics make the results move to another block, again and again.
    fn number(n: u64) -> u64 {
        match n {
            90 => std::process::exit(1),
            n if n % 4 == 1 => panic!("{}", "x".repeat(100 * n as usize)),
            n => n * 3,
        }
    }
    fn word(n: u64) -> String {
        number(n).to_string()
    }
    let check = |n: usize, result: Result<u64, Error>| match n {
        90 => check_death(&result.unwrap_err(), 90, None, "exited with code 1"),
        n if n % 4 == 1 => assert_eq!(result.unwrap_err().panic().unwrap().message().len(), n * 100),
        n => assert_eq!(result.unwrap(), n as u64 * 3),
    };
    for chunk in [1, 10, 91, 100] {
        let outcomes = pool.chunk_size(chunk).map_all(number, 0..100).unwrap();
        outcomes
            .into_iter()
            .enumerate()
            .for_each(|(n, outcome)| check(n, outcome));
        let outcomes = pool.chunk_size(chunk).map_all(word, 0..100).unwrap();
        let outcomes = outcomes
            .into_iter()
            .map(|outcome| outcome.map(|word| word.parse().unwrap()));
        outcomes.enumerate().for_each(|(n, outcome)| check(n, outcome));
    }
}

/// Notes that it was begun, and dies as often as it is told to.
fn die_so_often(begun: Flags, item: u32, times: u32) -> u32 {
    if begun[item as usize].fetch_add(1, Relaxed) < times {
        kill(id(), libc::SIGKILL);
    }
    item
}

#[test]
fn an_item_is_tried_again_as_often_as_allowed() {
    let _scene = Scene::new();
    for (retries, times, survives) in [(0, 1, false), (1, 1, true), (3, 3, true), (2, 3, false)] {
        let pool = Pool::builder().workers(2).retries(retries).build().unwrap();
        for chunk in [1, 6, 20] {
            let begun = flags(20);
            let items: Vec<_> = (0..20)
                .map(|n| (begun.clone(), n, if n == 9 { times } else { 0 }))
                .collect();
            let outcomes = pool.chunk_size(chunk).map_all(die_so_often, items.clone()).unwrap();
            for (n, outcome) in outcomes.iter().enumerate() {
                let count = begun[n].load(Relaxed);
                if n != 9 {
                    assert_eq!((outcome.as_ref().ok(), count), (Some(&(n as u32)), 1));
                } else {
                    assert_eq!(outcome.is_ok(), survives);
                    assert_eq!(count, times.min(retries) + 1, "{retries} retries");
                }
            }
            begun.iter().for_each(|count| count.store(0, Relaxed));
            assert_eq!(pool.chunk_size(chunk).map(die_so_often, items).is_ok(), survives);
            assert_eq!(begun[9].load(Relaxed), times.min(retries) + 1);
        }
    }
}

#[test]
fn a_failed_map_does_not_wait_for_long_tasks() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let started = flags(1);
    fn task(started: Flags, n: u32) {
        if n == 0 {
            started[0].store(1, Relaxed);
            thread::sleep(Duration::from_secs(1000));
        }
        while started[0].load(Relaxed) == 0 {
            thread::yield_now();
        }
        panic!("at once");
    }
    let error = pool
        .chunk_size(1)
        .map(task, (0..2).map(|n| (started.clone(), n)))
        .unwrap_err();
    assert_eq!((error.item(), error.is_panic()), (Some(1), true));
    // One worker still sleeps in the call that has failed; the other one works.
    for _ in 0..10 {
        assert_eq!(pool.map(double, 0..50).unwrap().len(), 50);
    }
    pool.close();
    pool.join().unwrap();
}

#[test]
fn tasks_that_were_not_begun_when_a_map_failed_are_not_run() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let begun = flags(2000);
    fn task(begun: Flags, n: u32) {
        begun[n as usize].store(1, Relaxed);
        if n == 0 {
            // The other worker is in the middle of its chunk.
            while begun[1000..].iter().all(|flag| flag.load(Relaxed) == 0) {
                thread::yield_now();
            }
            panic!("the first");
        }
        thread::sleep(Duration::from_millis(1));
    }
    let items = (0..2000).map(|n| (begun.clone(), n));
    let error = pool.chunk_size(1000).map(task, items).unwrap_err();
    assert_eq!(error.item(), Some(0));
    drop(pool);
    let count = begun.iter().filter(|flag| flag.load(Relaxed) == 1).count();
    assert!(
        count < 1000,
        "{count} tasks of 2000 were begun, most of them after the call had failed"
    );
}

#[test]
fn a_retired_worker_that_dies_takes_nothing_with_it() {
    let _scene = Scene::new();
    let pool = Pool::builder()
        .workers(2)
        .max_tasks_per_worker(3)
        .retries(1)
        .build()
        .unwrap();
    let begun = flags(60);
    let items: Vec<_> = (0..60).map(|n| (begun.clone(), n, u32::from(n % 7 == 0))).collect();
    for chunk in [1, 2, 5] {
        begun.iter().for_each(|count| count.store(0, Relaxed));
        assert!(
            pool.chunk_size(chunk)
                .map(die_so_often, items.clone())
                .unwrap()
                .into_iter()
                .eq(0..60)
        );
    }
}
