//! One function in a process of its own: its life, its end, its relatives.
#![cfg(feature = "start-hook")]

mod life;
mod relatives;
#[path = "../scene/mod.rs"]
mod scene;

use std::os::fd::AsFd;
use std::panic::panic_any;
use std::process::{Stdio, id};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use offspring_pool::{Process, active_children, current, parent};
use offspring_process::{ExitStatus, StartMethod, zygote};
use offspring_shm::{Shared, SharedSlice};
use scene::{Scene, assert_gone, eventually, program, role};

const METHODS: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

fn sleep_long() {
    thread::sleep(Duration::from_secs(1000));
}

fn sleeper() -> Process<()> {
    Process::builder().daemon(true).spawn(sleep_long, ()).unwrap()
}

fn signal_of(process: &Process<()>) -> Option<i32> {
    process.exit_status().unwrap().unwrap().signal()
}

/// Whether a descriptor is readable now.
fn readable(process: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, 0_u8).unwrap() == 1
}
