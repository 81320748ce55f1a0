//! The `main` of a test binary whose tests fork.

use std::any::Any;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{self, ExitCode};
use std::sync::Mutex;

static CURRENT: Mutex<&str> = Mutex::new("");

/// Runs tests one after another on the thread that calls it, which is the only one of the process.
///
/// Understands what cargo and nextest pass to a test binary: `--list`, `--exact`, `--skip`, `--ignored`, filters. Other options
/// of libtest are accepted and mean nothing here.
///
/// A test that forks must end the child itself: a child that comes back from a test function is killed with an abort, as it
/// would otherwise run the rest of the tests a second time.
///
/// ```no_run
/// fn child_has_its_own_number() {
///     assert!(std::process::id() > 0);
/// }
///
/// fn main() -> std::process::ExitCode {
///     offspring_testing::run_single_threaded(&[("child_has_its_own_number", child_has_its_own_number)])
/// }
/// ```
pub fn run_single_threaded(tests: &[(&'static str, fn())]) -> ExitCode {
    let options = Options::parse(env::args().skip(1));
    let chosen: Vec<_> = tests.iter().filter(|(name, _)| options.selects(name)).collect();
    if options.list {
        for (name, _) in &chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests, on one thread", chosen.len());
    let mut failed = Vec::new();
    for (name, test) in &chosen {
        let me = process::id();
        *CURRENT.lock().expect("no test runs while the name is set") = name;
        let result = catch_unwind(AssertUnwindSafe(test));
        if process::id() != me {
            eprintln!("a forked child came back from the test {name}");
            process::abort();
        }
        match result {
            Ok(()) => println!("test {name} ... ok"),
            Err(panic) => {
                println!("test {name} ... FAILED: {}", words(&*panic));
                failed.push(*name);
            }
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    let (passed, out) = (chosen.len() - failed.len(), tests.len() - chosen.len());
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored; 0 measured; {out} filtered out\n",
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}

/// The name of the test that runs on this thread, under libtest, nextest or [`run_single_threaded`].
pub fn test_name() -> String {
    let current = CURRENT.lock().map_or("", |name| *name);
    if !current.is_empty() {
        return current.to_owned();
    }
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => env::args().next().unwrap_or_else(|| "unknown".to_owned()),
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "panicked with a value that is not text",
    }
}

#[derive(Default)]
struct Options {
    list: bool,
    exact: bool,
    ignored_only: bool,
    filters: Vec<String>,
    skip: Vec<String>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut options = Self::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => options.list = true,
                "--exact" => options.exact = true,
                "--ignored" => options.ignored_only = true,
                "--skip" => options.skip.extend(arguments.next()),
                "--format" | "--color" | "--test-threads" | "--logfile" | "-Z" => drop(arguments.next()),
                other => match other.strip_prefix("--skip=") {
                    Some(name) => options.skip.push(name.to_owned()),
                    None if other.starts_with('-') => {}
                    None => options.filters.push(argument),
                },
            }
        }
        options
    }

    fn selects(&self, name: &str) -> bool {
        let hit = |pattern: &String| {
            if self.exact {
                name == pattern
            } else {
                name.contains(pattern.as_str())
            }
        };
        !self.ignored_only && (self.filters.is_empty() || self.filters.iter().any(hit)) && !self.skip.iter().any(hit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Options::parse(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn lists_and_filters_as_nextest_asks() {
        assert!(options(&["--list", "--format", "terse"]).list);
        assert!(options(&["--list", "--format", "terse"]).selects("any"));
        assert!(!options(&["--list", "--format", "terse", "--ignored"]).selects("any"));
        assert!(options(&["--exact", "a", "--nocapture"]).selects("a"));
        assert!(!options(&["--exact", "a", "--nocapture"]).selects("ab"));
        assert!(options(&["a"]).selects("ab"));
        assert!(!options(&["--skip", "b"]).selects("ab"));
        assert!(!options(&["--skip=b"]).selects("ab"));
        assert!(options(&["--test-threads", "1"]).selects("ab"));
    }

    #[test]
    fn a_test_knows_its_name() {
        assert!(test_name().ends_with("a_test_knows_its_name"), "{}", test_name());
    }
}
