//! Torture tests: processes that are killed at random moments while they hold what others need.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::Outcome;
use crate::cargo::Cargo;
use crate::workspace::{Target, Workspace};

/// A torture test and where it lives. It reads how long to run and its seed from the environment, and prints the seed.
#[derive(Debug)]
struct Suite {
    name: &'static str,
    package: &'static str,
    test: &'static str,
}

const SUITES: &[Suite] = &[
    Suite {
        name: "arena",
        package: "offspring-shm",
        test: "kill",
    },
    Suite {
        name: "locks",
        package: "offspring-sync",
        test: "torture",
    },
    Suite {
        name: "queues",
        package: "offspring-queue",
        test: "torture",
    },
    Suite {
        name: "connections",
        package: "offspring-queue",
        test: "connection_torture",
    },
    Suite {
        name: "pool",
        package: "offspring-pool",
        test: "torture",
    },
];

/// The number of seconds each suite of the run may take.
const SECONDS: &str = "OFFSPRING_TORTURE_SECONDS";

/// A number from which all random choices follow.
const SEED: &str = "OFFSPRING_TORTURE_SEED";

/// Runs the suites that are named, or all.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let request = Request::parse(words, SUITES)?;
    run_suites(&request.suites, request.seconds, request.seed)
}

/// A short run of every suite.
pub(crate) fn short() -> Outcome {
    run_suites(&SUITES.iter().collect::<Vec<_>>(), 5, random_seed())
}

/// The torture tests that no suite names, and the suites without a test.
pub(crate) fn unlisted(workspace: &Workspace) -> Vec<String> {
    differences(workspace, SUITES)
}

fn differences(workspace: &Workspace, suites: &[Suite]) -> Vec<String> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        // A torture test is known by its asking how long to run.
        let asks = |target: &&Target| {
            workspace
                .files
                .get(&target.path)
                .is_some_and(|text| text.contains(SECONDS))
        };
        for target in package.targets_of_kind("test").filter(asks) {
            let listed = |suite: &Suite| suite.package == package.name && suite.test == target.name;
            if !suites.iter().any(listed) {
                let (test, package) = (&target.name, &package.name);
                found.push(format!(
                    "the torture test {test} of {package} belongs to no suite: `cargo xtask stress` would not run it"
                ));
            }
        }
    }
    for suite in suites {
        let package = workspace.package(suite.package);
        if !package.is_some_and(|package| package.targets_of_kind("test").any(|target| target.name == suite.test)) {
            found.push(format!(
                "the suite {} names the test {} of {}, which does not exist",
                suite.name, suite.test, suite.package
            ));
        }
    }
    found
}

fn run_suites(suites: &[&Suite], seconds: u64, seed: u64) -> Outcome {
    for suite in suites {
        println!("stress {}: {seconds} s, seed {seed}", suite.name);
        let call = Cargo::new("test --release --package")
            .argument(suite.package)
            .argument("--test")
            .argument(suite.test);
        let call = call.argument("--").argument("--nocapture").argument("--test-threads=1");
        call.variable(SECONDS, seconds.to_string())
            .variable(SEED, seed.to_string())
            .run()
            .map_err(|reason| {
                format!(
                    "stress {} failed: {reason}; to repeat it: cargo xtask stress {} --seconds {seconds} --seed {seed}",
                    suite.name, suite.name
                )
            })?;
    }
    println!("stress: {} suites passed", suites.len());
    Ok(())
}

fn random_seed() -> u64 {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    // Six digits are easily typed again.
    u64::try_from(time / 1000 % 1_000_000).unwrap_or(0)
}

#[derive(Debug)]
struct Request<'a> {
    suites: Vec<&'a Suite>,
    seconds: u64,
    seed: u64,
}

impl<'a> Request<'a> {
    fn parse(words: &[&str], suites: &'a [Suite]) -> Result<Self, String> {
        let mut request = Self {
            suites: Vec::new(),
            seconds: 30,
            seed: random_seed(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || {
                let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
                value.parse().map_err(|_| format!("{word} needs a number, not {value}"))
            };
            match *word {
                "--seconds" => request.seconds = number()?,
                "--seed" => request.seed = number()?,
                "all" => request.suites = suites.iter().collect(),
                name => {
                    let known = || suites.iter().map(|suite| suite.name).collect::<Vec<_>>().join(", ");
                    let suite = suites.iter().filter(|suite| suite.name == name);
                    let before = request.suites.len();
                    request.suites.extend(suite);
                    if request.suites.len() == before {
                        return Err(format!("there is no stress suite {name}; there are: {}", known()));
                    }
                }
            }
        }
        if request.suites.is_empty() {
            request.suites = suites.iter().collect();
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[Suite] = &[
        Suite {
            name: "locks",
            package: "sync",
            test: "torture",
        },
        Suite {
            name: "arena",
            package: "shm",
            test: "torture",
        },
    ];

    #[test]
    fn a_request_names_suites_time_and_seed() {
        let request = Request::parse(&["arena", "--seconds", "7", "--seed", "9"], TWO).expect("the request is good");
        assert_eq!(
            (
                request.suites.len(),
                request.suites[0].name,
                request.seconds,
                request.seed
            ),
            (1, "arena", 7, 9)
        );
        assert_eq!(Request::parse(&[], TWO).expect("none means all").suites.len(), 2);
        assert!(Request::parse(&["queue"], TWO).is_err_and(|reason| reason.contains("there are: locks, arena")));
        assert!(Request::parse(&["--seconds"], TWO).is_err());
        assert!(Request::parse(&["--seed", "x"], TWO).is_err());
    }

    #[test]
    fn a_torture_test_without_a_suite_and_a_suite_without_a_test_are_found() {
        let workspace = Workspace::default()
            .with_package("sync", "test", "sync/src/torture_rw.rs")
            .with_file(
                "sync/src/torture_rw.rs",
                "//! `OFFSPRING_TORTURE_SECONDS` says how long.",
            );
        let found = differences(&workspace, &TWO[..1]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("torture test sync of sync belongs to no suite"),
            "{found:?}"
        );
        assert!(found[1].contains("does not exist"), "{found:?}");
    }
}
