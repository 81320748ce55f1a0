//! The peers in Python.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::measure::{Answer, answer_of};

pub(crate) enum Failure {
    /// There is no `python3`.
    Missing(String),
    /// It failed.
    Wrong(String),
}

pub(crate) fn measure(case: &str, quick: bool) -> Result<Answer, Failure> {
    static THERE: OnceLock<bool> = OnceLock::new();
    let there = *THERE.get_or_init(|| {
        let status = Command::new("python3")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    });
    if !there {
        return Err(Failure::Missing("there is no python3".to_owned()));
    }
    let mut command = Command::new("python3");
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/peer.py"))
        .arg(case)
        .args(quick.then_some("--quick"));
    answer_of(command).map_err(Failure::Wrong)
}
