//! What a task function can be, and what becomes of values that fail on their way.
#![cfg(feature = "start-hook")]

mod scene;

use std::fmt;

use offspring_pool::{Pool, Process};
use rkyv::rancor::{Fallible, Source};
use rkyv::{Archive, Archived, Deserialize, Place, Serialize};
use scene::Scene;

fn by_value(word: String) -> usize {
    word.len()
}

fn by_view(word: &Archived<String>) -> usize {
    word.len()
}

fn none() -> u8 {
    9
}

fn two(a: u8, b: u16) -> u32 {
    u32::from(a) + u32::from(b)
}

fn tuple(pair: (u8, u16)) -> u32 {
    u32::from(pair.0) * u32::from(pair.1)
}

fn three(a: u8, b: String, c: Vec<u8>) -> usize {
    usize::from(a) + b.len() + c.len()
}

fn four(a: i8, b: i16, c: i32, d: i64) -> i64 {
    i64::from(a) + i64::from(b) + i64::from(c) + d
}

fn five(a: u8, b: u8, c: u8, d: u8, e: u8) -> [u8; 5] {
    [e, d, c, b, a]
}

fn six(a: u8, b: u8, c: u8, d: u8, e: u8, f: bool) -> (bool, u8) {
    (f, a + b + c + d + e)
}

fn generic<T: Into<u64> + 'static>(number: T) -> u64 {
    number.into() + 1
}

struct Machine;

impl Machine {
    const STEP: u32 = 5;

    fn step(n: u32) -> u32 {
        n + Self::STEP
    }
}

trait Describe {
    fn describe(self) -> String;
}

impl Describe for i16 {
    fn describe(self) -> String {
        format!("number {self}")
    }
}

#[test]
fn functions_of_every_shape() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let words = || ["a", "bcd"].map(String::from);
    assert_eq!(pool.map(by_value, words()).unwrap(), [1, 3]);
    assert_eq!(pool.map(by_view, words()).unwrap(), [1, 3]);
    assert_eq!(pool.map(none, [(), ()]).unwrap(), [9, 9]);
    assert_eq!(pool.map(two, [(1, 2)]).unwrap(), [3]);
    assert_eq!(pool.starmap(two, [(1, 2)]).unwrap(), [3]);
    assert_eq!(pool.map(tuple, [(3, 4)]).unwrap(), [12]);
    assert_eq!(pool.starmap(three, [(1, "ab".to_string(), vec![0; 3])]).unwrap(), [6]);
    assert_eq!(pool.starmap(four, [(1, 2, 3, -7)]).unwrap(), [-1]);
    assert_eq!(pool.starmap(five, [(1, 2, 3, 4, 5)]).unwrap(), [[5, 4, 3, 2, 1]]);
    assert_eq!(pool.starmap(six, [(1, 2, 3, 4, 5, true)]).unwrap(), [(true, 15)]);
    assert_eq!(pool.map(generic::<u8>, [1]).unwrap(), [2]);
    assert_eq!(pool.map(generic::<u32>, [1]).unwrap(), [2]);
    assert_eq!(pool.map(Machine::step, [1]).unwrap(), [6]);
    assert_eq!(pool.map(i16::describe, [-3]).unwrap(), ["number -3"]);
    assert_eq!(pool.map(u32::count_ones, [7, 8]).unwrap(), [3, 1]);
    assert_eq!(pool.map(Some::<u8>, [4]).unwrap(), [Some(4)]);
    assert_eq!(pool.map(|n: u8| n + 1, [1]).unwrap(), [2]);
    assert_eq!(
        pool.map(|a: u8, b: String| (b, a), [(1, "x".to_string())]).unwrap(),
        [("x".to_string(), 1)]
    );
    let total = |list: &Archived<Vec<u32>>| -> u32 { list.iter().map(|n| n.to_native()).sum() };
    assert_eq!(pool.map(total, [vec![1_u32, 2, 3], vec![]]).unwrap(), [6, 0]);
}

#[test]
fn functions_of_a_process() {
    let _scene = Scene::new();
    assert_eq!(
        Process::spawn(by_value, "abc".to_string()).unwrap().result().unwrap(),
        3
    );
    assert_eq!(Process::spawn(by_view, "abc".to_string()).unwrap().result().unwrap(), 3);
    assert_eq!(Process::spawn(none, ()).unwrap().result().unwrap(), 9);
    assert_eq!(Process::spawn(two, (1, 2)).unwrap().result().unwrap(), 3);
    assert_eq!(Process::spawn(tuple, (3, 4)).unwrap().result().unwrap(), 12);
    assert_eq!(
        Process::spawn(six, (1, 2, 3, 4, 5, false)).unwrap().result().unwrap(),
        (false, 15)
    );
    assert_eq!(Process::spawn(generic::<u16>, 1).unwrap().result().unwrap(), 2);
}

#[test]
fn each_function_is_itself() {
    let _scene = Scene::new();
    let pool = Pool::new(1).unwrap();
    // Bodies that a compiler may fold into one, types that differ in nothing but their names.
    fn one(n: u32) -> u32 {
        n
    }
    fn another(n: u32) -> u32 {
        n
    }
    fn name(n: i32) -> i32 {
        n
    }
    for n in 0..10 {
        assert_eq!(pool.map(one, [n]).unwrap(), [n]);
        assert_eq!(pool.map(another, [n]).unwrap(), [n]);
        assert_eq!(pool.map(name, [-(n as i32)]).unwrap(), [-(n as i32)]);
        assert_eq!(pool.map(|n: u32| n, [n]).unwrap(), [n]);
    }
}

/// Where a value is on its way to a worker and back.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Write = 1,
    Rebuild = 2,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Error = 1,
    Panic = 2,
    Exit = 3,
    Abort = 4,
}

/// A value that goes off at one stage of its way, but in one process only, so that it gets there.
#[derive(Debug, Clone, PartialEq)]
struct Fuse {
    stage: u32,
    how: u32,
    /// Whether it is to go off in a worker, or in the caller.
    in_worker: bool,
}

impl Fuse {
    fn new(stage: Stage, how: How, in_worker: bool) -> Self {
        Self {
            stage: stage as u32,
            how: how as u32,
            in_worker,
        }
    }

    fn dud() -> Self {
        Self {
            stage: 0,
            how: 0,
            in_worker: false,
        }
    }

    fn burn<E: Source>(&self, stage: Stage) -> Result<(), E> {
        if self.stage != stage as u32 || self.in_worker != offspring_pool::current().is_child() {
            return Ok(());
        }
        match self.how {
            1 => Err(E::new(Burnt)),
            2 => panic!("the fuse has burnt"),
            3 => std::process::exit(3),
            _ => std::process::abort(),
        }
    }
}

#[derive(Debug)]
struct Burnt;

impl fmt::Display for Burnt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fuse has burnt")
    }
}

impl std::error::Error for Burnt {}

#[derive(Archive, Serialize, Deserialize)]
struct Parts(u32, u32, bool);

impl From<&Fuse> for Parts {
    fn from(fuse: &Fuse) -> Self {
        Self(fuse.stage, fuse.how, fuse.in_worker)
    }
}

impl Archive for Fuse {
    type Archived = ArchivedParts;
    type Resolver = PartsResolver;

    fn resolve(&self, resolver: PartsResolver, out: Place<ArchivedParts>) {
        Parts::from(self).resolve(resolver, out);
    }
}

impl<S: Fallible<Error: Source> + ?Sized> Serialize<S> for Fuse {
    fn serialize(&self, serializer: &mut S) -> Result<PartsResolver, S::Error> {
        self.burn::<S::Error>(Stage::Write)?;
        Parts::from(self).serialize(serializer)
    }
}

impl<D: Fallible<Error: Source> + ?Sized> Deserialize<Fuse, D> for ArchivedParts {
    fn deserialize(&self, deserializer: &mut D) -> Result<Fuse, D::Error> {
        let Parts(stage, how, in_worker) = self.deserialize(deserializer)?;
        let fuse = Fuse { stage, how, in_worker };
        fuse.burn::<D::Error>(Stage::Rebuild)?;
        Ok(fuse)
    }
}

fn check(error: &offspring_pool::Error, how: How, item: Option<usize>) {
    let words = error.to_string();
    match how {
        How::Error => assert!(
            words.contains("the fuse has burnt") && !error.is_panic() && !error.is_worker_death(),
            "{words}"
        ),
        How::Panic => assert_eq!(error.panic().unwrap().message(), "the fuse has burnt"),
        How::Exit => assert!(
            error.is_worker_death() && words.contains("exited with code 3"),
            "{words}"
        ),
        How::Abort => assert!(error.is_worker_death() && words.contains("SIGABRT"), "{words}"),
    }
    assert!(!error.is_out_of_memory(), "{words}");
    assert_eq!(error.item(), item, "{words}");
}

/// {error, panic, exit, abort} × {write the item, rebuild it, write the result, rebuild it}.
#[test]
fn whatever_fails_on_its_way_fails_its_item() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    // Each time once as an item that arrives as a view, so that it fails as a result only.
    let keep = |fuse: Fuse| fuse.stage;
    let make = |parts: (u32, u32)| Fuse {
        stage: parts.0,
        how: parts.1,
        in_worker: true,
    };
    for _ in 0..3 {
        for how in [How::Error, How::Panic, How::Exit, How::Abort] {
            for chunk in [1, 2, 8] {
                let calls = pool.chunk_size(chunk);
                let mut items = vec![Fuse::dud(); 8];
                items[5] = Fuse::new(Stage::Rebuild, how, true);
                let outcomes = calls.map_all(keep, items.clone()).unwrap();
                for (item, outcome) in outcomes.iter().enumerate() {
                    match outcome {
                        Ok(stage) => assert_eq!((*stage, item == 5), (0, false)),
                        Err(error) => check(error, how, Some(5)),
                    }
                }
                check(&calls.map(keep, items).unwrap_err(), how, Some(5));

                let mut items = vec![(0, 0); 8];
                items[3] = (Stage::Write as u32, how as u32);
                let outcomes = calls.map_all(make, items.clone()).unwrap();
                for (item, outcome) in outcomes.iter().enumerate() {
                    match outcome {
                        Ok(fuse) => assert!(fuse.stage == 0 && item != 3),
                        Err(error) => check(error, how, Some(3)),
                    }
                }
                check(&calls.map(make, items).unwrap_err(), how, Some(3));
            }
        }
        assert_eq!(pool.map(by_value, ["a".to_string()]).unwrap(), [1]);
    }
}

#[test]
fn what_fails_in_the_caller_fails_the_call() {
    let _scene = Scene::new();
    let pool = Pool::new(2).unwrap();
    let keep = |fuse: Fuse| fuse;
    let second = |_: String, fuse: Fuse| fuse.stage;
    for _ in 0..3 {
        // Written: after much else has been.
        let mut items = vec![("x".repeat(100), Fuse::dud()); 1000];
        items.push(("y".to_string(), Fuse::new(Stage::Write, How::Error, false)));
        let error = pool.map(second, items.clone()).unwrap_err();
        check(&error, How::Error, None);
        let items = vec![Fuse::dud(), Fuse::new(Stage::Write, How::Panic, false)];
        let call = std::panic::AssertUnwindSafe(|| pool.map(keep, items));
        assert!(std::panic::catch_unwind(call).is_err());
        // Rebuilt: of three results one.
        let mut items = vec![Fuse::dud(); 3];
        items[1] = Fuse::new(Stage::Rebuild, How::Error, false);
        let outcomes = pool.map_all(keep, items.clone()).unwrap();
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        assert!(
            outcomes[1]
                .as_ref()
                .unwrap_err()
                .to_string()
                .contains("the fuse has burnt")
        );
        assert!(
            pool.map(keep, items.clone())
                .unwrap_err()
                .to_string()
                .contains("the fuse has burnt")
        );
        assert_eq!(
            pool.map_views(keep, items.clone()).unwrap().len(),
            3,
            "a view is not rebuilt"
        );
        items[1] = Fuse::new(Stage::Rebuild, How::Panic, false);
        let call = std::panic::AssertUnwindSafe(|| pool.map(keep, items));
        assert!(std::panic::catch_unwind(call).is_err());
    }
    assert_eq!(pool.map(by_value, ["a".to_string()]).unwrap(), [1]);
}

#[test]
fn whatever_fails_on_its_way_fails_its_process() {
    let _scene = Scene::new();
    let make = |stage: u32, how: u32| Fuse {
        stage,
        how,
        in_worker: true,
    };
    for how in [How::Error, How::Panic, How::Exit, How::Abort] {
        let process = Process::spawn(|fuse: Fuse| fuse.stage, Fuse::new(Stage::Rebuild, how, true)).unwrap();
        check(&process.result().unwrap_err(), how, None);
        let process = Process::spawn(make, (Stage::Write as u32, how as u32)).unwrap();
        check(&process.result().unwrap_err(), how, None);
    }
    let error = Process::spawn(|fuse: Fuse| fuse.stage, Fuse::new(Stage::Write, How::Error, false)).unwrap_err();
    check(&error, How::Error, None);
    let fuse = Fuse::new(Stage::Write, How::Panic, false);
    assert!(std::panic::catch_unwind(|| Process::spawn(|fuse: Fuse| fuse.stage, fuse)).is_err());
    let process = Process::spawn(|fuse: Fuse| fuse, Fuse::new(Stage::Rebuild, How::Error, false)).unwrap();
    check(&process.result().unwrap_err(), How::Error, None);
    check(&process.result().unwrap_err(), How::Error, None);
}

#[test]
fn destructors_run_and_may_panic() {
    let _scene = Scene::new();
    let pool = Pool::new(1).unwrap();
    #[derive(Archive, Serialize, Deserialize, Clone)]
    struct Loud(u32);
    impl Drop for Loud {
        fn drop(&mut self) {
            // Only in the worker: the caller's panic would be its own affair.
            if self.0 == 7 && offspring_pool::current().is_child() {
                panic!("dropped {}", self.0);
            }
        }
    }
    for chunk in [1, 4] {
        let outcomes = pool
            .chunk_size(chunk)
            .map_all(|loud: Loud| loud.0, (5..9).map(Loud))
            .unwrap();
        for (outcome, n) in outcomes.iter().zip(5..) {
            match outcome {
                Ok(result) => assert_eq!(*result, n),
                Err(error) => assert_eq!((error.panic().unwrap().message(), n), ("dropped 7", 7)),
            }
        }
        assert!(outcomes[2].is_err());
        let outcomes = pool.chunk_size(chunk).map_all(Loud, 5..9).unwrap();
        assert!(outcomes[2].as_ref().is_err_and(|error| error.is_panic()));
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    }
}
