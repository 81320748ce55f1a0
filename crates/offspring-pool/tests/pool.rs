//! What a pool computes: every form of call, every shape of item and result, in order.
#![cfg(feature = "start-hook")]

mod scene;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use offspring_pool::{MAX_WORKERS, Pool};
use offspring_process::{Launcher, StartMethod};
use offspring_shm::{Shared, SharedSlice};
use scene::{Scene, eventually};

fn square(n: u64) -> u64 {
    n * n
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Debug, Clone, PartialEq)]
// A type that contains itself needs its bounds spelled out.
#[rkyv(serialize_bounds(__S: rkyv::ser::Writer + rkyv::ser::Allocator, __S::Error: rkyv::rancor::Source))]
#[rkyv(deserialize_bounds(__D::Error: rkyv::rancor::Source))]
#[rkyv(bytecheck(bounds(__C: rkyv::validation::ArchiveContext, __C::Error: rkyv::rancor::Source)))]
enum Shape {
    Point,
    Circle { radius: f64 },
    Polygon(Vec<(i32, i32)>),
    Named(String, #[rkyv(omit_bounds)] Box<Shape>),
}

impl Shape {
    fn some() -> Vec<Self> {
        let polygon = Self::Polygon(vec![(0, 0), (1, 0), (0, -1)]);
        let named = Self::Named("x".repeat(100), Box::new(Self::Circle { radius: 2.5 }));
        vec![Self::Point, polygon, named, Self::Circle { radius: f64::INFINITY }]
    }
}

#[test]
fn map_in_every_form() {
    let _scene = Scene::new();
    let pool = Pool::new(3).unwrap();
    let expected: Vec<u64> = (0..1000).map(square).collect();
    for chunk in [1, 2, 20, 999, 1000, 1001, usize::MAX] {
        assert_eq!(
            pool.chunk_size(chunk).map(square, 0..1000).unwrap(),
            expected,
            "chunks of {chunk}"
        );
    }
    assert_eq!(pool.map(square, 0..1000).unwrap(), expected);
    let all: Vec<u64> = pool
        .map_all(square, 0..1000)
        .unwrap()
        .into_iter()
        .map(|one| one.unwrap())
        .collect();
    assert_eq!(all, expected);
    let views = pool.map_views(square, 0..1000).unwrap();
    assert_eq!(views.len(), 1000);
    assert!(views.iter().map(|view| view.to_native()).eq(expected.iter().copied()));
    assert_eq!(views[31].to_native(), 961);
    assert_eq!(views.get(999).map(|view| view.to_native()), Some(998_001));
    assert!(views.get(1000).is_none());
    let pairs = (0..100_u64).map(|n| (n, n as u32 + 1));
    let products = pool
        .chunk_size(7)
        .starmap(|a: u64, b: u32| a * u64::from(b), pairs.clone())
        .unwrap();
    assert_eq!(products, pairs.map(|(a, b)| a * u64::from(b)).collect::<Vec<_>>());
}

#[test]
fn views_outlive_calls_and_the_pool() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let views: Vec<_> = (0..5_u8)
        .map(|k| pool.map_views(|k: u8| vec![k; 5000], [k, k + 100]).unwrap())
        .collect();
    for _ in 0..20 {
        pool.map(|n: u32| vec![n; 3000], 0..10).unwrap();
    }
    drop(pool);
    for (k, views) in (0_u8..).zip(views) {
        assert!(views[0].iter().all(|&n| n == k) && views[1].iter().all(|&n| n == k + 100));
        assert!(views.iter().rev().count() == 2 && !views.is_empty());
    }
}

#[test]
fn nothing_gives_nothing_at_once() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let none: [u64; 0] = [];
    for _ in 0..3 {
        assert!(pool.map(square, none).unwrap().is_empty());
        assert!(pool.chunk_size(50).map(square, none).unwrap().is_empty());
        assert!(pool.map_all(square, none).unwrap().is_empty());
        assert!(pool.map_views(square, none).unwrap().is_empty());
        assert!(pool.starmap(|a: u8, b: u8| a + b, []).unwrap().is_empty());
    }
}

#[test]
fn one_item_and_a_million() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.map(square, [12]).unwrap(), [144]);
    let results = pool.map(square, 0..1_000_000).unwrap();
    assert_eq!(results.len(), 1_000_000);
    assert!(results.into_iter().eq((0..1_000_000).map(square)));
    let ones = pool.chunk_size(1).map_all(square, 0..100_000).unwrap();
    assert!(ones.into_iter().map(Result::unwrap).eq((0..100_000).map(square)));
}

#[test]
fn results_come_in_the_order_of_items_whatever_the_tasks_take() {
    let _scene = Scene::new();
    let pool = Pool::new(4).unwrap();
    let uneven = |n: u64| {
        // The first items take longest.
        thread::sleep(Duration::from_micros((64 - n) * (64 - n)));
        n
    };
    for chunk in [1, 3] {
        assert_eq!(
            pool.chunk_size(chunk).map(uneven, 0..64).unwrap(),
            (0..64).collect::<Vec<_>>()
        );
    }
}

#[test]
fn items_and_results_without_size() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    for chunk in [1, 3, 100] {
        let calls = pool.chunk_size(chunk);
        assert_eq!(calls.map(|(): ()| (), vec![(); 100]).unwrap().len(), 100);
        assert_eq!(calls.map(|(): ()| 7_u8, vec![(); 100]).unwrap(), [7; 100]);
        assert_eq!(calls.map(|_: u8| (), vec![1; 100]).unwrap().len(), 100);
        assert_eq!(calls.map(|empty: [u8; 0]| empty, vec![[]; 100]).unwrap().len(), 100);
        assert_eq!(calls.map_views(|(): ()| (), vec![(); 100]).unwrap().len(), 100);
        let outcomes = calls
            .map_all(|(): ()| -> () { panic!("nothing to say") }, vec![(); 100])
            .unwrap();
        assert!(outcomes.len() == 100 && outcomes.iter().all(|outcome| outcome.as_ref().unwrap_err().is_panic()));
    }
    assert_eq!(pool.map(|(): ()| (), vec![(); 1_000_000]).unwrap().len(), 1_000_000);
}

#[test]
fn items_and_results_of_many_shapes() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    for chunk in [1, 2, 64] {
        let calls = pool.chunk_size(chunk);
        let words: Vec<String> = (0..50).map(|n| "ß".repeat(n)).collect();
        assert_eq!(calls.map(|word: String| word, words.clone()).unwrap(), words);
        let nested: Vec<Vec<String>> = (0..20).map(|n| words[..n].to_vec()).collect();
        assert_eq!(calls.map(|list: Vec<String>| list, nested.clone()).unwrap(), nested);
        let wide: Vec<u128> = (0..33).map(|n| u128::MAX / (n + 1)).collect();
        assert_eq!(calls.map(|n: u128| n, wide.clone()).unwrap(), wide);
        let halves = calls.map(|n: u8| (n, u128::from(n) << 100, n), 0..33).unwrap();
        assert!(
            halves
                .iter()
                .enumerate()
                .all(|(n, half)| *half == (n as u8, (n as u128) << 100, n as u8))
        );
        assert_eq!(calls.map(|shape: Shape| shape, Shape::some()).unwrap(), Shape::some());
        let odd = |n: i32| if n % 2 == 1 { Some(n) } else { None };
        assert_eq!(calls.map(odd, 0..5).unwrap(), [None, Some(1), None, Some(3), None]);
        let checked = |n: u32| 12_u32.checked_div(n).ok_or("zero".to_string());
        assert_eq!(calls.map(checked, [3, 0]).unwrap(), [Ok(4), Err("zero".to_string())]);
        assert_eq!(
            calls
                .map(|c: char| c.is_alphabetic(), ['a', '1', '\u{10FFFF}'])
                .unwrap(),
            [true, false, false]
        );
        assert_eq!(calls.map(|x: f64| x.sqrt(), [4.0, 0.0]).unwrap(), [2.0, 0.0]);
    }
}

#[test]
fn results_of_64_mib() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let views = pool.map_views(|byte: u8| vec![byte; 64 << 20], [1, 2]).unwrap();
    assert!(views.iter().all(|view| view.len() == 64 << 20));
    assert!(
        (1..3)
            .zip(views.iter())
            .all(|(byte, view)| view.iter().all(|&b| b == byte))
    );
    drop(views);
    // The items large, the results small; and results that make their region move while it grows.
    let lengths = pool
        .map(|bytes: Vec<u8>| bytes.len(), [vec![0; 32 << 20], vec![0; 1]])
        .unwrap();
    assert_eq!(lengths, [32 << 20, 1]);
    let growing = pool
        .chunk_size(64)
        .map(|n: u32| vec![n; n as usize * 300], 0..64)
        .unwrap();
    assert!(
        (0_u32..)
            .zip(&growing)
            .all(|(n, list)| list.len() == n as usize * 300 && list.iter().all(|&m| m == n))
    );
}

#[test]
fn an_iterator_that_panics_leaves_the_pool_usable() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    for (at, chunk) in [(0, 1), (3, 1), (3, 2), (7, 4)] {
        let items = (0..10_u64).map(|n| if n == at { panic!("item {n}") } else { n });
        let call = std::panic::AssertUnwindSafe(|| pool.chunk_size(chunk).map(square, items));
        let panic = std::panic::catch_unwind(call).unwrap_err();
        assert_eq!(
            panic.downcast_ref::<String>().unwrap(),
            &format!("item {at}"),
            "the iterator's own, unwrapped"
        );
        assert_eq!(pool.map(square, 0..4).unwrap(), [0, 1, 4, 9]);
    }
}

#[test]
fn an_iterator_may_use_the_pool() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let items = (0..5_u64).map(|n| pool.map(square, [n]).unwrap()[0]);
    assert_eq!(pool.map(square, items).unwrap(), [0, 1, 16, 81, 256]);
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let _scene = Scene::new();
    let words = |error: offspring_pool::Error| error.to_string();
    assert!(words(Pool::new(0).unwrap_err()).contains("0 workers"));
    let many = words(Pool::new(100_000).unwrap_err());
    assert!(
        many.contains("100000") && many.contains(&MAX_WORKERS.to_string()),
        "{many}"
    );
    assert!(Pool::new(MAX_WORKERS + 1).is_err() && Pool::new(usize::MAX).is_err());
    assert!(words(Pool::builder().max_tasks_per_worker(0).build().unwrap_err()).contains("0 tasks"));
    let pool = Pool::new(3).unwrap();
    assert_eq!((pool.workers(), pool.pids().len()), (3, 3));
    assert!(words(pool.chunk_size(0).map(square, [1]).unwrap_err()).contains("at least 1"));
}

#[test]
fn the_default_is_a_worker_for_each_processor() {
    let _scene = Scene::new();
    let pool = Pool::builder().build().unwrap();
    assert_eq!(pool.workers(), thread::available_parallelism().unwrap().get());
    let distinct: HashSet<u32> = pool.pids().into_iter().collect();
    assert_eq!(distinct.len(), pool.workers());
}

#[test]
fn every_worker_works() {
    let _scene = Scene::new();
    let pool = Pool::new(3).unwrap();
    // Nobody gets through before all have come.
    fn meet(arrived: Shared<AtomicU32>) -> u32 {
        arrived.fetch_add(1, Relaxed);
        while arrived.load(Relaxed) < 3 {
            thread::yield_now();
        }
        std::process::id()
    }
    let arrived = Shared::new(AtomicU32::new(0)).unwrap();
    let mut pids = pool.map(meet, vec![arrived.clone(); 3]).unwrap();
    assert_eq!(arrived.load(Relaxed), 3);
    pids.sort_unstable();
    let mut expected = pool.pids();
    expected.sort_unstable();
    assert_eq!(pids, expected);
}

#[test]
fn a_pool_of_two_hundred() {
    let _scene = Scene::new();
    let pool = Pool::new(200).unwrap();
    assert_eq!(
        pool.map(square, 0..1000).unwrap(),
        (0..1000).map(square).collect::<Vec<_>>()
    );
    assert_eq!(pool.pids().into_iter().collect::<HashSet<_>>().len(), 200);
}

#[test]
fn workers_are_replaced_after_their_share() {
    let _scene = Scene::new();
    let pool = Pool::builder().workers(2).max_tasks_per_worker(10).build().unwrap();
    let before: HashSet<u32> = pool.pids().into_iter().collect();
    let who = |n: u64| (n, std::process::id());
    let results = pool.chunk_size(1).map(who, 0..100).unwrap();
    assert!(results.iter().map(|(n, _)| *n).eq(0..100));
    let mut counts = std::collections::HashMap::new();
    results.iter().for_each(|(_, pid)| *counts.entry(pid).or_insert(0) += 1);
    assert!(counts.values().all(|&count| count <= 10), "{counts:?}");
    eventually("all workers are others", || {
        let pids = pool.pids();
        pids.len() == 2 && pids.iter().all(|pid| !before.contains(pid))
    });
    // One task each, closed at once.
    let pool = Pool::builder().workers(3).max_tasks_per_worker(1).build().unwrap();
    let pids: HashSet<u32> = pool
        .chunk_size(1)
        .map(|_: u8| std::process::id(), 0..30)
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(pids.len(), 30);
    pool.close();
    pool.join().unwrap();
}

#[test]
fn the_initializer_runs_once_in_each_worker() {
    let _scene = Scene::new();
    static READY: AtomicU32 = AtomicU32::new(0);
    fn prepare(count: Shared<AtomicU32>, words: String) {
        assert_eq!(words, "twelve words");
        count.fetch_add(1, Relaxed);
        READY.fetch_add(12, Relaxed);
    }
    let count = Shared::new(AtomicU32::new(0)).unwrap();
    for method in [StartMethod::Zygote, StartMethod::Spawn] {
        count.store(0, Relaxed);
        let builder = Pool::builder().workers(3).start(method);
        let pool = builder
            .initializer(prepare, (count.clone(), "twelve words".to_string()))
            .build()
            .unwrap();
        assert_eq!(pool.map(|_: u8| READY.load(Relaxed), 0..200).unwrap(), [12; 200]);
        eventually("all workers are ready", || count.load(Relaxed) == 3);
        drop(pool);
        assert_eq!(count.load(Relaxed), 3);
    }
    let replaced = Pool::builder().workers(1).max_tasks_per_worker(1);
    let pool = replaced
        .initializer(prepare, (count.clone(), "twelve words".to_string()))
        .build()
        .unwrap();
    assert_eq!(
        pool.chunk_size(1).map(|_: u8| READY.load(Relaxed), 0..10).unwrap(),
        [12; 10]
    );
    assert!(count.load(Relaxed) >= 13);
}

#[test]
fn an_idle_pool_wakes_up() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    for pause in [0, 1, 5, 50, 1100] {
        thread::sleep(Duration::from_millis(pause));
        assert_eq!(pool.map(square, [pause]).unwrap(), [pause * pause]);
    }
    // Many short calls: a wake-up that is lost once in a thousand times would cost a second here.
    for n in 0..3000 {
        assert_eq!(pool.map(square, [n, n + 1]).unwrap(), [n * n, (n + 1) * (n + 1)]);
    }
}

#[test]
fn eight_threads_share_one_pool() {
    let _scene = Scene::new();
    let pool = Pool::new(3).unwrap();
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..50 {
                    let start = thread * 1_000_000 + round * 1000;
                    let items = start..start + 1 + round * 7;
                    let results = pool
                        .chunk_size(round as usize % 5 + 1)
                        .map(square, items.clone())
                        .unwrap();
                    assert!(
                        results.into_iter().eq(items.map(square)),
                        "thread {thread}, round {round}"
                    );
                }
            });
        }
    });
}

#[test]
fn more_calls_at_once_than_there_are_places() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let gate = Shared::new(AtomicU32::new(0)).unwrap();
    fn wait(gate: Shared<AtomicU32>, n: u32) -> u32 {
        gate.fetch_add(1, Relaxed);
        while gate.load(Relaxed) < 1000 {
            thread::sleep(Duration::from_millis(1));
        }
        n
    }
    thread::scope(|scope| {
        for thread in 0..48 {
            let (pool, gate) = (&pool, gate.clone());
            scope.spawn(move || assert_eq!(pool.map(wait, [(gate, thread)]).unwrap(), [thread]));
        }
        eventually("both workers are held up", || gate.load(Relaxed) == 2);
        thread::sleep(Duration::from_millis(100));
        gate.store(1000, Relaxed);
    });
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
}

#[test]
fn long_calls_do_not_starve_short_ones() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let stop = Shared::new(AtomicU32::new(0)).unwrap();
    fn until(stop: Shared<AtomicU32>) {
        if stop.load(Relaxed) == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    thread::scope(|scope| {
        let long = scope.spawn(|| pool.chunk_size(1).map(until, vec![stop.clone(); 20_000]).unwrap().len());
        for n in 0..20 {
            // Ends long before 20 000 tasks of 2 ms do, or the watchdog barks.
            assert_eq!(pool.map(square, [n]).unwrap(), [n * n]);
        }
        assert!(!long.is_finished());
        stop.store(1, Relaxed);
        assert_eq!(long.join().unwrap(), 20_000);
    });
}

#[test]
fn workers_have_the_launchers_settings() {
    let _scene = Scene::new();
    let mut launcher = Launcher::new();
    launcher.env("OFFSPRING_WORKER", "yes").current_dir("/").nice(3);
    let pool = Pool::builder().workers(2).launcher(launcher).build().unwrap();
    let look = |_: u8| {
        let directory = std::env::current_dir().unwrap().to_string_lossy().into_owned();
        (
            std::env::var("OFFSPRING_WORKER").unwrap_or_default(),
            directory,
            offspring_pool::current().name().to_string(),
        )
    };
    for (variable, directory, name) in pool.map(look, 0..20).unwrap() {
        assert_eq!((variable.as_str(), directory.as_str()), ("yes", "/"));
        assert!(name.starts_with("PoolWorker-"), "{name}");
    }
    assert!(std::env::var_os("OFFSPRING_WORKER").is_none());
    let mut launcher = Launcher::new();
    launcher.current_dir("/nowhere");
    let error = Pool::builder().workers(2).launcher(launcher).build().unwrap_err();
    assert!(
        error.to_string().contains("worker 1 of 2") && error.to_string().contains("/nowhere"),
        "{error}"
    );
}

#[test]
fn shared_memory_is_the_same_for_all() {
    let _scene = Scene::new();
    let pool = Pool::new(3).unwrap();
    let counters = SharedSlice::from_fn(8, |_| AtomicU32::new(0)).unwrap();
    fn count(counters: SharedSlice<AtomicU32>, n: u32) {
        counters[n as usize % 8].fetch_add(1, Relaxed);
    }
    let items: Vec<_> = (0..8000).map(|n| (counters.clone(), n)).collect();
    pool.map(count, items).unwrap();
    assert!(
        counters.iter().all(|counter| counter.load(Relaxed) == 1000),
        "{counters:?}"
    );
}
