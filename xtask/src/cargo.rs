//! Calls of cargo, printed so that a person can repeat them.

use std::env;
use std::fmt;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::workspace::root;

/// One call of cargo in the root of the workspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cargo {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Cargo {
    /// From the words of a command line, without `cargo`.
    pub(crate) fn new(line: &str) -> Self {
        Self {
            arguments: line.split_ascii_whitespace().map(str::to_owned).collect(),
            variables: Vec::new(),
        }
    }

    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(&self.arguments).current_dir(root());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it with the output going where ours goes.
    pub(crate) fn run(&self) -> Outcome {
        let status = self.command().stdin(Stdio::null()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("cargo ended with {status}")),
            Err(error) => Err(format!("cannot start cargo: {error}")),
        }
    }

    /// Runs it and returns what it wrote to its standard output.
    pub(crate) fn output(&self) -> Result<Vec<u8>, String> {
        let output = self.command().stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        match output {
            Ok(output) if output.status.success() => Ok(output.stdout),
            Ok(output) => Err(format!("`{self}` ended with {}", output.status)),
            Err(error) => Err(format!("cannot start cargo: {error}")),
        }
    }
}

impl fmt::Display for Cargo {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.variables {
            write!(out, "{name}={} ", quoted(value))?;
        }
        out.write_str("cargo")?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(out, " {}", quoted(argument)))
    }
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_=./,:@%+".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_printed_as_a_shell_takes_it() {
        let call = Cargo::new("test -p offspring-sync")
            .argument("it's")
            .variable("RUSTFLAGS", "--cfg loom");
        assert_eq!(
            call.to_string(),
            r"RUSTFLAGS='--cfg loom' cargo test -p offspring-sync 'it'\''s'"
        );
    }

    #[test]
    fn a_failure_is_reported() {
        assert!(Cargo::new("--version").run().is_ok());
        assert!(Cargo::new("no-such-command-of-cargo").output().is_err());
    }
}
