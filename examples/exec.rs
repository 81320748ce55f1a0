//! The lowest floor alone: fork, become another program in the child, wait for it.
//!
//! ```sh
//! cargo run --release --example exec [PROGRAM [ARGUMENT]...]
//! ```

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, io};

use offspring_process::Launcher;

fn main() -> io::Result<()> {
    let mut words = env::args_os().skip(1);
    let program = words.next().unwrap_or_else(|| "echo".into());
    let mut arguments: Vec<_> = words.collect();
    if env::args_os().len() < 2 {
        arguments.push("the child became another program".into());
    }

    let child = Launcher::new().fork(|| {
        // Only a failure comes back from here.
        let error = Command::new(&program).args(&arguments).exec();
        eprintln!("cannot become {}: {error}", program.display());
        127
    })?;
    println!("it {}", child.wait()?);
    Ok(())
}
