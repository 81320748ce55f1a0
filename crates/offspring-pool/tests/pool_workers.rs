//! Workers that are killed, stopped, robbed of their descriptors or never ready: the pool goes on as long as it can.
//
// UNSAFETY: tasks kill themselves and saw at what they sit on.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "tasks that crash, close descriptors and unmap memory")]

mod deaths;
mod scene;

use std::process::id;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use deaths::{End, die, kill};
use offspring_pool::{Pool, Process};
use offspring_shm::{Shared, SharedSlice};
use scene::{Scene, assert_gone, eventually};

type Flags = SharedSlice<AtomicU32>;

fn flags(count: usize) -> Flags {
    SharedSlice::from_fn(count, |_| AtomicU32::new(0)).unwrap()
}

fn double(n: u64) -> u64 {
    n * 2
}

#[test]
fn an_idle_worker_that_is_killed_is_replaced() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV] {
        assert_eq!(pool.map(double, [1]).unwrap(), [2]);
        let old = pool.pids();
        kill(old[0], signal);
        assert_gone(old[0]);
        // Both at the next call, dead or not yet replaced.
        assert_eq!(
            pool.map(double, 0..100).unwrap(),
            (0..100).map(double).collect::<Vec<_>>()
        );
        eventually("it is replaced", || {
            pool.pids().len() == 2 && !pool.pids().contains(&old[0])
        });
        assert!(pool.pids().contains(&old[1]));
    }
    pool.pids().iter().for_each(|&pid| kill(pid, libc::SIGKILL));
    assert_eq!(pool.map(double, 0..100).unwrap().len(), 100);
    // Ctrl-C is the root's affair.
    let pids = pool.pids();
    pids.iter().for_each(|&pid| kill(pid, libc::SIGINT));
    assert_eq!(pool.map(double, 0..100).unwrap().len(), 100);
    assert_eq!(pool.pids(), pids);
}

#[test]
fn a_worker_that_closes_every_descriptor() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    fn close_all(n: u64) -> u64 {
        // SAFETY: closes what others in this process own, which is what is tested.
        unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
        n * 2
    }
    for _ in 0..3 {
        assert_eq!(
            pool.map(close_all, 0..20).unwrap(),
            (0..20).map(double).collect::<Vec<_>>()
        );
    }
    // Where the arena's descriptor was there is another file now: it must not be taken for the arena.
    fn reopen(n: u64) -> u64 {
        let path = std::env::temp_dir().join(format!("offspring-{}-{n}", id()));
        let files: Vec<_> = (0..20).map(|_| std::fs::File::create(&path).unwrap()).collect();
        let before = std::fs::metadata(&path).unwrap().len();
        let large = vec![n as u8; 40 << 20];
        std::fs::remove_file(&path).unwrap();
        assert_eq!(before, 0);
        let longest = files.iter().map(|file| file.metadata().unwrap().len()).max().unwrap();
        large.len() as u64 + longest
    }
    let lengths = pool.map(reopen, 0..4).unwrap();
    assert!(lengths.iter().all(|&length| length == 40 << 20), "{lengths:?}");
    // Results beyond what the arena has taken from the system so far: right, or an error in words, and no file is hurt.
    fn grow(n: u64) -> Vec<u8> {
        close_all(n);
        let path = std::env::temp_dir().join(format!("offspring-{}-{n}", id()));
        let file = std::fs::File::create(&path).unwrap();
        let others: Vec<_> = (0..20).map(|_| file.try_clone().unwrap()).collect();
        std::fs::remove_file(&path).unwrap();
        // The owners of these numbers are not asked any more.
        std::mem::forget((file, others));
        vec![n as u8; 96 << 20]
    }
    for outcome in pool.chunk_size(1).map_all(grow, 0..2).unwrap() {
        match outcome {
            Ok(bytes) => assert_eq!(bytes.len(), 96 << 20),
            Err(error) => assert!(error.is_out_of_memory(), "{error}"),
        }
    }
}

#[test]
fn a_worker_that_is_stopped_holds_up_nobody_else() {
    let _scene = Scene::new();
    let pool = Pool::new(3).unwrap();
    assert_eq!(pool.map(double, 0..100).unwrap().len(), 100);
    let stopped = pool.pids()[1];
    kill(stopped, libc::SIGSTOP);
    for _ in 0..20 {
        assert_eq!(pool.chunk_size(1).map(double, 0..100).unwrap().len(), 100);
    }
    kill(stopped, libc::SIGCONT);
    assert_eq!(pool.map(double, 0..100).unwrap().len(), 100);

    // All of them, one in a task: the pool ends all the same.
    let started = flags(1);
    fn hang(started: Flags) {
        started[0].store(id(), Relaxed);
        thread::sleep(Duration::from_secs(1000));
    }
    let pids = pool.pids();
    thread::scope(|scope| {
        let call = scope.spawn(|| pool.map(hang, [started.clone()]));
        eventually("the task runs", || started[0].load(Relaxed) != 0);
        pids.iter().for_each(|&pid| kill(pid, libc::SIGSTOP));
        pool.terminate();
        let error = call.join().unwrap().unwrap_err();
        assert!(error.is_closed(), "{error}");
    });
    pool.join().unwrap();
    pids.into_iter().for_each(assert_gone);
}

#[test]
fn calls_of_many_threads_while_workers_die() {
    let _scene = Scene::new();
    let pool = Pool::builder().workers(3).retries(1000).build().unwrap();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..100 {
                        let items = thread * 1000..thread * 1000 + round;
                        let results = pool.chunk_size(3).map(double, items.clone()).unwrap();
                        assert!(results.into_iter().eq(items.map(double)));
                    }
                })
            })
            .collect();
        while !threads.iter().all(|thread| thread.is_finished()) {
            if let Some(&pid) = pool.pids().first() {
                kill(pid, libc::SIGKILL);
            }
            thread::sleep(Duration::from_millis(3));
        }
    });
    assert_eq!(pool.map(double, 0..4).unwrap(), [0, 2, 4, 6]);
}

#[test]
fn a_task_may_fork_its_worker() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    fn fork(n: u64) -> u64 {
        let numbers = vec![n; 1000];
        let process = Process::fork(|| numbers.iter().sum::<u64>()).unwrap();
        process.result().unwrap() / 500
    }
    let doubled: Vec<_> = (0..30).map(double).collect();
    assert_eq!(pool.chunk_size(7).map(fork, 0..30).unwrap(), doubled);
    fn fork_that_ends(n: u64) -> String {
        let process: Process<u8> = Process::fork(|| {
            if n == 0 {
                std::process::exit(3)
            } else {
                die(End::Kill) as u8
            }
        })
        .unwrap();
        process.result().unwrap_err().to_string()
    }
    let ends = pool.chunk_size(2).map(fork_that_ends, [0, 1]).unwrap();
    assert!(
        ends[0].contains("exited with code 3") && ends[1].contains("SIGKILL"),
        "{ends:?}"
    );
}

#[test]
fn a_task_may_fork_behind_our_back() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    fn fork(n: u64) -> u64 {
        // SAFETY: the child exits at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no pointers.
            unsafe { libc::_exit(7) }
        }
        let mut status = 0;
        // SAFETY: `status` is valid for the length of the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), 7);
        n * 2
    }
    assert_eq!(
        pool.chunk_size(1).map(fork, 0..50).unwrap(),
        (0..50).map(double).collect::<Vec<_>>()
    );
}

/// Runs once in each worker: dies the first `times` times.
fn stumble(count: Shared<AtomicU32>, times: u32, end: End) {
    if count.fetch_add(1, Relaxed) < times {
        die(end);
    }
}

#[test]
fn an_initializer_that_dies_now_and_then_is_run_again() {
    let _scene = Scene::new();
    for end in [End::Kill, End::Exit(0), End::Overflow] {
        let count = Shared::new(AtomicU32::new(0)).unwrap();
        let pool = Pool::builder()
            .workers(2)
            .initializer(stumble, (count.clone(), 3, end))
            .build()
            .unwrap();
        assert_eq!(pool.map(double, 0..100).unwrap().len(), 100);
        eventually("both workers are ready", || count.load(Relaxed) == 5);
    }
}

#[test]
fn a_pool_whose_workers_cannot_start_gives_up() {
    let _scene = Scene::new();
    for (end, words) in [
        (End::Kill, "SIGKILL"),
        (End::Exit(0), "exited with code 0"),
        (End::Abort, "SIGABRT"),
    ] {
        let count = Shared::new(AtomicU32::new(0)).unwrap();
        let pool = Pool::builder()
            .workers(2)
            .initializer(stumble, (count.clone(), u32::MAX, end))
            .build()
            .unwrap();
        let error = pool.map(double, 0..100).unwrap_err();
        assert!(error.is_broken() && !error.is_closed(), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(pool.map_all(double, 0..100).unwrap_err().is_broken());
        assert!(pool.join().unwrap_err().is_broken());
        let starts = count.load(Relaxed);
        assert!(starts < 30, "{starts} starts, and none did any good");
    }
    fn panics(words: String) {
        panic!("initializer: {words}")
    }
    let pool = Pool::builder()
        .workers(3)
        .initializer(panics, "no database".to_string())
        .build()
        .unwrap();
    let error = pool.map(double, 0..100).unwrap_err();
    assert!(
        error.is_broken() && error.to_string().contains("no database"),
        "{error}"
    );
    pool.close();
    pool.terminate();
    assert!(pool.join().unwrap_err().is_broken());
}

#[test]
fn a_pool_with_a_worker_left_does_not_give_up() {
    let _scene = Scene::new();
    // One worker starts; the others die at once, for longer than a pool without any would bear.
    let count = Shared::new(AtomicU32::new(0)).unwrap();
    fn only_the_first(count: Shared<AtomicU32>) {
        if (1..15).contains(&count.fetch_add(1, Relaxed)) {
            std::process::exit(1);
        }
    }
    let pool = Pool::builder()
        .workers(2)
        .initializer(only_the_first, count.clone())
        .build()
        .unwrap();
    while count.load(Relaxed) < 16 {
        assert_eq!(pool.map(double, 0..10).unwrap().len(), 10);
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(pool.pids().len(), 2);
}
