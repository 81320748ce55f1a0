//! The zygote: its death at any moment, what its children inherit, what is loaded in advance, what it costs.
//
// UNSAFETY: the tests limit, kill and inspect processes by system calls.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "system calls behind the crate's back")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use offspring_process::{Arguments, Child, EntryPoint, ExitStatus, Launcher, Stdio, zygote};
use offspring_testing::{LeakCheck, process_gone, wait_until, watchdog};

static CODE: EntryPoint = EntryPoint::new("code", |arguments: Arguments| i32::from(arguments.payload[0]));
static SLEEP: EntryPoint = EntryPoint::new("sleep", |_: Arguments| {
    thread::sleep(Duration::from_secs(1000));
    0
});

fn code(code: u8) -> Child {
    Launcher::new().start(&CODE, &[code], &[]).unwrap()
}

/// Runs a test in a process of its own, with a zygote of its own.
fn in_a_process(entry: &'static EntryPoint) {
    let child = Launcher::new().start(entry, &[], &[]).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
}

static REPORT: EntryPoint = EntryPoint::new("report", |mut arguments: Arguments| {
    File::from(arguments.descriptors.remove(0))
        .write_all(&arguments.payload)
        .unwrap();
    7
});

/// Kills the zygote at random moments while processes are started. Each must run exactly once.
fn start_under_fire() -> i32 {
    const ROUNDS: u32 = 400;
    let _watchdog = watchdog(Duration::from_secs(100));
    let leaks = LeakCheck::new();
    let finished = AtomicBool::new(false);
    let (mut output, of_children) = std::io::pipe().unwrap();
    let (seen, kills) = thread::scope(|scope| {
        // Ends the other thread when an assertion fails here, too.
        let finish = Finish(&finished);
        let killer = scope.spawn(|| kill_until(&finished));
        let reader = scope.spawn(move || {
            let mut seen = vec![0_u32; ROUNDS as usize];
            let mut number = [0; 4];
            while output.read_exact(&mut number).is_ok() {
                seen[u32::from_le_bytes(number) as usize] += 1;
            }
            seen
        });
        for round in 0..ROUNDS {
            let child = Launcher::new()
                .start(&REPORT, &round.to_le_bytes(), &[of_children.as_fd()])
                .unwrap();
            assert_eq!(child.wait().unwrap(), ExitStatus::Code(7), "process {round}");
        }
        drop((finish, of_children));
        (reader.join().unwrap(), killer.join().unwrap())
    });
    assert!(seen.iter().all(|&count| count == 1), "{seen:?}");
    assert!(kills > 20, "only {kills} kills");
    zygote::shutdown().unwrap();
    leaks.finish();
    0
}

struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills zygotes, those that work and those that are on their way to be one, and returns how many.
fn kill_until(finished: &AtomicBool) -> u32 {
    let (mut kills, mut killed, mut random) = (0, 0, 12_345_u64);
    while !finished.load(Ordering::Relaxed) {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let pause = Duration::from_micros((random >> 33) % 3000);
        // A name that only a fresh copy has. A clone of the zygote has the zygote's for a moment, so that one goes by its
        // number; nobody else kills it, so it has that number until then.
        let victim = if random >> 62 == 0 {
            thread::sleep(pause / 2);
            child_named("exe")
        } else {
            let pid = zygote::pid().filter(|&pid| pid != killed);
            thread::sleep(pause);
            pid
        };
        if let Some(pid) = victim {
            // SAFETY: no pointers.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
            (kills, killed) = (kills + 1, pid);
        }
    }
    kills
}

fn child_named(name: &str) -> Option<u32> {
    let lists: Vec<String> = std::fs::read_dir("/proc/self/task")
        .ok()?
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .collect();
    lists
        .iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .find(|pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        })
}

static UNDER_FIRE: EntryPoint = EntryPoint::new("under-fire", |_: Arguments| start_under_fire());

#[test]
fn killed_at_random_moments() {
    in_a_process(&UNDER_FIRE);
}

static KILLED_BETWEEN: EntryPoint = EntryPoint::new("killed-between", |_: Arguments| {
    let survivor = Launcher::new().start(&SLEEP, &[], &[]).unwrap();
    let first = zygote::pid().unwrap();
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGSEGV] {
        let pid = zygote::pid().unwrap();
        // SAFETY: no pointers; the pid is that of a child that was not reaped.
        unsafe { libc::kill(pid.cast_signed(), signal) };
        assert!(wait_until(Duration::from_secs(10), || process_gone(pid)));
        assert_eq!(code(3).wait().unwrap(), ExitStatus::Code(3));
        assert_ne!(zygote::pid(), Some(pid));
    }
    assert_ne!(zygote::pid(), Some(first));
    assert_eq!(
        survivor.try_wait().unwrap(),
        None,
        "a process does not depend on the zygote it came from"
    );
    survivor.kill().unwrap();
    assert_eq!(survivor.wait().unwrap().signal(), Some(libc::SIGKILL));
    0
});

#[test]
fn killed_between_starts() {
    in_a_process(&KILLED_BETWEEN);
}

static STOPPED: EntryPoint = EntryPoint::new("stopped", |_: Arguments| {
    code(0).wait().unwrap();
    let pid = zygote::pid().unwrap();
    // SAFETY: no pointers; the pid is that of a child that was not reaped.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGSTOP) };
    assert_eq!(code(5).wait().unwrap(), ExitStatus::Code(5));
    assert!(process_gone(pid));
    0
});

#[test]
fn a_stopped_zygote_is_replaced() {
    let _watchdog = watchdog(Duration::from_secs(60));
    in_a_process(&STOPPED);
}

static KEYBOARD: EntryPoint = EntryPoint::new("keyboard", |_: Arguments| {
    code(0).wait().unwrap();
    let pid = zygote::pid();
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: no pointers; the pid is that of a child that was not reaped.
        unsafe { libc::kill(pid.unwrap().cast_signed(), signal) };
    }
    assert_eq!(code(2).wait().unwrap(), ExitStatus::Code(2));
    assert_eq!(zygote::pid(), pid);
    0
});

#[test]
fn the_keyboard_does_not_end_it() {
    in_a_process(&KEYBOARD);
}

static SHUTDOWN: EntryPoint = EntryPoint::new("shutdown", |_: Arguments| {
    let _watchdog = watchdog(Duration::from_secs(60));
    assert_eq!(zygote::pid(), None);
    assert!(zygote::describe().contains("no zygote yet"));
    let leaks = LeakCheck::new();
    let child = Launcher::new().start(&SLEEP, &[], &[]).unwrap();
    assert!(
        zygote::describe().contains(&zygote::pid().unwrap().to_string()),
        "{}",
        zygote::describe()
    );
    zygote::shutdown().unwrap();
    assert_eq!(zygote::pid(), None);
    assert_eq!(child.try_wait().unwrap(), None);
    drop(child);
    zygote::shutdown().unwrap();
    leaks.finish();
    assert_eq!(code(1).wait().unwrap(), ExitStatus::Code(1));
    0
});

#[test]
fn shut_down_it_leaves_nothing_behind() {
    in_a_process(&SHUTDOWN);
}

static LOADED: AtomicU32 = AtomicU32::new(0);
static LOADED_BY: AtomicU32 = AtomicU32::new(0);

fn load() {
    LOADED.fetch_add(1, Ordering::Relaxed);
    LOADED_BY.store(std::process::id(), Ordering::Relaxed);
}

static IS_LOADED: EntryPoint = EntryPoint::new("is-loaded", |_: Arguments| {
    assert_ne!(LOADED_BY.load(Ordering::Relaxed), std::process::id());
    LOADED.load(Ordering::Relaxed) as i32
});

static PRELOAD: EntryPoint = EntryPoint::new("preload", |_: Arguments| {
    LOADED.store(0, Ordering::Relaxed);
    zygote::preload(load).unwrap();
    zygote::preload(load).unwrap();
    for _ in 0..3 {
        let child = Launcher::new().start(&IS_LOADED, &[], &[]).unwrap();
        assert_eq!(child.wait().unwrap(), ExitStatus::Code(1), "loaded once, in the zygote");
    }
    assert_eq!(LOADED.load(Ordering::Relaxed), 0);
    let error = zygote::preload(load).unwrap_err();
    assert!(error.to_string().contains("already"), "{error}");
    // A zygote that is made anew loads again.
    zygote::shutdown().unwrap();
    assert_eq!(
        Launcher::new().start(&IS_LOADED, &[], &[]).unwrap().wait().unwrap(),
        ExitStatus::Code(1)
    );
    0
});

#[test]
fn what_is_preloaded_is_shared() {
    in_a_process(&PRELOAD);
}

static BAD_PRELOAD: EntryPoint = EntryPoint::new("bad-preload", |arguments: Arguments| {
    let leaks = LeakCheck::new();
    let (function, message): (fn(), &str) = match arguments.payload[0] {
        0 => (|| panic!("no model"), "no model"),
        1 => (
            || drop(thread::spawn(|| thread::sleep(Duration::from_secs(1000)))),
            "1 threads running",
        ),
        2 => (|| std::process::exit(9), "code 9"),
        3 => (|| drop(code(1)), "cannot start processes"),
        _ => (|| std::process::abort(), "SIGABRT"),
    };
    zygote::preload(function).unwrap();
    for _ in 0..2 {
        let error = Launcher::new().start(&CODE, &[0], &[]).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(error.to_string().contains("preload function"), "{error}");
    }
    leaks.finish();
    0
});

#[test]
fn a_preload_function_that_fails_is_an_error() {
    for case in 0..if cfg!(panic = "unwind") { 5 } else { 0 } {
        let child = Launcher::new()
            .stderr(Stdio::Null)
            .start(&BAD_PRELOAD, &[case], &[])
            .unwrap();
        assert_eq!(child.wait().unwrap(), ExitStatus::Code(0), "case {case}");
    }
}

static DESCRIPTORS: EntryPoint = EntryPoint::new("descriptors", |mut arguments: Arguments| {
    let mut open: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        // The directory itself.
        .filter(|target| !target.starts_with("/proc/"))
        .collect();
    open.sort();
    writeln!(File::from(arguments.descriptors.remove(0)), "{} {open:?}", open.len()).unwrap();
    0
});

#[test]
fn children_have_the_descriptors_they_were_given_and_no_more() {
    let mut siblings = Vec::new();
    // One that every exec inherits.
    let file = File::open("/dev/zero").unwrap();
    // SAFETY: no pointers.
    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&file), libc::F_SETFD, 0) };
    for count in [0, 3, 10] {
        while siblings.len() < count {
            siblings.push(Launcher::new().start(&SLEEP, &[], &[file.as_fd()]).unwrap());
        }
        for method in [
            offspring_process::StartMethod::Zygote,
            offspring_process::StartMethod::Spawn,
        ] {
            let (mut output, of_child) = std::io::pipe().unwrap();
            let child = Launcher::new()
                .method(method)
                .start(&DESCRIPTORS, &[], &[of_child.as_fd()])
                .unwrap();
            drop(of_child);
            child.wait().unwrap();
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            // The three streams, the lifeline, and the pipe.
            assert!(text.starts_with("5 "), "with {count} siblings: {text}");
        }
    }
}

static THREADS_AND_MUTEXES: EntryPoint = EntryPoint::new("threads", |_: Arguments| {
    // What the C library believes about this thread: its id, and that the kernel watches its robust mutexes.
    // SAFETY: no arguments.
    assert_eq!(unsafe { libc::gettid() }, std::process::id().cast_signed());
    assert!(thread::spawn(|| 5).join().unwrap() == 5);
    let shared = Shared::new();
    // SAFETY: a process that does nothing but take the mutex and die.
    let victim = unsafe { libc::fork() };
    if victim == 0 {
        shared.lock();
        // SAFETY: no arguments.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: the status is not asked for.
    assert_eq!(unsafe { libc::waitpid(victim, std::ptr::null_mut(), 0) }, victim);
    assert_eq!(shared.lock(), libc::EOWNERDEAD);
    // Held by this very process, a clone of the zygote, when it dies.
    let victim = Launcher::new().start(&HOLDER, &[], &[shared.memory.as_fd()]).unwrap();
    shared.make_consistent_and_unlock();
    victim.wait().unwrap();
    assert_eq!(shared.lock(), libc::EOWNERDEAD);
    shared.make_consistent_and_unlock();
    // An error-checking mutex compares the owner with the cached id.
    assert_eq!(shared.lock(), 0);
    assert_eq!(shared.lock(), libc::EDEADLK);
    0
});

static HOLDER: EntryPoint = EntryPoint::new("holder", |mut arguments: Arguments| {
    let shared = Shared::map(File::from(arguments.descriptors.remove(0)));
    assert_eq!(shared.lock(), 0);
    // SAFETY: no arguments.
    unsafe { libc::_exit(0) }
});

/// A robust, error-checking mutex in shared memory.
struct Shared {
    memory: File,
    mutex: *mut libc::pthread_mutex_t,
}

impl Shared {
    fn new() -> Self {
        // SAFETY: the name is a C string; the attributes and the mutex are initialised before they are used.
        unsafe {
            let memory: File =
                std::os::fd::FromRawFd::from_raw_fd(libc::memfd_create(c"mutex".as_ptr(), libc::MFD_CLOEXEC));
            memory.set_len(4096).unwrap();
            let shared = Self::map(memory);
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            libc::pthread_mutexattr_init(&raw mut attributes);
            libc::pthread_mutexattr_setpshared(&raw mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(&raw mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutexattr_settype(&raw mut attributes, libc::PTHREAD_MUTEX_ERRORCHECK);
            libc::pthread_mutex_init(shared.mutex, &raw const attributes);
            shared
        }
    }

    fn map(memory: File) -> Self {
        // SAFETY: a new shared mapping, which lives as long as the process.
        let mutex = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                std::os::fd::AsRawFd::as_raw_fd(&memory),
                0,
            )
        };
        assert_ne!(mutex, libc::MAP_FAILED);
        Self {
            memory,
            mutex: mutex.cast(),
        }
    }

    fn lock(&self) -> libc::c_int {
        // SAFETY: the mutex is initialised and mapped.
        unsafe { libc::pthread_mutex_lock(self.mutex) }
    }

    fn make_consistent_and_unlock(&self) {
        // SAFETY: the mutex is initialised and mapped.
        unsafe {
            libc::pthread_mutex_consistent(self.mutex);
            assert_eq!(libc::pthread_mutex_unlock(self.mutex), 0);
        }
    }
}

#[test]
fn the_c_library_does_not_notice() {
    let _watchdog = watchdog(Duration::from_secs(60));
    in_a_process(&THREADS_AND_MUTEXES);
}

static CLOSED_STREAMS: EntryPoint = EntryPoint::new("closed-streams", |_: Arguments| {
    for closed in [&[0][..], &[1], &[2], &[0, 1, 2]] {
        for &stream in closed {
            // SAFETY: the standard library's handles tolerate that, and nothing else refers to the streams.
            unsafe { libc::close(stream) };
        }
        for method in [
            offspring_process::StartMethod::Zygote,
            offspring_process::StartMethod::Spawn,
        ] {
            let child = Launcher::new().method(method).start(&STREAMS, &[], &[]).unwrap();
            assert_eq!(child.wait().unwrap(), ExitStatus::Code(0));
        }
        zygote::shutdown().unwrap();
    }
    0
});

static STREAMS: EntryPoint = EntryPoint::new("streams", |_: Arguments| {
    println!("to nobody");
    eprintln!("to nobody");
    (0..3)
        .filter(|stream| std::fs::read_link(format!("/proc/self/fd/{stream}")).is_err())
        .count() as i32
});

#[test]
fn closed_streams_of_the_parent() {
    in_a_process(&CLOSED_STREAMS);
}

static USER: EntryPoint = EntryPoint::new("user", |_: Arguments| {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() as i32 % 251 }
});

static CHANGES_USER: EntryPoint = EntryPoint::new("changes-user", |_: Arguments| {
    let user = || Launcher::new().start(&USER, &[], &[]).unwrap().wait().unwrap();
    // SAFETY: no arguments.
    let before = unsafe { libc::geteuid() };
    assert_eq!(user(), ExitStatus::Code(before.cast_signed() % 251));
    if before == 0 {
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::setresuid(54_321, 54_321, 54_321) }, 0);
        assert_eq!(
            user(),
            ExitStatus::Code(54_321 % 251),
            "not the privileges of the first start"
        );
    }
    0
});

#[test]
fn a_process_has_the_user_of_its_parent_now() {
    in_a_process(&CHANGES_USER);
}

#[test]
fn many_threads_start_processes() {
    let _watchdog = watchdog(Duration::from_secs(100));
    thread::scope(|scope| {
        for number in 0..50_u8 {
            scope.spawn(move || {
                for _ in 0..4 {
                    assert_eq!(code(number).wait().unwrap(), ExitStatus::Code(number.into()));
                }
            });
        }
    });
}

static NESTED: EntryPoint = EntryPoint::new("nested", |arguments: Arguments| {
    let depth = arguments.payload[0];
    if depth == 0 {
        return 42;
    }
    let child = Launcher::new().start(&NESTED, &[depth - 1], &[]).unwrap();
    child.wait().unwrap().code().unwrap()
});

#[test]
fn children_of_children() {
    let child = Launcher::new().start(&NESTED, &[4], &[]).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(42));
}

#[test]
fn as_many_descriptors_as_fit() {
    let file = File::open("/dev/null").unwrap();
    // The lifeline and two streams are passed, too.
    let child = Launcher::new().start(&CODE, &[3], &vec![file.as_fd(); 250]).unwrap();
    assert_eq!(child.wait().unwrap(), ExitStatus::Code(3));
    let error = Launcher::new()
        .start(&CODE, &[3], &vec![file.as_fd(); 251])
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("253"), "{error}");
}

extern "C" fn interrupted(_signal: libc::c_int) {}

static INTERRUPTED: EntryPoint = EntryPoint::new("interrupted", |_: Arguments| {
    // A handler that lets system calls end early, every 200 us.
    // SAFETY: the handler does nothing; the structures live until the calls return.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = interrupted as *const () as usize;
        assert_eq!(
            libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()),
            0
        );
        let every = libc::timeval {
            tv_sec: 0,
            tv_usec: 200,
        };
        let timer = libc::itimerval {
            it_interval: every,
            it_value: every,
        };
        assert_eq!(
            libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()),
            0
        );
    }
    for number in 0..50 {
        assert_eq!(code(number).wait().unwrap(), ExitStatus::Code(number.into()));
        let spawned = Launcher::new()
            .method(offspring_process::StartMethod::Spawn)
            .nice(1)
            .start(&CODE, &[number], &[])
            .unwrap();
        assert_eq!(spawned.wait().unwrap(), ExitStatus::Code(number.into()));
        let forked = Launcher::new().fork(|| i32::from(number)).unwrap();
        assert_eq!(forked.wait().unwrap(), ExitStatus::Code(number.into()));
    }
    let sleeper = Launcher::new().start(&SLEEP, &[], &[]).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(sleeper.wait_timeout(Duration::from_millis(50)).unwrap(), None);
    assert!(started.elapsed() >= Duration::from_millis(50));
    0
});

#[test]
fn signals_do_not_show() {
    let _watchdog = watchdog(Duration::from_secs(60));
    in_a_process(&INTERRUPTED);
}
