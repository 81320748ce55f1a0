//! Fuzz targets: libFuzzer over the crate `offspring-fuzz`, with stable Rust.
//!
//! What makes libFuzzer see which branches an input takes are ordinary flags of rustc for an ordinary pass of LLVM, and a
//! package that builds the engine: no nightly compiler is needed, and no further command.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use crate::Outcome;
use crate::cargo::Cargo;
use crate::workspace::{Workspace, root};

/// Has rustc count how often each edge of the program was taken, and tell what numbers were compared.
const FLAGS: &str = "--cfg fuzzing -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
                     -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
                     -C llvm-args=-sanitizer-coverage-trace-compares";

/// Which target the program runs.
const TARGET: &str = "OFFSPRING_FUZZ_TARGET";

/// An input that takes longer hangs, in seconds: a machine that is busy may well take some for nothing.
const HANGS: u64 = 60;

/// How many targets are run at the same time.
const AT_ONCE: usize = 2;

/// What is kept of the inputs that showed something new, a folder for each target.
fn kept() -> PathBuf {
    root().join("crates/offspring-fuzz/corpus")
}

/// Runs the targets that are named, or all.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let request = Request::parse(words, &targets()?)?;
    let workspace = Workspace::load()?;
    run_targets(&workspace, &request)
}

/// A short run of every target.
pub(crate) fn short(workspace: &Workspace) -> Outcome {
    let request = Request {
        targets: targets()?,
        seconds: 5,
        minimise: false,
    };
    run_targets(workspace, &request)
}

/// The targets are the folders of the corpus; a test of the crate sees to that.
fn targets() -> Result<Vec<String>, String> {
    let failed = |error| format!("{}: {error}", kept().display());
    let mut names = Vec::new();
    for entry in fs::read_dir(kept()).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn run_targets(workspace: &Workspace, request: &Request) -> Outcome {
    let folder = workspace.target_directory.join("fuzz");
    let build = Cargo::new("build --profile fuzz --package offspring-fuzz --target host-tuple --message-format json-render-diagnostics")
        .variable("RUSTFLAGS", FLAGS)
        // Its own folder: with other flags everything would be compiled anew, there and back.
        .variable("CARGO_TARGET_DIR", folder.to_string_lossy());
    println!("{build}");
    let program = program(&build.output()?).ok_or("cargo built no fuzz program")?;
    let queue: Mutex<VecDeque<&String>> = Mutex::new(request.targets.iter().collect());
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some(name) = next(&queue) {
            let fuzz = Fuzz {
                program: &program,
                folder: &folder,
                name,
            };
            let outcome = if request.minimise {
                fuzz.minimise()
            } else {
                fuzz.run(request.seconds)
            };
            match outcome {
                Ok(said) => println!("fuzz {name}: {said}"),
                Err(reason) => {
                    eprintln!("fuzz {name}: {reason}");
                    if let Ok(mut failed) = failed.lock() {
                        failed.push(name.as_str());
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let mut failed = failed.into_inner().map_err(|error| error.to_string())?;
    failed.sort_unstable();
    if failed.is_empty() {
        println!("fuzz: {} targets passed", request.targets.len());
        Ok(())
    } else {
        Err(format!("fuzz targets failed: {}", failed.join(", ")))
    }
}

fn next<'a>(queue: &Mutex<VecDeque<&'a String>>) -> Option<&'a String> {
    queue.lock().ok()?.pop_front()
}

/// The executable that cargo says it has built.
fn program(messages: &[u8]) -> Option<PathBuf> {
    String::from_utf8_lossy(messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// One target, ready to be run.
struct Fuzz<'a> {
    program: &'a Path,
    /// Where it may leave files.
    folder: &'a Path,
    name: &'a str,
}

impl Fuzz<'_> {
    /// Runs it for some time, beginning with what is kept; new inputs go to the target folder.
    fn run(&self, seconds: u64) -> Result<String, String> {
        let (found, bad) = (self.folder("found")?, self.folder("failures")?);
        let options = [
            format!("-max_total_time={seconds}"),
            format!("-timeout={HANGS}"),
            format!("-artifact_prefix={}/", bad.display()),
            "-rss_limit_mb=2048".to_owned(),
            "-max_len=512".to_owned(),
        ];
        let log = self.call(&[&found, &kept().join(self.name)], &options)?;
        let last = log.lines().rev().find(|line| line.contains("cov: "));
        Ok(last.unwrap_or("no new input").trim().to_owned())
    }

    /// Replaces what is kept by the fewest and smallest of all known inputs that show as much.
    fn minimise(&self) -> Result<String, String> {
        let (found, kept) = (self.folder("found")?, kept().join(self.name));
        let all = self.folder("merging")?;
        let failed = |error| format!("{}: {error}", kept.display());
        fs::remove_dir_all(&all).map_err(failed)?;
        fs::rename(&kept, &all).map_err(failed)?;
        fs::create_dir(&kept).map_err(failed)?;
        let merge = ["-set_cover_merge=1", "-use_counters=0", "-max_len=512"].map(str::to_owned);
        self.call(&[&kept, &all, &found], &merge)?;
        let files = fs::read_dir(&kept).map_err(failed)?.count();
        Ok(format!("{files} inputs are kept"))
    }

    /// A folder of this target's own, made if need be.
    fn folder(&self, kind: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join(kind).join(self.name);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }

    /// Runs the program and gives what it wrote.
    fn call(&self, corpora: &[&Path], options: &[String]) -> Result<String, String> {
        let path = self.folder("logs")?.join("log");
        let failed = |error| format!("{}: {error}", path.display());
        let log = File::create(&path).map_err(failed)?;
        let status = Command::new(self.program)
            .args(corpora)
            .args(options)
            .env(TARGET, self.name)
            .env("RUST_BACKTRACE", "1")
            .current_dir(root())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .status()
            .map_err(|error| format!("cannot start {}: {error}", self.program.display()))?;
        let text = String::from_utf8_lossy(&fs::read(&path).map_err(failed)?).into_owned();
        if status.success() {
            return Ok(text);
        }
        let lines: Vec<_> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(60)..].join("\n");
        let input = lines
            .iter()
            .rev()
            .find_map(|line| line.split("Test unit written to ").nth(1));
        let repeat = input.map_or(String::new(), |input| {
            format!(
                "\nto repeat it: cargo run -p offspring-fuzz -- {} {input}\nonce it is mended, keep the input in {}",
                self.name,
                kept().join(self.name).display()
            )
        });
        Err(format!("{end}\nit ended with {status}{repeat}"))
    }
}

#[derive(Debug)]
struct Request {
    targets: Vec<String>,
    seconds: u64,
    minimise: bool,
}

impl Request {
    fn parse(words: &[&str], known: &[String]) -> Result<Self, String> {
        let mut request = Self {
            targets: Vec::new(),
            seconds: 60,
            minimise: false,
        };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            match word {
                "--seconds" => {
                    let value = words.next().ok_or("--seconds needs a number")?;
                    request.seconds = value
                        .parse()
                        .map_err(|_| format!("--seconds needs a number, not {value}"))?;
                }
                "--minimise" => request.minimise = true,
                name if known.iter().any(|known| known == name) => request.targets.push(name.to_owned()),
                name => {
                    return Err(format!(
                        "there is no fuzz target {name}; there are: {}",
                        known.join(", ")
                    ));
                }
            }
        }
        if request.targets.is_empty() {
            request.targets = known.to_vec();
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_targets_and_time() {
        let known = ["packet".to_owned(), "ring".to_owned()];
        let request = Request::parse(&["ring", "--seconds", "7"], &known).expect("the request is good");
        assert_eq!((request.targets, request.seconds), (vec!["ring".to_owned()], 7));
        assert_eq!(Request::parse(&[], &known).expect("none means all").targets, known);
        assert!(Request::parse(&["rings"], &known).is_err_and(|reason| reason.contains("there are: packet, ring")));
        assert!(Request::parse(&["--seconds"], &known).is_err());
        assert!(Request::parse(&["--seconds", "x"], &known).is_err());
    }

    #[test]
    fn the_program_is_where_cargo_says() {
        let messages = b"{\"executable\":null}\nnoise\n{\"executable\":\"target/x\"}\n";
        assert_eq!(program(messages), Some("target/x".into()));
        assert_eq!(program(b""), None);
    }
}
