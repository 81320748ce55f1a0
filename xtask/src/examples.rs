//! Every example is run, and what it prints is checked.

use std::io::Read;
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
    arguments: &'static [&'static str],
    expected: Expected,
}

/// What an example must write to its standard output.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the ways are many and the examples few"))]
enum Expected {
    /// These lines, in this order.
    Lines(&'static [&'static str]),
    /// These lines in any order, then these in this order: workers print when they come to it, the end is the parent's.
    AnyOrderThen(&'static [&'static str], &'static [&'static str]),
    /// Each of these texts somewhere.
    Contains(&'static [&'static str]),
}

const EXAMPLES: &[Example] = &[];

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
    let program = workspace
        .target_directory
        .join(profile)
        .join("examples")
        .join(example.name);
    let start = Instant::now();
    let mut command = Command::new(&program);
    command.args(example.arguments).current_dir(root());
    let result = output_within(command, LIMIT).and_then(|output| check(&example.expected, &output));
    result.map_err(|what| format!("the example {} ({profile}): {what}", example.name))?;
    println!(
        "example {} ({profile}) ... ok, {:.1} s",
        example.name,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// The standard output of a command that ends well, and in time.
fn output_within(mut command: Command, limit: Duration) -> Result<String, String> {
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
        assert_eq!(output_within(shell("echo done"), limit), Ok("done\n".to_owned()));
        assert!(output_within(shell("echo done; exit 3"), limit).is_err_and(|what| what.contains("exit status: 3")));
        let short = Duration::from_millis(200);
        assert!(output_within(shell("exec sleep 20"), short).is_err_and(|what| what.contains("was killed")));
        assert!(
            output_within(shell("sleep 1 & echo done"), short)
                .is_err_and(|what| what.contains("left a process behind"))
        );
        // The shell's child must be gone before this test is.
        thread::sleep(Duration::from_secs(1));
    }
}
