//! Values that all processes see, as arguments, in results, and across deaths.
//
// UNSAFETY: a type that vouches for itself.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "unsafe impl ShmSafe, kill")]

mod scene;

use std::sync::atomic::{AtomicI16, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use offspring_pool::{Pool, Process};
use offspring_shm::{Shared, SharedSlice, ShmSafe};
use scene::{Scene, eventually};

#[repr(C)]
struct Account {
    number: u64,
    cents: AtomicI64,
    flags: [AtomicU8; 3],
}

// SAFETY: numbers, of which the atomics alone change.
unsafe impl ShmSafe for Account {}

#[test]
fn a_childs_write_is_seen() {
    let _scene = Scene::new();
    let small = Shared::new(AtomicI16::new(-7)).unwrap();
    let large = Shared::new(AtomicI64::new(1 << 40)).unwrap();
    let float = Shared::new(AtomicU64::new(2.5_f64.to_bits())).unwrap();
    fn change(small: Shared<AtomicI16>, large: Shared<AtomicI64>, float: Shared<AtomicU64>) -> (i16, i64, f64) {
        let seen = (
            small.load(Relaxed),
            large.load(Relaxed),
            f64::from_bits(float.load(Relaxed)),
        );
        small.store(-1, Relaxed);
        large.store(-2, Relaxed);
        float.store((-3.5_f64).to_bits(), Relaxed);
        seen
    }
    let process = Process::spawn(change, (small.clone(), large.clone(), float.clone())).unwrap();
    assert_eq!(process.result().unwrap(), (-7, 1 << 40, 2.5));
    assert_eq!((small.load(Relaxed), large.load(Relaxed)), (-1, -2));
    assert_eq!(f64::from_bits(float.load(Relaxed)), -3.5);
}

#[test]
fn slices_are_read_and_summed_by_a_child() {
    let _scene = Scene::new();
    let numbers: SharedSlice<AtomicU64> = SharedSlice::from_fn(1000, |n| AtomicU64::new(n as u64)).unwrap();
    fn prefix_sums(numbers: SharedSlice<AtomicU64>) -> u64 {
        for at in 1..numbers.len() {
            numbers[at].fetch_add(numbers[at - 1].load(Relaxed), Relaxed);
        }
        numbers[3..6].iter().map(|number| number.load(Relaxed)).sum()
    }
    assert_eq!(
        Process::spawn(prefix_sums, numbers.clone()).unwrap().result().unwrap(),
        6 + 10 + 15
    );
    assert!(
        numbers
            .iter()
            .enumerate()
            .all(|(n, sum)| sum.load(Relaxed) == (n * (n + 1) / 2) as u64)
    );
}

#[test]
fn zeroed_is_zero_over_recycled_memory() {
    let _scene = Scene::new();
    for len in [1, 100, 5000, 1 << 20] {
        for _ in 0..3 {
            let dirty = SharedSlice::from_slice(&vec![0xFF_u8; len]).unwrap();
            drop(dirty);
            let clean = SharedSlice::<u8>::zeroed(len).unwrap();
            assert!(clean.iter().all(|&byte| byte == 0), "{len}");
        }
    }
}

#[test]
fn structs_and_texts() {
    let _scene = Scene::new();
    let account = |n: usize| Account {
        number: n as u64,
        cents: AtomicI64::new(100),
        flags: [const { AtomicU8::new(0) }; 3],
    };
    let accounts = SharedSlice::from_fn(10, account).unwrap();
    let text = SharedSlice::from_slice("grüße".as_bytes()).unwrap();
    fn double(accounts: SharedSlice<Account>, text: SharedSlice<u8>) -> String {
        for account in &accounts {
            account.cents.fetch_add(account.number as i64, Relaxed);
            account.flags[2].store(1, Relaxed);
        }
        String::from_utf8(text.to_vec()).unwrap().repeat(2)
    }
    let pool = Pool::new(2).unwrap();
    let copies = pool.map(double, vec![(accounts.clone(), text.clone()); 5]).unwrap();
    assert_eq!(copies, vec!["grüßegrüße"; 5]);
    assert!(
        accounts
            .iter()
            .all(|account| account.cents.load(Relaxed) == 100 + 5 * account.number as i64)
    );
    assert!(
        accounts
            .iter()
            .all(|account| account.flags[2].load(Relaxed) == 1 && account.flags[0].load(Relaxed) == 0)
    );
    assert_eq!(&*text, "grüße".as_bytes());
}

#[test]
fn additions_are_not_lost() {
    let _scene = Scene::new();
    let counter = Shared::new(AtomicU64::new(0)).unwrap();
    fn count(counter: Shared<AtomicU64>) {
        for _ in 0..50_000 {
            counter.fetch_add(1, Relaxed);
        }
    }
    let processes = [(); 2].map(|()| Process::spawn(count, counter.clone()).unwrap());
    processes.iter().for_each(|process| process.result().unwrap());
    assert_eq!(counter.load(Relaxed), 100_000);
}

#[test]
fn handles_lie_anywhere_in_a_message() {
    let _scene = Scene::new();
    #[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, Clone)]
    struct Job {
        name: String,
        input: SharedSlice<u32>,
        outputs: Vec<Option<Shared<AtomicU32>>>,
    }
    fn work(job: Job) -> String {
        let sum = job.input.iter().sum();
        job.outputs
            .iter()
            .flatten()
            .for_each(|output| output.store(sum, Relaxed));
        job.name
    }
    let outputs: Vec<_> = (0..4)
        .map(|n| (n != 2).then(|| Shared::new(AtomicU32::new(0)).unwrap()))
        .collect();
    let input = SharedSlice::from_slice(&[1, 2, 3]).unwrap();
    let job = Job {
        name: "job".into(),
        input,
        outputs,
    };
    assert_eq!(Process::spawn(work, job.clone()).unwrap().result().unwrap(), "job");
    assert!(job.outputs.iter().flatten().all(|output| output.load(Relaxed) == 6));
}

#[test]
fn a_handle_passes_through_generations() {
    let _scene = Scene::new();
    fn hand_on(word: Shared<AtomicU32>, generations: u32) -> u32 {
        word.fetch_add(1, Relaxed);
        if generations > 0 {
            let pool = Pool::new(1).unwrap();
            let seen = pool.map(hand_on, [(word.clone(), generations - 1)]).unwrap()[0];
            assert_eq!(seen, word.load(Relaxed));
            return seen;
        }
        word.load(Relaxed)
    }
    let word = Shared::new(AtomicU32::new(0)).unwrap();
    assert_eq!(Process::spawn(hand_on, (word.clone(), 3)).unwrap().result().unwrap(), 4);
    assert_eq!(word.load(Relaxed), 4);
}

#[test]
fn a_value_whose_last_holder_has_gone_is_an_error_in_words() {
    let _scene = Scene::new();
    // The child drops what it made before anybody has taken the handle.
    let process = Process::spawn(|| Shared::new(AtomicU32::new(5)).unwrap(), ()).unwrap();
    let error = process.result().map(drop).unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
    let pool = Pool::new(1).unwrap();
    let outcomes = pool
        .map_all(|n: u32| SharedSlice::from_slice(&[n]).unwrap(), [1, 2])
        .unwrap();
    for outcome in outcomes {
        let error = outcome.map(drop).unwrap_err();
        assert!(error.to_string().contains("is gone"), "{error}");
    }
    // What a worker keeps lasts as long as the worker.
    fn keep(n: u32) -> SharedSlice<u32> {
        let slice = SharedSlice::from_slice(&[n, n]).unwrap();
        std::mem::forget(slice.clone());
        slice
    }
    let kept = pool.map(keep, [3, 4]).unwrap();
    drop(pool);
    assert_eq!((&kept[0][..], &kept[1][..]), (&[3, 3][..], &[4, 4][..]));
}

#[test]
fn values_survive_a_worker_and_go_with_the_last_one() {
    let _scene = Scene::new();
    fn hold_and_die(slice: SharedSlice<u64>) -> u64 {
        std::mem::forget((slice.clone(), slice, SharedSlice::<u64>::zeroed(1000)));
        // SAFETY: no pointers.
        unsafe { libc::kill(std::process::id() as i32, libc::SIGKILL) };
        0
    }
    let pool = Pool::new(2).unwrap();
    for round in 0..10 {
        let slice = SharedSlice::from_slice(&[round; 5000]).unwrap();
        let outcomes = pool.map_all(hold_and_die, vec![slice.clone(); 4]).unwrap();
        assert!(
            outcomes
                .iter()
                .all(|outcome| outcome.as_ref().is_err_and(|error| error.is_worker_death()))
        );
        assert!(slice.iter().all(|&n| n == round));
    }
    eventually("both are replaced", || pool.pids().len() == 2);
}

#[test]
fn the_last_handle_may_be_moved_into_a_call() {
    let _scene = Scene::new();
    let sum = |numbers: SharedSlice<u64>| numbers.iter().sum::<u64>();
    let pool = Pool::new(2).unwrap();
    let numbers = || SharedSlice::from_slice(&[1_u64, 2, 3]).unwrap();
    for _ in 0..50 {
        assert_eq!(pool.map(sum, [numbers(), numbers(), numbers()]).unwrap(), [6, 6, 6]);
        assert_eq!(Process::spawn(sum, numbers()).unwrap().result().unwrap(), 6);
    }
}
