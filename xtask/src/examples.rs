//! Every example is run, and what it prints is checked.

use std::fs;
use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::cargo::Cargo;
use crate::workspace::{Workspace, root};

/// The package that holds the examples.
const PACKAGE: &str = "offspring-examples";

/// No example takes longer.
const LIMIT: Duration = Duration::from_secs(120);

/// An example, how it is called, and what it must print.
#[derive(Debug)]
struct Example {
    name: &'static str,
    /// In them, `SCRATCH` is a folder for what the example writes.
    arguments: &'static [&'static str],
    expected: Expected,
    /// A file in the scratch folder and how it must begin.
    writes: Option<(&'static str, &'static [u8])>,
}

/// What an example must write to its standard output.
#[derive(Debug)]
enum Expected {
    /// These lines, in this order.
    Lines(&'static [&'static str]),
    /// These lines in any order, then these in this order: workers print when they come to it, the end is the parent's.
    AnyOrderThen(&'static [&'static str], &'static [&'static str]),
    /// Each of these texts somewhere.
    Contains(&'static [&'static str]),
}

const EXAMPLES: &[Example] = &[
    Example {
        name: "quickstart",
        arguments: &[],
        expected: Expected::AnyOrderThen(
            &[
                "Process 1 is running",
                "Process 2 is running",
                "Process 3 is running",
                "Process 4 is running",
            ],
            &["[2, 4, 6, 8]"],
        ),
        writes: None,
    },
    Example {
        name: "process",
        arguments: &[],
        // Whether a core was dumped depends on the machine, and is told on the last line.
        expected: Expected::Contains(&[
            "Process-1 computes 6 x 7\nresult: 42\n",
            "no result: Process-2 killed by SIGABRT",
        ]),
        writes: None,
    },
    Example {
        name: "exec",
        arguments: &[],
        expected: Expected::Lines(&["the child became another program", "it exited with code 0"]),
        writes: None,
    },
    Example {
        name: "checksum",
        // The default, all sources that cargo ever fetched, takes minutes on some machines.
        arguments: &["crates"],
        expected: Expected::Contains(&["below crates\n", ", 0 files unreadable\n", "\nverified\n"]),
        writes: None,
    },
    Example {
        name: "fractal",
        arguments: &["SCRATCH/fractal.png"],
        expected: Expected::Contains(&["3840 x 2160 pixels by ", "\nwrote "]),
        // The signature of a PNG, and the header with 3840 and 2160.
        writes: Some(("fractal.png", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x0f\0\0\0\x08\x70")),
    },
    Example {
        name: "shared_counter",
        arguments: &[],
        expected: Expected::Lines(&["4 processes counted to 400000"]),
        writes: None,
    },
    Example {
        name: "barrier",
        arguments: &[],
        expected: Expected::Contains(&["4 processes took 2000 steps together", "\nverified\n"]),
        writes: None,
    },
    Example {
        name: "owner_died",
        arguments: &[],
        expected: Expected::Contains(&[
            "the process inside the lock was killed by SIGABRT",
            "\nthe owner of the lock died and left [70, 0]\nrepaired: [70, 30]\n",
        ]),
        writes: None,
    },
    Example {
        name: "pipeline",
        arguments: &["crates"],
        expected: Expected::Contains(&[" files, ", " words, ", " self\n"]),
        writes: None,
    },
    Example {
        name: "work_queue",
        arguments: &[],
        expected: Expected::Lines(&[
            "killed the worker that held task 9",
            "20 tasks done, 1 of them by a second worker, none lost",
        ]),
        writes: None,
    },
    Example {
        name: "zero_copy",
        arguments: &[],
        expected: Expected::Lines(&["256 MiB went to another process"]),
        writes: None,
    },
    Example {
        name: "connection",
        arguments: &[],
        expected: Expected::Lines(&[
            "LICENSE-MIT begins: MIT License",
            "no Cargo.lock: it is not open to all",
        ]),
        writes: None,
    },
];

/// Builds the examples with optimisation and checks the output of each.
pub(crate) fn run(workspace: &Workspace) -> Outcome {
    if let Some(what) = unlisted(workspace).first() {
        return Err(what.clone());
    }
    Cargo::new("build --release --examples --package")
        .argument(PACKAGE)
        .run()?;
    EXAMPLES
        .iter()
        .try_for_each(|example| run_one(workspace, example, "release"))
}

/// Builds and checks one example under another profile.
pub(crate) fn run_with_profile(workspace: &Workspace, name: &str, profile: &str) -> Outcome {
    let example = EXAMPLES.iter().find(|example| example.name == name);
    let example = example.ok_or_else(|| format!("the example {name} is not in the table of xtask/src/examples.rs"))?;
    Cargo::new("build")
        .argument("--profile")
        .argument(profile)
        .argument("--example")
        .argument(name)
        .argument("--package")
        .argument(PACKAGE)
        .run()?;
    run_one(workspace, example, profile)
}

/// The examples of the manifest that the table lacks, and the other way round.
pub(crate) fn unlisted(workspace: &Workspace) -> Vec<String> {
    let listed: Vec<_> = EXAMPLES.iter().map(|example| example.name).collect();
    differences(workspace, &listed)
}

fn differences(workspace: &Workspace, listed: &[&str]) -> Vec<String> {
    let Some(package) = workspace.package(PACKAGE) else {
        return Vec::new();
    };
    let targets: Vec<_> = package
        .targets_of_kind("example")
        .map(|target| target.name.as_str())
        .collect();
    let unlisted = targets.iter().filter(|name| !listed.contains(name));
    let missing = listed.iter().filter(|name| !targets.contains(name));
    let unlisted =
        unlisted.map(|name| format!("the example {name} is not in the table: its output would not be checked"));
    unlisted
        .chain(missing.map(|name| format!("the example {name} is in the table but not in the manifest")))
        .collect()
}

fn run_one(workspace: &Workspace, example: &Example, profile: &str) -> Outcome {
    let named = |what: String| format!("the example {} ({profile}): {what}", example.name);
    let program = workspace
        .target_directory
        .join(profile)
        .join("examples")
        .join(example.name);
    let scratch = workspace.target_directory.join("examples-scratch");
    // Fresh, so that a file of an earlier run is not taken for one of this.
    let fresh = fs::remove_dir_all(&scratch).or_else(|error| match error.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    fresh
        .and_then(|()| fs::create_dir(&scratch))
        .map_err(|error| named(format!("{}: {error}", scratch.display())))?;
    let start = Instant::now();
    let mut command = Command::new(&program);
    let scratch_name = scratch.to_string_lossy();
    command.args(
        example
            .arguments
            .iter()
            .map(|argument| argument.replace("SCRATCH", &scratch_name)),
    );
    let output = output_within(command.current_dir(root()), LIMIT).map_err(named)?;
    check(&example.expected, &output).map_err(named)?;
    if let Some((file, beginning)) = example.writes {
        let bytes = fs::read(scratch.join(file)).map_err(|error| named(format!("it did not write {file}: {error}")))?;
        if !bytes.starts_with(beginning) {
            return Err(named(format!("{file} does not begin as it should")));
        }
    }
    println!(
        "example {} ({profile}) ... ok, {:.1} s",
        example.name,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The standard output of a command that ends well, and in time.
fn output_within(command: &mut Command, limit: Duration) -> Result<String, String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("cannot be started: {error}"))?;
    let mut pipe = child.stdout.take().expect("the output is piped");
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text)
            .map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if Instant::now() > end => {
                child
                    .kill()
                    .and_then(|()| child.wait())
                    .map_err(|error| error.to_string())?;
                return Err(format!("still ran after {limit:?} and was killed"));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    // A process left behind would hold the pipe open: that must not hang us.
    while !reader.is_finished() {
        if Instant::now() > end {
            return Err("ended, but left a process behind that holds its output open".to_owned());
        }
        thread::sleep(Duration::from_millis(1));
    }
    let text = reader
        .join()
        .expect("the reader does not panic")
        .map_err(|error| error.to_string())?;
    if status.success() {
        Ok(text)
    } else {
        Err(format!("ended with {status}; it printed:\n{text}"))
    }
}

fn check(expected: &Expected, output: &str) -> Outcome {
    let lines: Vec<&str> = output.lines().collect();
    let fits = match expected {
        Expected::Lines(wanted) => lines == *wanted,
        Expected::AnyOrderThen(any, last) => {
            let split = lines.len().saturating_sub(last.len());
            sorted(&lines[..split]) == sorted(any) && lines[split..] == **last
        }
        Expected::Contains(texts) => texts.iter().all(|text| output.contains(text)),
    };
    if fits {
        Ok(())
    } else {
        Err(format!("expected {expected:?}, but it printed:\n{output}"))
    }
}

fn sorted<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let mut lines = lines.to_vec();
    lines.sort_unstable();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_compared_as_the_table_says() {
        let any = Expected::AnyOrderThen(&["a", "b"], &["end"]);
        assert!(check(&any, "b\na\nend\n").is_ok());
        assert!(check(&any, "b\nend\na\n").is_err());
        assert!(check(&any, "b\na\na\nend\n").is_err());
        assert!(check(&any, "").is_err());
        assert!(check(&Expected::Lines(&["a", "b"]), "a\nb\n").is_ok());
        assert!(check(&Expected::Lines(&["a", "b"]), "b\na\n").is_err());
        assert!(check(&Expected::Contains(&["a", "c"]), "abc").is_ok());
        assert!(check(&Expected::Contains(&["a", "d"]), "abc").is_err());
    }

    #[test]
    fn a_missing_and_an_unlisted_example_are_errors() {
        let workspace = Workspace {
            packages: vec![package(&["here", "unlisted"])],
            ..Workspace::default()
        };
        let found = differences(&workspace, &["here", "missing"]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("unlisted is not in the table"), "{found:?}");
        assert!(
            found[1].contains("missing is in the table but not in the manifest"),
            "{found:?}"
        );
    }

    fn package(examples: &[&str]) -> crate::workspace::Package {
        let target = |name: &&str| crate::workspace::Target {
            name: (*name).to_owned(),
            kind: "example".to_owned(),
            path: String::new(),
        };
        crate::workspace::Package {
            name: PACKAGE.to_owned(),
            targets: examples.iter().map(target).collect(),
            ..Default::default()
        }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_fails_hangs_or_leaves_a_process_is_an_error() {
        let limit = Duration::from_secs(20);
        assert_eq!(output_within(&mut shell("echo done"), limit), Ok("done\n".to_owned()));
        assert!(
            output_within(&mut shell("echo done; exit 3"), limit).is_err_and(|what| what.contains("exit status: 3"))
        );
        let short = Duration::from_millis(200);
        assert!(output_within(&mut shell("exec sleep 20"), short).is_err_and(|what| what.contains("was killed")));
        assert!(
            output_within(&mut shell("sleep 1 & echo done"), short)
                .is_err_and(|what| what.contains("left a process behind"))
        );
        // The shell's child must be gone before this test is.
        thread::sleep(Duration::from_secs(1));
    }
}
