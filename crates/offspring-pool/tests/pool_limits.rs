//! Pools that cannot have what they need: descriptors, processes, address space, shared memory. Each is an error in words,
//! wherever it strikes, and leaves nothing behind. Limits cannot be undone, so each test has a process of its own.
//
// UNSAFETY: another user, a limit of another process, a seccomp filter.
#![cfg(feature = "start-hook")]
#![expect(unsafe_code, reason = "setresuid, prlimit and seccomp")]

mod scene;

use std::fs;
use std::io::ErrorKind;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use offspring_pool::{Error, Pool, Process};
use offspring_process::{Launcher, StartMethod, zygote};
use offspring_shm::{SharedSlice, family};
use scene::{Scene, alone};

const MIB: usize = 1 << 20;

fn double(n: u64) -> u64 {
    n * 2
}

fn set_soft_limit(resource: Resource, soft: u64) {
    let (_, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, soft, hard).unwrap();
}

fn descriptors() -> usize {
    // Not counting the one that lists them.
    fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

fn use_pool(pool: &Pool) {
    assert_eq!(
        pool.map(double, 0..100).unwrap(),
        (0..100).map(double).collect::<Vec<_>>()
    );
}

#[test]
fn too_few_descriptors() {
    alone("too_few_descriptors", || {
        let _scene = Scene::new();
        for method in [StartMethod::Zygote, StartMethod::Spawn] {
            let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            zygote::shutdown().unwrap();
            let before = descriptors() as u64;
            let mut failures = 0;
            // Each limit strikes at another place.
            for more in 0.. {
                set_soft_limit(Resource::RLIMIT_NOFILE, before + more);
                let made = Pool::builder().workers(4).start(method).build();
                // What is looked at from here on needs descriptors as well.
                set_soft_limit(Resource::RLIMIT_NOFILE, soft);
                match made {
                    Ok(pool) => {
                        use_pool(&pool);
                        break;
                    }
                    Err(error) => {
                        failures += 1;
                        let words = error.to_string();
                        assert!(
                            words.contains("Too many open files") || words.contains("RLIMIT_NOFILE"),
                            "{words}"
                        );
                    }
                }
                assert!(scene::children().len() <= 1, "no more than a zygote is left");
                assert!(more < 100, "a pool of four needs fewer descriptors");
                zygote::shutdown().unwrap();
                assert_eq!(descriptors() as u64, before, "after {more} more descriptors");
            }
            assert!(failures > 8, "{failures} different failures with {method:?}");
        }
    });
}

#[test]
fn too_few_processes() {
    alone("too_few_processes", || {
        // As root there is no limit. Of a user without any process all that count are this test's own.
        const NOBODY_ELSE: u32 = 3_171_717;
        let tasks = if nix::unistd::geteuid().is_root() {
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::setresuid(NOBODY_ELSE, NOBODY_ELSE, NOBODY_ELSE) }, 0);
            2
        } else {
            tasks_of(nix::unistd::getuid().as_raw())
        };
        let _scene = Scene::new();
        let mut failures = Vec::new();
        for more in 0.. {
            set_soft_limit(Resource::RLIMIT_NPROC, tasks + more);
            match Pool::new(4) {
                Ok(pool) => {
                    use_pool(&pool);
                    break;
                }
                Err(error) => {
                    assert!(
                        error.to_string().contains("Resource temporarily unavailable"),
                        "{error}"
                    );
                    failures.push(error.to_string());
                    let started = scene::children();
                    assert!(started.len() <= 1, "no more than a zygote is left: {started:?}");
                }
            }
            // The next one has the next limit: a zygote keeps those that it was made with.
            zygote::shutdown().unwrap();
            assert!(more < 10_000, "a pool of four can be made some day");
        }
        let all = failures.join("\n");
        for place in ["worker 1 of 4", "worker 2 of 4", "worker 4 of 4", "supervisor"] {
            assert!(all.contains(place), "no failure at {place}:\n{all}");
        }
    });
}

/// How many tasks of a user run on this machine.
fn tasks_of(user: u32) -> u64 {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let tasks = processes.filter_map(|process| {
        use std::os::unix::fs::MetadataExt;
        let of_user = process.metadata().is_ok_and(|metadata| metadata.uid() == user);
        fs::read_dir(process.path().join("task"))
            .ok()
            .filter(|_| of_user)
            .map(|tasks| tasks.count() as u64)
    });
    tasks.sum()
}

#[test]
fn no_process_to_replace_a_worker() {
    alone("no_process_to_replace_a_worker", || {
        const NOBODY_ELSE: u32 = 3_171_718;
        if nix::unistd::geteuid().is_root() {
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::setresuid(NOBODY_ELSE, NOBODY_ELSE, NOBODY_ELSE) }, 0);
        }
        let _scene = Scene::new();
        let pool = Pool::builder().workers(2).retries(1).build().unwrap();
        use_pool(&pool);
        let zygote = zygote::pid().unwrap();
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: getrlimit(Resource::RLIMIT_NPROC).unwrap().1,
        };
        let set = |limit: &libc::rlimit| {
            // SAFETY: the limit is valid for the length of the call, and none is asked for.
            unsafe { libc::prlimit(zygote as i32, libc::RLIMIT_NPROC, limit, std::ptr::null_mut()) }
        };
        assert_eq!(set(&none), 0);
        let first = pool.pids()[0];
        // SAFETY: no pointers.
        unsafe { libc::kill(first as i32, libc::SIGKILL) };
        scene::assert_gone(first);
        // The other one does all the work, for as long as it takes.
        for _ in 0..50 {
            use_pool(&pool);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert_eq!(
            set(&libc::rlimit {
                rlim_cur: none.rlim_max,
                ..none
            }),
            0
        );
        scene::eventually("it is replaced in the end", || pool.pids().len() == 2);
        // Without any the pool gives up, in words.
        assert_eq!(set(&none), 0);
        for pid in pool.pids() {
            // SAFETY: no pointers.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
        let mut error = None;
        scene::eventually("the pool gives up", || {
            error = pool.map(double, 0..10).err();
            error.is_some()
        });
        let error = error.unwrap();
        assert!(
            error.is_broken() && error.to_string().contains("cannot be replaced"),
            "{error}"
        );
    });
}

#[test]
fn too_little_address_space_for_the_arena() {
    // Each limit strikes elsewhere: at the arena, at a thread's stack, or nowhere.
    for mib in (8..256).step_by(12) {
        let output = scene::program("too_little_address_space_for_the_arena_child", &format!("{mib}"))
            .output()
            .unwrap();
        scene::assert_success(&output);
    }
}

/// Not a test of its own: what the test above runs in processes of their own.
#[test]
fn too_little_address_space_for_the_arena_child() {
    let Some(mib) = scene::role().and_then(|role| role.parse::<usize>().ok()) else {
        return;
    };
    let pages: usize = fs::read_to_string("/proc/self/statm")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    set_soft_limit(Resource::RLIMIT_AS, (pages * 4096 + mib * MIB) as u64);
    match Pool::new(2) {
        Ok(pool) => {
            use_pool(&pool);
            let _scene = Scene::new();
            // A task that asks for too much fails alone.
            let greedy = |n: usize| Vec::<u8>::with_capacity(n << 40).capacity();
            let outcomes = pool.map_all(greedy, [1, 0]).unwrap();
            assert!(outcomes[0].as_ref().unwrap_err().is_worker_death());
            assert_eq!(*outcomes[1].as_ref().unwrap(), 0);
            drop(pool);
        }
        Err(error) => {
            let words = error.to_string();
            assert!(
                words.contains("memory") || words.contains("address space") || words.contains("unavailable"),
                "{words}"
            );
            zygote::shutdown().unwrap();
            assert!(scene::children().is_empty());
        }
    }
}

/// From now on this process and what it starts have no memory for another process or thread.
fn forbid_clones() {
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_clone3 as u32,
            1,
            0,
        ),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_clone as u32,
            0,
            1,
        ),
        step(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::ENOMEM as u32,
            0,
            0,
        ),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program lives until the calls return.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            0
        );
    }
}

#[test]
fn no_memory_for_a_process() {
    alone("no_memory_for_a_process", || {
        let _scene = Scene::new();
        zygote::preload(forbid_clones).unwrap();
        let error = Pool::new(4).map(drop).unwrap_err();
        assert!(
            error.is_out_of_memory() && error.to_string().contains("worker 1 of 4"),
            "{error}"
        );
        let error = Process::spawn(double, 1).map(drop).unwrap_err();
        assert!(error.is_out_of_memory(), "{error}");
        assert!(scene::children().len() <= 1, "no more than the zygote is left");
        use_pool(&Pool::builder().workers(2).start(StartMethod::Spawn).build().unwrap());
    });
}

#[test]
fn no_memory_for_the_supervisor() {
    alone("no_memory_for_the_supervisor", || {
        let _scene = Scene::new();
        use_pool(&Pool::new(4).unwrap());
        forbid_clones();
        // The zygote was made before, and starts the workers; the last thing that is needed is a thread.
        let error = Pool::new(4).map(drop).unwrap_err();
        assert!(error.to_string().contains("supervisor"), "{error}");
        assert!(scene::children().len() <= 1, "the workers are gone again");
        assert_eq!(Process::spawn(double, 4).unwrap().result().unwrap(), 8);
    });
}

#[test]
fn workers_under_a_memory_limit() {
    alone("workers_under_a_memory_limit", || {
        let _scene = Scene::new();
        // Too little for the arena: no worker can set itself up, and the pool says so at its first call.
        let mut launcher = Launcher::new();
        launcher
            .method(StartMethod::Spawn)
            .rlimit(offspring_process::Resource::AddressSpace, 64 << 20, 64 << 20);
        let refused = match Pool::builder().workers(2).launcher(launcher).build() {
            Ok(pool) => pool.map(double, 0..10).unwrap_err(),
            Err(error) => error,
        };
        assert!(
            refused.is_broken() || refused.to_string().contains("cannot start worker"),
            "{refused}"
        );
        // Enough for all but one task.
        let arena = family::arena().unwrap().capacity() as u64;
        let limit = arena * 2 + (1 << 30);
        let mut launcher = Launcher::new();
        launcher.rlimit(offspring_process::Resource::AddressSpace, limit, limit);
        let pool = Pool::builder().workers(2).launcher(launcher).build().unwrap();
        let hungry = |bytes: u64| Vec::<u8>::with_capacity(bytes as usize).capacity() as u64;
        let outcomes = pool.map_all(hungry, [1000, limit, 2000]).unwrap();
        assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
        let error = outcomes[1].as_ref().unwrap_err();
        assert!(
            error.is_worker_death() && error.to_string().contains("SIGABRT"),
            "{error}"
        );
    });
}

fn assert_no_room(error: &Error) {
    assert!(error.is_out_of_memory() && !error.is_worker_death(), "{error}");
}

#[test]
fn a_full_arena_is_an_error_of_the_call() {
    alone("a_full_arena_is_an_error_of_the_call", || {
        family::set_capacity(16 * MIB).unwrap();
        let _scene = Scene::new();
        let pool = Pool::new(2).unwrap();
        for _ in 0..3 {
            // The arguments.
            assert_no_room(&pool.map(|bytes: Vec<u8>| bytes.len(), [vec![1; 32 * MIB]]).unwrap_err());
            assert_no_room(&pool.map_all(|n: u64| n, 0..3_000_000).unwrap_err());
            // The board alone: eight bytes for each chunk, and nothing for the items.
            assert_no_room(&pool.chunk_size(1).map(|(): ()| (), vec![(); 3_000_000]).unwrap_err());
            // The results: of one item, of all of them.
            let sized = |len: usize| vec![3_u8; len];
            let outcomes = pool.chunk_size(1).map_all(sized, [10, 32 * MIB, 20]).unwrap();
            assert_eq!(outcomes[0].as_ref().unwrap().len(), 10);
            assert_no_room(outcomes[1].as_ref().unwrap_err());
            assert_eq!(outcomes[1].as_ref().unwrap_err().item(), Some(1));
            assert_eq!(outcomes[2].as_ref().unwrap().len(), 20);
            let outcomes = pool.chunk_size(5).map_all(sized, vec![2 * MIB; 20]).unwrap();
            assert_eq!(outcomes.len(), 20);
            assert!(outcomes.iter().any(Result::is_err), "40 MiB do not fit");
            for outcome in outcomes {
                match outcome {
                    Ok(bytes) => assert!(bytes.len() == 2 * MIB && bytes.iter().all(|&byte| byte == 3)),
                    Err(error) => assert_no_room(&error),
                }
            }
            assert_no_room(&pool.map(sized, vec![2 * MIB; 20]).unwrap_err());
            assert_no_room(&pool.map_views(sized, vec![2 * MIB; 20]).unwrap_err());
            // A panic's words need room as well.
            let panics = |len: usize| -> Vec<u8> { panic!("{}", "x".repeat(len)) };
            let outcomes = pool.chunk_size(1).map_all(panics, [10, 32 * MIB]).unwrap();
            assert!(outcomes[0].as_ref().unwrap_err().is_panic());
            let second = outcomes[1].as_ref().unwrap_err();
            assert!(second.is_panic() || second.is_out_of_memory(), "{second}");
            use_pool(&pool);
        }
    });
}

#[test]
fn a_full_arena_is_an_error_of_a_process() {
    alone("a_full_arena_is_an_error_of_a_process", || {
        family::set_capacity(16 * MIB).unwrap();
        let _scene = Scene::new();
        for _ in 0..3 {
            assert_no_room(
                &Process::spawn(|bytes: Vec<u8>| bytes.len(), vec![1; 32 * MIB])
                    .map(drop)
                    .unwrap_err(),
            );
            let process = Process::spawn(|len: usize| vec![1_u8; len], 32 * MIB).unwrap();
            assert_no_room(&process.result().unwrap_err());
            assert_eq!(process.exit_status().unwrap().and_then(|status| status.code()), Some(1));
        }
        // To the last block: even the smallest thing fails, and all is well when there is room again.
        let mut hoard = Vec::new();
        let mut size = 8 * MIB;
        while size >= 64 {
            match SharedSlice::<u8>::zeroed(size) {
                Ok(slice) => hoard.push(slice),
                Err(_) => size /= 2,
            }
        }
        let refused = Process::spawn(double, 4).map(drop).unwrap_err();
        assert_no_room(&refused);
        let refused = Pool::new(2).map(drop).unwrap_err();
        assert_no_room(&refused);
        drop(hoard);
        assert_eq!(Process::spawn(double, 4).unwrap().result().unwrap(), 8);
        use_pool(&Pool::new(2).unwrap());
    });
}

#[test]
fn an_arena_that_fills_up_while_workers_write() {
    alone("an_arena_that_fills_up_while_workers_write", || {
        family::set_capacity(24 * MIB).unwrap();
        let _scene = Scene::new();
        let pool = Pool::new(3).unwrap();
        let hold = SharedSlice::<u8>::zeroed(10 * MIB).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let pool = &pool;
                scope.spawn(move || {
                    for _ in 0..20 {
                        let sized = |byte: u8, len: usize| vec![byte; len];
                        let items = (0..12).map(|n| (thread, n * 300_000));
                        let Ok(outcomes) = pool.chunk_size(2).map_all(sized, items) else {
                            continue;
                        };
                        for (n, outcome) in outcomes.into_iter().enumerate() {
                            match outcome {
                                Ok(bytes) => assert!(bytes.len() == n * 300_000 && bytes.iter().all(|&b| b == thread)),
                                Err(error) => assert_no_room(&error),
                            }
                        }
                    }
                });
            }
        });
        drop(hold);
        use_pool(&pool);
    });
}

#[test]
fn more_processes_than_a_family_has_places() {
    alone("more_processes_than_a_family_has_places", || {
        let _scene = Scene::new();
        // Tags, not processes: every place is taken by one that was never started.
        let mut tags = Vec::new();
        let error = loop {
            match family::reserve_child() {
                Ok(tag) => tags.push(tag),
                Err(error) => break error,
            }
        };
        assert!(tags.len() > 4000, "{} places; then: {error}", tags.len());
        let free = tags.split_off(tags.len() - 3);
        let release = |tags: Vec<_>| {
            for tag in tags {
                // SAFETY: no process was started for it.
                unsafe { family::release(tag) }.unwrap();
            }
        };
        release(free);
        let error = Pool::new(4).map(drop).unwrap_err();
        assert!(error.to_string().contains("worker 4 of 4"), "{error}");
        assert!(scene::children().len() <= 1);
        use_pool(&Pool::new(3).unwrap());
        release(tags);
        use_pool(&Pool::new(4).unwrap());
    });
}

#[test]
fn an_error_has_a_kind() {
    let _scene = Scene::new();
    let error = std::io::Error::from(Pool::new(0).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("0 workers"));
}
