//! Our three ways to a child, on the crate that starts them.

use offspring_process::{Arguments, Child, EntryPoint, ExitStatus, Launcher, StartMethod};

static TRIVIAL: EntryPoint = EntryPoint::new("trivial", trivial);

fn trivial(_: Arguments) -> i32 {
    7
}

pub(crate) fn zygote() -> Result<(), String> {
    wait_for(Launcher::new().method(StartMethod::Zygote).start(&TRIVIAL, &[], &[]))
}

pub(crate) fn spawn() -> Result<(), String> {
    wait_for(Launcher::new().method(StartMethod::Spawn).start(&TRIVIAL, &[], &[]))
}

pub(crate) fn fork() -> Result<(), String> {
    wait_for(Launcher::new().fork(|| 7))
}

fn wait_for(child: std::io::Result<Child>) -> Result<(), String> {
    match child.and_then(|child| child.wait()) {
        Ok(ExitStatus::Code(7)) => Ok(()),
        Ok(status) => Err(format!("the child {status}")),
        Err(error) => Err(error.to_string()),
    }
}
