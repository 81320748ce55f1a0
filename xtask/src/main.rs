//! The project's own commands: `cargo xtask ci`, `tidy`, `bench`, `stress`.

mod bench;
mod cargo;
mod ci;
mod examples;
mod fuzz;
mod source;
mod stress;
mod tidy;
mod workspace;

use std::env;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci [STEP...]         everything that must pass before a change is merged; with names, only those steps, in their order
  tidy                 the house rules that no compiler checks
  bench [SUITE...] [--quick] [--json FILE]
                       ours and the peers' side by side; suites: process, pool, locks, memory, all
  stress [SUITE...] [--seconds N] [--seed S]
                       processes killed at random moments; without names, all suites
  fuzz [TARGET...] [--seconds N] [--minimise]
                       decoders of shared and received bytes against what a fuzzer makes up; --minimise makes the
                       corpus that is kept as small as it can be, with what was found
";

/// A command that failed has said why; the text is the last line.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.split_first() {
        Some((&"ci", steps)) => ci::run(steps),
        Some((&"tidy", [])) => tidy::run(),
        Some((&"bench", rest)) => bench::run(rest),
        Some((&"stress", rest)) => stress::run(rest),
        Some((&"fuzz", rest)) => fuzz::run(rest),
        Some((&("help" | "--help" | "-h"), _)) => {
            print!("{USAGE}");
            Ok(())
        }
        Some((command, _)) => Err(format!("unknown command or arguments: {command}\n\n{USAGE}")),
        None => Err(format!("no command given\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}
