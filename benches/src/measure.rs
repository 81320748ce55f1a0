//! One measurement in a process of its own.

use std::env;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No round of one implementation takes longer; what does is reported as hung.
const LIMIT: Duration = Duration::from_secs(90);

/// What a measurement says.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) value: f64,
    /// What a reader of the number must know, for example that a slow peer got fewer tasks.
    pub(crate) note: Option<String>,
}

pub(crate) fn in_fresh_process(case: &str, implementation: &str, quick: bool) -> Result<Answer, String> {
    let program = env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    let mut command = Command::new(program);
    command
        .args(["--measure", case, implementation])
        .args(quick.then_some("--quick"));
    answer_of(command)
}

/// Runs a command that prints `value NUMBER` and perhaps `note TEXT`.
pub(crate) fn answer_of(mut command: Command) -> Result<Answer, String> {
    // A group of its own, so that a measurement that hangs can be killed with all its children.
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    // The reason is enough in a table.
    command.env("RUST_BACKTRACE", "0");
    crate::work::tell(&mut command);
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let (mut out, mut err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let read_out = thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let read_err = thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text)
    });
    let end = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break Some(status);
        }
        if Instant::now() > end {
            break None;
        }
        // 20 ms: the driver must not take processor time from what is measured.
        thread::sleep(Duration::from_millis(20));
    };
    if status.is_none_or(|status| !status.success()) {
        crate::machine::kill_group(child.id());
        child.wait().map_err(|error| error.to_string())?;
    }
    let text =
        |thread: thread::JoinHandle<std::io::Result<String>>| thread.join().expect("no panic").unwrap_or_default();
    let (out, err) = (text(read_out), text(read_err));
    match status {
        None => Err(format!("hung: killed after {LIMIT:?}")),
        Some(status) if !status.success() => Err(format!("ended with {status}: {}", err.trim())),
        Some(_) => parse(&out).ok_or_else(|| format!("printed no value: {out}{err}")),
    }
}

fn parse(text: &str) -> Option<Answer> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("value "))?
        .parse()
        .ok()?;
    let note = text
        .lines()
        .find_map(|line| line.strip_prefix("note "))
        .map(str::to_owned);
    Some(Answer { value, note })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_value_and_perhaps_a_note() {
        assert_eq!(parse("noise\nvalue 1.5\n"), Some(Answer { value: 1.5, note: None }));
        assert_eq!(
            parse("value 2\nnote fewer tasks"),
            Some(Answer {
                value: 2.0,
                note: Some("fewer tasks".to_owned())
            })
        );
        assert_eq!(parse("note alone"), None);
    }

    #[test]
    fn a_failure_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo reason >&2; exit 3"]);
        assert!(answer_of(command).is_err_and(|reason| reason.contains("exit status: 3: reason")));
    }
}
