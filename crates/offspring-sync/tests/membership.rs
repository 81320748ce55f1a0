//! The membership table: who gets in, who is known to be dead, and that nobody is taken for somebody else.

// UNSAFETY: lays a membership and a mutex over a mapping, as a user of the crate alone does.
#![expect(unsafe_code, reason = "puts objects into a raw mapping")]

mod support;

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, ExitCode};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use offspring_shm::{Mapping, Segment, Shared, SharedSlice};
use offspring_sync::{LockError, Membership, Mutex, Tag};
use offspring_testing::{run_single_threaded, wait_until, watchdog};
use support::{fork, fork_and_hold, sleep_for_ever};

const LONG: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    if let Ok(descriptor) = std::env::var(STRANGER) {
        be_a_stranger(descriptor.parse().unwrap());
    }
    run_single_threaded(&[
        ("strangers_meet_in_a_mapping", strangers_meet_in_a_mapping),
        ("deaths_are_known", deaths_are_known),
        ("thousands_at_once", thousands_at_once),
        ("many_come_and_go", many_come_and_go),
        ("registration_under_fire", registration_under_fire),
        ("every_process_has_its_own_tag", every_process_has_its_own_tag),
        ("members_are_described", members_are_described),
    ])
}

/// Tells a process that this binary started again which descriptor it was given.
const STRANGER: &str = "OFFSPRING_STRANGER_DESCRIPTOR";

/// Where the mutex lies in the mapping, behind the table.
const MUTEX_AT: usize = Membership::bytes_for(50);

/// A membership and a mutex in a mapping, for a process that has nothing else in common with this one.
fn meeting_place(segment: &Segment) -> (Arc<Mapping>, NonNull<Mutex<[u64; 2]>>) {
    let mapping = Arc::new(segment.map().unwrap());
    // SAFETY: inside the mapping, which is larger.
    let mutex = unsafe { mapping.as_ptr().add(MUTEX_AT).cast() };
    (mapping, mutex)
}

fn be_a_stranger(descriptor: i32) -> ! {
    // SAFETY: the parent left this descriptor open for us, and nobody else here knows it.
    let segment = Segment::from_fd(unsafe { OwnedFd::from_raw_fd(descriptor) }).unwrap();
    let (mapping, mutex) = meeting_place(&segment);
    // SAFETY: the parent made the table there, and both keep to the protocol.
    let membership =
        unsafe { Membership::attach_at(mapping.as_ptr(), MUTEX_AT, Arc::<Mapping>::clone(&mapping)) }.unwrap();
    // SAFETY: the parent made the mutex there.
    let mutex = unsafe { mutex.as_ref() };
    let mut pair = mutex.lock().unwrap();
    assert_eq!(*pair, [1, 1]);
    assert_eq!(membership.members().len(), 2);
    pair[0] = 2;
    sleep_for_ever();
}

fn strangers_meet_in_a_mapping() {
    let _watchdog = watchdog(LONG);
    let segment = Segment::anonymous("meeting", MUTEX_AT + 4096).unwrap();
    let (mapping, place) = meeting_place(&segment);
    // SAFETY: nobody else has the mapping yet, and the Arc keeps it.
    let membership =
        unsafe { Membership::init_at(mapping.as_ptr(), MUTEX_AT, 50, Arc::<Mapping>::clone(&mapping)) }.unwrap();
    // SAFETY: as above; behind the table.
    unsafe { place.write(Mutex::new_in(&membership, [0, 0])) };
    // SAFETY: written just now.
    let mutex = unsafe { place.as_ref() };
    *mutex.lock().unwrap() = [1, 1];

    // The number must survive the exec.
    // SAFETY: our own descriptor; the copy is closed below.
    let descriptor = unsafe { libc::fcntl(segment.as_fd().as_raw_fd(), libc::F_DUPFD, 100) };
    let mut stranger = Command::new(std::env::current_exe().unwrap())
        .env(STRANGER, descriptor.to_string())
        .spawn()
        .unwrap();
    // SAFETY: opened just now.
    unsafe { libc::close(descriptor) };
    assert!(wait_until(LONG, || mutex
        .holder()
        .is_some_and(|holder| holder.pid == stranger.id())));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let Err(LockError::OwnerDied(mut pair)) = mutex.lock() else {
        panic!("not told of the stranger's death")
    };
    assert_eq!(*pair, [2, 1], "half-written, as it said");
    *pair = [2, 2];
    pair.mark_consistent();
}

fn deaths_are_known() {
    let _watchdog = watchdog(LONG);
    let family = Membership::family().unwrap();
    let place = Shared::new(AtomicU32::new(0)).unwrap();
    let note = || place.store(family.me().unwrap().bits(), Ordering::Relaxed);
    let noted = || Tag::from_bits(place.load(Ordering::Relaxed)).unwrap();

    let killed = fork_and_hold(note);
    assert_eq!(family.is_dead(noted()), Some(false));
    killed.signal(libc::SIGSTOP);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(family.is_dead(noted()), Some(false), "stopped is not dead");
    killed.kill();
    assert_eq!(family.is_dead(noted()), Some(true));

    // A thread that ends, in a process that goes on.
    let living = fork_and_hold(|| std::thread::scope(|scope| drop(scope.spawn(note).join())));
    assert_eq!(family.is_dead(noted()), Some(true));
    living.kill();

    // A process that ends in order.
    fork(note).join();
    assert_eq!(family.is_dead(noted()), Some(true));

    // One thread of a process is killed with it although it was not the one that was signalled.
    let sibling = fork_and_hold(|| {
        let registered = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                note();
                registered.wait();
            });
            registered.wait();
        });
        note();
    });
    assert_eq!(family.is_dead(noted()), Some(false));
    sibling.kill();
    assert_eq!(family.is_dead(noted()), Some(true));

    assert_eq!(
        family.is_dead(Tag::new(Tag::MAX_INDEX, 1).unwrap()),
        None,
        "no such tag was given out"
    );
}

fn thousands_at_once() {
    let _watchdog = watchdog(LONG);
    const PROCESSES: usize = 4;
    const THREADS: usize = 500;
    let family = Membership::family().unwrap();
    let before = family.members().len();
    let tags = SharedSlice::from_fn(PROCESSES * THREADS, |_| AtomicU32::new(0)).unwrap();
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|process| {
            let (family, tags, mutex) = (&family, &tags, &mutex);
            fork(move || {
                for thread in 0..THREADS {
                    let start = std::thread::Builder::new().stack_size(64 << 10);
                    let slot = process * THREADS + thread;
                    let run = move |family: Membership, tags: &[AtomicU32]| {
                        tags[slot].store(family.me().unwrap().bits(), Ordering::Release);
                        sleep_for_ever();
                    };
                    let (family, tags) = (family.clone(), Box::leak(Box::new(tags.clone())));
                    start.spawn(move || run(family, tags)).unwrap();
                }
                *mutex.lock().unwrap() += 1;
                sleep_for_ever();
            })
        })
        .collect();
    assert!(wait_until(LONG, || tags
        .iter()
        .all(|tag| tag.load(Ordering::Acquire) != 0)));
    let different: HashSet<u32> = tags.iter().map(|tag| tag.load(Ordering::Acquire)).collect();
    assert_eq!(different.len(), PROCESSES * THREADS, "no tag is given out twice");
    assert!(family.members().len() >= before + PROCESSES * THREADS);
    children.into_iter().for_each(|child| child.kill());
    for tag in different {
        assert_eq!(family.is_dead(Tag::from_bits(tag).unwrap()), Some(true));
    }
    assert_eq!(family.members().len(), before, "all places are free again");
}

fn many_come_and_go() {
    let _watchdog = watchdog(LONG);
    let family = Membership::family().unwrap();
    let before = family.members().len();
    let mut seen = HashSet::new();
    for _ in 0..1500 {
        let tag = std::thread::scope(|scope| scope.spawn(|| family.me().unwrap()).join().unwrap());
        assert!(seen.insert(tag), "{tag:?} came back");
        assert_eq!(family.is_dead(tag), Some(true));
    }
    assert_eq!(family.members().len(), before);
}

/// Processes that register, lock and are killed at any moment, several at once.
fn registration_under_fire() {
    let _watchdog = watchdog(LONG);
    let family = Membership::family().unwrap();
    let before = family.members().len();
    let mutex = Shared::new(Mutex::new(0_u64)).unwrap();
    let mut delay = 1_u64;
    for _ in 0..150 {
        let children: Vec<_> = (0..4).map(|_| fork(|| drop(mutex.lock()))).collect();
        delay = delay * 48_271 % 0x7fff_ffff;
        std::thread::sleep(Duration::from_micros(delay % 400));
        children.into_iter().for_each(|child| child.kill());
    }
    assert_eq!(family.members().len(), before);
    drop(mutex.lock_recovered().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| drop(mutex.lock().unwrap()));
        }
    });
}

fn every_process_has_its_own_tag() {
    let _watchdog = watchdog(LONG);
    let family = Membership::family().unwrap();
    let mine = family.me().unwrap();
    let tags = SharedSlice::from_fn(3, |_| AtomicU32::new(0)).unwrap();
    fork(|| {
        tags[0].store(family.me().unwrap().bits(), Ordering::Relaxed);
        std::thread::scope(|scope| {
            scope.spawn(|| tags[1].store(family.me().unwrap().bits(), Ordering::Relaxed));
        });
        fork(|| tags[2].store(family.me().unwrap().bits(), Ordering::Relaxed)).join();
    })
    .join();
    let all: HashSet<u32> = tags
        .iter()
        .map(|tag| tag.load(Ordering::Relaxed))
        .chain([mine.bits()])
        .collect();
    assert_eq!(all.len(), 4);
    assert_eq!(family.me().unwrap(), mine);
}

fn members_are_described() {
    let _watchdog = watchdog(LONG);
    let family = Membership::family().unwrap();
    let place = Shared::new(AtomicU32::new(0)).unwrap();
    let child = fork_and_hold(|| place.store(family.me().unwrap().bits(), Ordering::Relaxed));
    let tag = Tag::from_bits(place.load(Ordering::Relaxed)).unwrap();
    let member = family.member(tag).unwrap();
    assert_eq!((member.pid, member.tid), (child.pid(), child.pid()));
    assert!(member.to_string().contains(&format!("of process {}", child.pid())));
    child.kill();
    assert_eq!(
        family.member(tag).map(|member| member.pid),
        Some(member.pid),
        "known until its place is taken"
    );
    assert!(format!("{family:?}").contains("members"));
}
