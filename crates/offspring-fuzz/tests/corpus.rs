//! What the fuzzers found before is tried again, as an ordinary test, without their engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use offspring_fuzz::{TARGETS, target};
use offspring_testing::watchdog;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn replay(name: &str) {
    let _watchdog = watchdog(Duration::from_secs(60));
    let target = target(name).unwrap_or_else(|| panic!("there is no target {name}"));
    let folder = corpus().join(name);
    let files = names(&folder);
    assert!(!files.is_empty(), "the target {name} has no corpus");
    for file in files {
        // What is printed is seen if the next line panics.
        println!("{name}/{file}");
        (target.run)(&fs::read(folder.join(file)).unwrap());
    }
    (target.run)(&[]);
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        #[test]
        fn every_target_has_a_corpus_and_a_test() {
            let mut known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            known.sort_unstable();
            let mut tested = [$(stringify!($name)),*];
            tested.sort_unstable();
            assert_eq!(tested[..], known);
            assert_eq!(names(&corpus()), known);
        }
    };
}

replays!(arena connection image locks membership packet parcel pool queue_handle report request ring segment shared);
