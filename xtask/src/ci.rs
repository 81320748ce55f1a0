//! Everything that must pass before a change is merged, in the order that finds mistakes soonest.

use std::time::Instant;

use crate::cargo::Cargo;
use crate::workspace::Workspace;
use crate::{Outcome, examples, fuzz, stress, tidy};

/// A step either is one call of cargo, or does more and is repeated through xtask.
enum Step {
    Cargo(Cargo),
    Own(fn(&Workspace) -> Outcome),
}

/// Runs the steps that are named, or all.
pub(crate) fn run(names: &[&str]) -> Outcome {
    let workspace = Workspace::load()?;
    let steps = steps(&workspace);
    if let Some(unknown) = names.iter().find(|name| !steps.iter().any(|(step, _)| step == *name)) {
        let known: Vec<_> = steps.iter().map(|(name, _)| name.as_str()).collect();
        return Err(format!("there is no step {unknown}; there are: {}", known.join(", ")));
    }
    let chosen = steps
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(&name.as_str()));
    let start = Instant::now();
    let mut times = Vec::new();
    for (name, step) in chosen {
        println!("\n=== {name}");
        let begin = Instant::now();
        let (outcome, repeat) = match step {
            Step::Cargo(call) => (call.run(), call.to_string()),
            Step::Own(run) => (run(&workspace), format!("cargo xtask ci {name}")),
        };
        let seconds = begin.elapsed().as_secs_f64();
        outcome.map_err(|reason| {
            format!("step {name} failed after {seconds:.1} s: {reason}\nto repeat it:\n    {repeat}")
        })?;
        println!("=== {name}: ok, {seconds:.1} s");
        times.push((name, seconds));
    }
    println!();
    for (name, seconds) in &times {
        println!("{name:24} {seconds:8.1} s");
    }
    println!(
        "ci: all {} steps passed in {:.1} s",
        times.len(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn steps(workspace: &Workspace) -> Vec<(String, Step)> {
    let mut steps = Vec::new();
    let mut add = |name: &str, step| steps.push((name.to_owned(), step));
    let cargo = |line: &str| Step::Cargo(Cargo::new(line));
    add("fmt", cargo("fmt --all --check"));
    add("tidy", Step::Own(|_| tidy::run()));
    add("clippy", cargo("clippy --workspace --all-targets -- -D warnings"));
    // Without the start hook other code is compiled: that of `offspring::init()`.
    add(
        "clippy-without-hook",
        cargo("clippy -p offspring -p offspring-pool -p offspring-process --lib --no-default-features -- -D warnings"),
    );
    add("test", cargo("nextest run --workspace --profile ci"));
    add("doctest", cargo("test --doc --workspace"));
    add("examples", Step::Own(examples::run));
    add(
        "stripped",
        Step::Own(|workspace| examples::run_with_profile(workspace, "quickstart", "stripped")),
    );
    add(
        "doc",
        Step::Cargo(Cargo::new("doc --no-deps --workspace").variable("RUSTDOCFLAGS", "-D warnings")),
    );
    for package in &workspace.packages {
        if package.targets_of_kind("test").any(|target| target.name == "loom") {
            let call = Cargo::new("test --release --test loom --package").argument(&package.name);
            // Its own folder: with other flags everything would be compiled anew, there and back.
            let folder = workspace.target_directory.join("loom").to_string_lossy().into_owned();
            let call = call
                .variable("RUSTFLAGS", "--cfg loom")
                .variable("CARGO_TARGET_DIR", folder);
            add(&format!("loom-{}", package.name), Step::Cargo(call));
        }
    }
    add("fuzz", Step::Own(fuzz::short));
    add("stress", Step::Own(|_| stress::short()));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Package, Target};

    #[test]
    fn a_crate_with_models_gets_a_step() {
        let target = Target {
            name: "loom".to_owned(),
            kind: "test".to_owned(),
            path: String::new(),
        };
        let package = Package {
            name: "offspring-sync".to_owned(),
            targets: vec![target],
            ..Package::default()
        };
        let workspace = Workspace {
            packages: vec![package],
            target_directory: "target".into(),
            ..Workspace::default()
        };
        let steps = steps(&workspace);
        let step = steps.iter().find(|(name, _)| name == "loom-offspring-sync");
        let Some((_, Step::Cargo(call))) = step else {
            panic!("there is no such step")
        };
        let line = "RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom cargo test --release --test loom --package offspring-sync";
        assert_eq!(call.to_string(), line);
    }

    #[test]
    fn an_unknown_step_is_refused() {
        assert!(run(&["no-such-step"]).is_err_and(|reason| reason.contains("there are: fmt, tidy, clippy")));
    }
}
