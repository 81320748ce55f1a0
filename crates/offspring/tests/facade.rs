//! A program that depends on the facade alone can do all that the crates below it can.
#![cfg(feature = "start-hook")]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use offspring::rkyv::{Archive, Archived, Deserialize, Serialize};
use offspring::{
    Error, ExitStatus, Launcher, MAX_WORKERS, Message, Pool, Process, Shared, SharedSlice, StartMethod, TaskFn,
    active_children, current, parent,
};
use offspring_testing::{LeakCheck, watchdog};

/// Derived through the facade: the program need not name rkyv among its own dependencies.
#[derive(Archive, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[rkyv(crate = offspring::rkyv)]
struct Job {
    name: String,
    sizes: Vec<u32>,
}

fn total(job: Job) -> u32 {
    job.sizes.iter().sum()
}

fn longest(job: &Archived<Job>) -> Option<u32> {
    job.sizes.iter().map(|size| size.to_native()).max()
}

fn jobs() -> Vec<Job> {
    (0..5)
        .map(|n| Job {
            name: format!("job {n}"),
            sizes: (0..n).collect(),
        })
        .collect()
}

/// Runs a test with nothing left behind. What is made once for the life of the process is made before.
fn alone(test: impl FnOnce()) {
    let _watchdog = watchdog(std::time::Duration::from_secs(60));
    offspring::shm::family::arena().unwrap();
    let leaks = LeakCheck::new();
    test();
    offspring::process::zygote::shutdown().unwrap();
    leaks.finish();
}

#[test]
fn a_pool_of_the_users_own_types() {
    alone(|| {
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.map(total, jobs()).unwrap(), [0, 0, 1, 3, 6]);
        assert_eq!(
            pool.map(longest, jobs()).unwrap(),
            [None, Some(0), Some(1), Some(2), Some(3)]
        );
        assert_eq!(pool.map(|job: Job| job, jobs()).unwrap(), jobs());
        let views = pool.map_views(|job: Job| job, jobs()).unwrap();
        assert_eq!(views[3].name.as_str(), "job 3");
    });
}

#[test]
fn a_process_with_settings_and_shared_values() {
    alone(|| {
        fn work(counter: Shared<AtomicU32>, numbers: SharedSlice<u32>) -> (String, u32, Option<u32>) {
            counter.fetch_add(numbers.iter().sum(), Relaxed);
            (
                current().name().to_string(),
                numbers.len() as u32,
                parent().map(|parent| parent.pid()),
            )
        }
        let counter = Shared::new(AtomicU32::new(1)).unwrap();
        let numbers = SharedSlice::from_slice(&[1, 2, 3]).unwrap();
        let builder = Process::builder().name("worker").start_method(StartMethod::Spawn);
        let process = builder.spawn(work, (counter.clone(), numbers.clone())).unwrap();
        assert_eq!(
            process.result().unwrap(),
            ("worker".to_string(), 3, Some(std::process::id()))
        );
        assert_eq!(process.exit_status().unwrap(), Some(ExitStatus::Code(0)));
        assert_eq!(counter.load(Relaxed), 7);
        assert!(active_children().is_empty());
        drop(numbers);
    });
}

#[test]
fn functions_over_functions() {
    alone(|| {
        /// What a library on top would write.
        fn map_twice<F, A, K>(pool: &Pool, function: fn() -> F, items: Vec<A>) -> Result<Vec<A>, Error>
        where
            F: TaskFn<A, A, K>,
            A: Message,
            K: 'static,
        {
            let once = pool.map(function(), items)?;
            pool.map(function(), once)
        }
        let mut launcher = Launcher::new();
        launcher.env("OFFSPRING_FACADE", "yes");
        let pool = Pool::builder().workers(2).launcher(launcher).build().unwrap();
        assert_eq!(map_twice(&pool, || |n: u32| n * 3, vec![1, 2]).unwrap(), [9, 18]);
        let variable = |_: u8| std::env::var("OFFSPRING_FACADE").unwrap();
        assert_eq!(pool.map(variable, [0]).unwrap(), ["yes"]);
        assert!(Pool::new(MAX_WORKERS + 1).is_err());
    });
}

mod below {
    //! Without a `use` of the facade's own names: each type has one name more, and is the same type.

    use offspring::{pool, process, queue, shm};

    pub(super) fn call(pool: &pool::Pool) -> pool::Error {
        pool.map(|_: u8| -> u8 { std::process::exit(4) }, [0]).unwrap_err()
    }

    pub(super) fn code(status: Option<&process::ExitStatus>) -> Option<i32> {
        status.and_then(process::ExitStatus::code)
    }

    pub(super) fn length<T: queue::Message + shm::ShmSafe>(slice: &shm::SharedSlice<T>) -> usize {
        slice.len()
    }
}

#[test]
fn the_crates_below_are_the_same_ones() {
    alone(|| {
        let pool = Pool::new(1).unwrap();
        let error: Error = below::call(&pool);
        assert_eq!(below::code(error.exit_status()), Some(4));
        assert_eq!(below::length(&SharedSlice::from_slice(&[1_u8, 2]).unwrap()), 2);
    });
}

/// Processes that are not of the family need the facade alone, too.
#[test]
fn a_connection_of_the_users_own_types() {
    alone(|| {
        let listener = offspring::Listener::builder().key(b"key").bind_temporary().unwrap();
        let address = listener.address().clone();
        let client = std::thread::spawn(move || {
            let mut connection = offspring::Client::new().key(b"key").connect(address).unwrap();
            connection.send(&jobs()).unwrap();
        });
        let mut connection: offspring::Connection = listener.accept().unwrap();
        assert_eq!(connection.recv::<Vec<Job>>().unwrap(), jobs());
        client.join().unwrap();
    });
}
