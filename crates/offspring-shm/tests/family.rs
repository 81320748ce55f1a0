//! The family across processes. Tests fork, so the binary has one thread.

// UNSAFETY: forks, kills, and speaks for children to the family.
#![expect(
    unsafe_code,
    reason = "tests of fork and of functions whose caller vouches for a process"
)]

use std::env;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, ExitCode};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use offspring_shm::{Handle, Owner, Shared, SharedSlice, family};
use offspring_testing::{run_single_threaded, watchdog};

const MIB: usize = 1 << 20;

/// Forks; the child ends with 0 if `work` returns, else with 101.
fn child(work: impl FnOnce()) -> Pid {
    // SAFETY: this process has one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            // SAFETY: ends the process.
            unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) }
        }
    }
}

fn wait(child: Pid) {
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
}

/// Forks a child of the family.
fn member(work: impl FnOnce(Owner)) -> (Pid, Owner) {
    let owner = family::reserve_fork().unwrap();
    let pid = child(|| {
        // SAFETY: reserved for this child, which has one thread.
        unsafe { family::become_child(owner).unwrap() };
        work(owner);
    });
    (pid, owner)
}

fn release(owner: Owner) {
    // SAFETY: every caller has waited for the process.
    unsafe { family::release(owner).unwrap() };
}

/// A word in shared memory for tests to signal with.
fn word() -> Shared<AtomicU64> {
    Shared::new(AtomicU64::new(0)).unwrap()
}

fn await_change(word: &AtomicU64, from: u64) -> u64 {
    loop {
        match word.load(Acquire) {
            value if value == from => std::thread::sleep(Duration::from_micros(50)),
            value => return value,
        }
    }
}

fn nothing_but_the_root_owns_anything() {
    let census = family::arena().unwrap().census();
    let me = family::me().unwrap();
    assert!(census.owners.keys().all(|&owner| owner == me), "{census:?}");
    assert_eq!((census.orphans, census.garbage), (0, 0), "{census:?}");
    assert_eq!(family::children_of(me), []);
}

fn a_child_allocates_and_is_swept() {
    let arena = family::arena().unwrap();
    let me = family::me().unwrap();
    // The parent has a cache that the child must not use.
    let blocks: Vec<_> = (0..10).map(|_| arena.allocate(me, 1000).unwrap()).collect();
    for block in blocks {
        // SAFETY: nobody uses the block.
        unsafe { arena.free(block) };
    }
    let (pid, owner) = member(|owner| {
        assert_eq!(family::me().unwrap(), owner);
        for size in [1, 1000, 1000, 1000, 100_000, 3 * MIB] {
            let block = arena.allocate(owner, size).unwrap();
            assert_eq!(arena.owner_of(block.offset), Some(owner));
        }
    });
    assert_eq!(family::children_of(me), [owner]);
    wait(pid);
    let (process, since) = arena.process_of(owner).unwrap();
    assert_eq!(process, pid.as_raw() as u32);
    assert!(since > Duration::ZERO);
    assert!(arena.census().owners[&owner].bytes >= 3 * MIB);
    release(owner);
    release(owner);
    assert!(!arena.is_reserved(owner));
    assert_eq!(arena.process_of(owner), None);
    nothing_but_the_root_owns_anything();
}

fn a_foreign_fork_may_not_act_as_its_parent() {
    let arena = family::arena().unwrap();
    let me = family::me().unwrap();
    let small = arena.allocate(me, 500).unwrap();
    let large = arena.allocate(me, 2 * MIB).unwrap();
    let value = word();
    let handle = value.to_handle();
    let copy = value.clone();
    let pid = child(move || {
        let error = family::me().unwrap_err();
        assert!(error.to_string().contains("forked by other means"), "{error}");
        assert!(family::reserve_child().is_err());
        assert!(Shared::new(1_u8).is_err());
        assert!(Shared::<AtomicU64>::from_handle(handle).is_err());
        for len in [1, 3 * MIB] {
            let error = arena.allocate(me, len).unwrap_err();
            assert!(
                !error.is_full() && error.to_string().contains("forked by other means"),
                "{error}"
            );
        }
        // SAFETY: not this process's blocks, which is the point: they must not be freed.
        assert!(unsafe { !arena.free(small) && !arena.free(large) });
        arena.flush();
        drop((value, copy));
    });
    wait(pid);
    assert_eq!(arena.owner_of(small.offset), Some(me));
    assert_eq!(arena.owner_of(large.offset), Some(me));
    // SAFETY: nobody uses the blocks.
    assert!(unsafe { arena.free(small) && arena.free(large) });
    // The parent's own copies of `value` and `copy` were moved into the closure and dropped with it.
    assert!(Shared::<AtomicU64>::from_handle(handle).is_err());
    nothing_but_the_root_owns_anything();
}

fn a_value_outlives_its_killed_creator() {
    let mail = SharedSlice::<AtomicU64>::zeroed(4).unwrap();
    let (pid, owner) = member(|_| {
        let made = SharedSlice::from_fn(MIB, |i| i as u32).unwrap();
        let Handle { offset, id, len } = made.to_handle();
        for (slot, part) in mail.iter().zip([offset, id, len]) {
            slot.store(part, Relaxed);
        }
        mail[3].store(1, Release);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    await_change(&mail[3], 0);
    let handle = Handle {
        offset: mail[0].load(Relaxed),
        id: mail[1].load(Relaxed),
        len: mail[2].load(Relaxed),
    };
    let taken = SharedSlice::<u32>::from_handle(handle).unwrap();
    kill(pid, Signal::SIGKILL).unwrap();
    waitpid(pid, None).unwrap();
    release(owner);
    assert!(taken.iter().enumerate().all(|(i, &n)| i == n as usize));
    let again = SharedSlice::<u32>::from_handle(handle).unwrap();
    drop((taken, again));
    assert!(SharedSlice::<u32>::from_handle(handle).is_err());
    drop(mail);
    assert_eq!(family::arena().unwrap().census().shared.blocks, 0);
    nothing_but_the_root_owns_anything();
}

fn a_value_of_which_only_the_dead_had_a_handle_is_freed() {
    let (pid, owner) = member(|_| {
        std::mem::forget((Shared::new(5_u64).unwrap(), SharedSlice::<u8>::zeroed(5 * MIB).unwrap()));
    });
    wait(pid);
    assert_eq!(family::arena().unwrap().census().shared.blocks, 2);
    release(owner);
    assert_eq!(family::arena().unwrap().census().shared.blocks, 0);
    nothing_but_the_root_owns_anything();
}

fn a_forked_child_keeps_what_its_parent_drops_at_once() {
    let flag = word();
    let numbers = SharedSlice::from_fn(1000, |i| i as u64).unwrap();
    let handle = numbers.to_handle();
    let (pid, owner) = member(|_| {
        await_change(&flag, 0);
        assert!(numbers.iter().enumerate().all(|(i, &n)| i as u64 == n));
    });
    drop(numbers);
    // Freed memory would be used for this.
    let others: Vec<_> = (0..50)
        .map(|_| SharedSlice::from_fn(1000, |_| u64::MAX).unwrap())
        .collect();
    flag.store(1, Release);
    wait(pid);
    drop(others);
    assert!(
        SharedSlice::<u64>::from_handle(handle).is_ok(),
        "the child has not been released yet"
    );
    release(owner);
    assert!(SharedSlice::<u64>::from_handle(handle).is_err());
    nothing_but_the_root_owns_anything();
}

fn a_child_that_was_never_started_leaves_nothing() {
    let value = word();
    let handle = value.to_handle();
    let owner = family::reserve_fork().unwrap();
    drop(value);
    assert!(Shared::<AtomicU64>::from_handle(handle).is_ok());
    release(owner);
    assert!(Shared::<AtomicU64>::from_handle(handle).is_err());
    nothing_but_the_root_owns_anything();
}

fn grandchildren_are_found_by_their_parent() {
    let flag = word();
    let (pid, owner) = member(|_| {
        let (grandchild, _) = member(|owner| {
            family::arena().unwrap().allocate(owner, MIB).unwrap();
        });
        wait(grandchild);
        flag.store(grandchild.as_raw() as u64, Release);
    });
    wait(pid);
    let arena = family::arena().unwrap();
    let grandchildren = family::children_of(owner);
    assert_eq!(grandchildren.len(), 1);
    assert_eq!(
        u64::from(arena.process_of(grandchildren[0]).unwrap().0),
        flag.load(Acquire)
    );
    release(grandchildren[0]);
    release(owner);
    nothing_but_the_root_owns_anything();
}

/// Runs this binary anew with `--role`, and the arena's descriptor and a tag if there are any.
fn fresh_process(role: &str, arena: Option<(OwnedFd, Owner)>) {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg("--role").arg(role);
    if let Some((fd, owner)) = &arena {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        command.arg(fd.as_raw_fd().to_string()).arg(owner.raw().to_string());
    }
    let status = command.status().unwrap();
    assert!(status.success(), "{role}: {status}");
}

fn a_fresh_process_adopts_the_arena() {
    let arena = family::arena().unwrap();
    let owner = family::reserve_child().unwrap();
    let value = SharedSlice::from_fn(10, |i| i as u64).unwrap();
    let Handle { offset, id, len } = value.to_handle();
    for (root, part) in arena.roots()[13..].iter().zip([offset, id, len]) {
        root.store(part, Relaxed);
    }
    fresh_process("adopt", Some((arena.as_fd().try_clone_to_owned().unwrap(), owner)));
    assert!(arena.census().owners[&owner].bytes >= 2 * MIB);
    release(owner);
    nothing_but_the_root_owns_anything();
}

fn adopt_role(fd: i32, owner: u32) {
    // SAFETY: inherited, and nobody else's in this process.
    let fd = || unsafe { OwnedFd::from_raw_fd(libc::dup(fd)) };
    let owner = Owner::from_raw(owner).unwrap();
    let stranger = Owner::from_raw(owner.raw() + 1).unwrap();
    // SAFETY: reserved for this process, which has one thread; the stranger is refused.
    unsafe {
        assert!(family::adopt(std::fs::File::open("/dev/null").unwrap().into(), owner).is_err());
        assert!(
            family::adopt(fd(), stranger)
                .unwrap_err()
                .to_string()
                .contains("not reserved")
        );
        family::adopt(fd(), owner).unwrap();
        let other = offspring_shm::Arena::create(MIB).unwrap();
        assert!(family::adopt(other.as_fd().try_clone_to_owned().unwrap(), owner).is_err());
    }
    assert_eq!(family::me().unwrap(), owner);
    let arena = family::arena().unwrap();
    let [offset, id, len] = [13, 14, 15].map(|root: usize| arena.roots()[root].load(Relaxed));
    let value = SharedSlice::<u64>::from_handle(Handle { offset, id, len }).unwrap();
    assert_eq!(*value, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    arena.allocate(owner, 2 * MIB).unwrap();
    // SAFETY: refused.
    assert!(unsafe { family::release(owner) }.is_err());
}

fn a_small_address_space_gets_a_small_arena() {
    fresh_process("rlimit", None);
    fresh_process("tiny", None);
}

fn rlimit_role() {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_AS, 1 << 30, 1 << 30).unwrap();
    let arena = family::arena().unwrap();
    assert!(
        arena.capacity() >= 64 * MIB && arena.capacity() < 1 << 30,
        "{}",
        arena.capacity()
    );
    drop(SharedSlice::<u8>::zeroed(MIB).unwrap());
    let error = family::set_capacity(1 << 30).unwrap_err();
    assert!(error.to_string().contains("before anything is shared"), "{error}");
}

fn tiny_role() {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_AS, 60 << 20, 60 << 20).unwrap();
    let error = family::arena().unwrap_err();
    assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
    assert!(family::set_capacity(0).is_err());
    family::set_capacity(3 * MIB + 1).unwrap();
    assert_eq!(family::arena().unwrap().capacity(), 4 * MIB);
    drop(SharedSlice::<u8>::zeroed(MIB).unwrap());
}

fn a_limit_on_files_is_an_error_not_a_signal() {
    fresh_process("fsize", None);
}

fn fsize_role() {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE, 1 << 30, 1 << 30).unwrap();
    let error = offspring_shm::Segment::anonymous("test", 2 << 30).unwrap_err();
    assert!(error.to_string().contains("RLIMIT_FSIZE"), "{error}");
    assert!(family::arena().unwrap().capacity() < 1 << 30);
}

fn main() -> ExitCode {
    let _watchdog = watchdog(Duration::from_secs(60));
    let arguments: Vec<String> = env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == "--role") {
        match arguments[2].as_str() {
            "adopt" => adopt_role(arguments[3].parse().unwrap(), arguments[4].parse().unwrap()),
            "rlimit" => rlimit_role(),
            "tiny" => tiny_role(),
            "fsize" => fsize_role(),
            other => panic!("no role {other}"),
        }
        return ExitCode::SUCCESS;
    }
    run_single_threaded(&[
        ("a_child_allocates_and_is_swept", a_child_allocates_and_is_swept),
        (
            "a_foreign_fork_may_not_act_as_its_parent",
            a_foreign_fork_may_not_act_as_its_parent,
        ),
        (
            "a_value_outlives_its_killed_creator",
            a_value_outlives_its_killed_creator,
        ),
        (
            "a_value_of_which_only_the_dead_had_a_handle_is_freed",
            a_value_of_which_only_the_dead_had_a_handle_is_freed,
        ),
        (
            "a_forked_child_keeps_what_its_parent_drops_at_once",
            a_forked_child_keeps_what_its_parent_drops_at_once,
        ),
        (
            "a_child_that_was_never_started_leaves_nothing",
            a_child_that_was_never_started_leaves_nothing,
        ),
        (
            "grandchildren_are_found_by_their_parent",
            grandchildren_are_found_by_their_parent,
        ),
        ("a_fresh_process_adopts_the_arena", a_fresh_process_adopts_the_arena),
        (
            "a_small_address_space_gets_a_small_arena",
            a_small_address_space_gets_a_small_arena,
        ),
        (
            "a_limit_on_files_is_an_error_not_a_signal",
            a_limit_on_files_is_an_error_not_a_signal,
        ),
    ])
}
