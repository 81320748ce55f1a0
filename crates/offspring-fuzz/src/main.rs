//! Runs one target: with the engine built in, over what the engine makes up; without, over the files that are named.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod engine;

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(target) = arguments.next().as_deref().and_then(offspring_fuzz::target) else {
        let names: Vec<_> = offspring_fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("usage: offspring-fuzz TARGET FILE...\n\ntargets: {}", names.join(", "));
        return std::process::ExitCode::FAILURE;
    };
    for file in arguments {
        match std::fs::read(&file) {
            Ok(data) => (target.run)(&data),
            Err(error) => {
                eprintln!("cannot read {file}: {error}");
                return std::process::ExitCode::FAILURE;
            }
        }
        println!("{}: {file} passed", target.name);
    }
    std::process::ExitCode::SUCCESS
}
