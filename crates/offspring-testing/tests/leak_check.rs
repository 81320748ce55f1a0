// UNSAFETY: mapping and unmapping without a library is the leak to be caught.
#![expect(unsafe_code, reason = "memfd_create, mmap and munmap")]
//! Each kind of leak is caught, and named in words.

use std::fs::{self, File};
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::Duration;

use offspring_testing::LeakCheck;

fn check() -> LeakCheck {
    LeakCheck::new().patience(Duration::from_millis(20))
}

fn sleeper() -> Child {
    Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("cat starts")
}

fn end(mut child: Child) {
    child.kill().expect("the child is ours");
    child.wait().expect("the child is ours");
}

#[track_caller]
fn assert_one(leaks: &[String], words: &[&str]) {
    assert_eq!(leaks.len(), 1, "{leaks:?}");
    for word in words {
        assert!(leaks[0].contains(word), "{leaks:?} does not say {word}");
    }
}

#[test]
fn nothing_is_reported_when_nothing_is_left() {
    let check = check();
    let file = File::open("/dev/null").expect("/dev/null is there");
    end(sleeper());
    drop(file);
    assert!(check.leaks().is_empty());
}

#[test]
fn a_descriptor() {
    let check = check();
    let file = File::open("/dev/null").expect("/dev/null is there");
    assert_one(
        &check.leaks(),
        &[
            "descriptors of /dev/null",
            &format!("{} -> /dev/null", file.as_raw_fd()),
        ],
    );
    drop(file);
    assert!(check.leaks().is_empty());
}

#[test]
fn a_child_that_runs() {
    let check = check();
    let mut child = sleeper();
    let input = child.stdin.take();
    let leaks = check.leaks();
    let named = leaks
        .iter()
        .filter(|leak| leak.starts_with("children named cat"))
        .count();
    assert_eq!(named, 1, "{leaks:?}");
    assert!(
        leaks.iter().any(|leak| leak.contains(&child.id().to_string())),
        "{leaks:?}"
    );
    drop(input);
    end(child);
    assert!(check.leaks().is_empty());
}

#[test]
fn a_zombie() {
    let check = check();
    let mut child = Command::new("true").spawn().expect("true starts");
    sleep(Duration::from_millis(200));
    let leaks = check.leaks();
    // The standard library may hold a pidfd of the child, which is a second leak, and right so.
    assert!(
        leaks
            .iter()
            .any(|leak| leak.contains(&format!("child {} (true) is a zombie", child.id()))),
        "{leaks:?}"
    );
    child.wait().expect("the child is ours");
    drop(child);
    assert!(check.leaks().is_empty());
}

#[test]
fn a_name_in_dev_shm() {
    let check = check();
    let path = format!("/dev/shm/offspring-leak-check-{}", std::process::id());
    // It stays open, so that the checks of other tests see that it is not theirs.
    let file = File::create_new(&path).expect("/dev/shm can be written");
    let leaks = check.leaks();
    fs::remove_file(&path).expect("the file is ours");
    drop(file);
    assert!(leaks.contains(&format!("{path} was not there before")), "{leaks:?}");
    assert!(check.leaks().is_empty());
}

#[test]
fn a_shared_mapping() {
    let check = check();
    // SAFETY: the name is a C string.
    let raw = unsafe { libc::memfd_create(c"leaked".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(raw >= 0, "{}", Error::last_os_error());
    // SAFETY: the descriptor is new and nobody else's.
    let file = unsafe { File::from_raw_fd(raw) };
    file.set_len(8192).expect("a memfd can grow");
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses a free address.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), 8192, protection, libc::MAP_SHARED, raw, 0) };
    assert_ne!(address, libc::MAP_FAILED, "{}", Error::last_os_error());
    drop(file);
    assert_one(
        &check.leaks(),
        &["shared mapping of /memfd:leaked", "0 bytes before, 8192 bytes now"],
    );
    // SAFETY: the mapping was made above and nothing refers to it.
    assert_eq!(unsafe { libc::munmap(address, 8192) }, 0);
    assert!(check.leaks().is_empty());
}

#[test]
fn what_vanishes_in_time_is_no_leak() {
    let check = LeakCheck::new();
    let file = File::open("/dev/null").expect("/dev/null is there");
    let closer = spawn(move || {
        sleep(Duration::from_millis(150));
        drop(file);
    });
    check.finish();
    closer.join().expect("the thread only sleeps");
}

#[test]
#[should_panic(expected = "left behind:\n  descriptors of /dev/zero: 0 before, 1 now")]
fn dropping_the_check_panics_with_the_difference() {
    let _file;
    let _check = check();
    _file = File::open("/dev/zero").expect("/dev/zero is there");
}
