//! What a process can be given on its way, and what becomes of a setting that cannot be met.
#![cfg(feature = "start-hook")]

mod scene;

use std::fs::File;
use std::io::Read;
use std::time::Duration;
use std::{env, fs, io};

use offspring_pool::{Process, ProcessBuilder};
use offspring_process::{Resource, StartMethod, Stdio};
use offspring_testing::temp_dir;
use scene::Scene;

const METHODS: [StartMethod; 2] = [StartMethod::Zygote, StartMethod::Spawn];

fn variable(name: String) -> Option<String> {
    env::var(name).ok()
}

fn limit_of_descriptors() -> (u64, u64) {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap()
}

fn status(key: String) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status
        .lines()
        .find_map(|line| line.strip_prefix(&key))
        .unwrap()
        .trim()
        .to_string()
}

fn talk(words: String) {
    println!("out: {words}");
    eprintln!("err: {words}");
    let mut input = String::new();
    io::stdin().read_to_string(&mut input).unwrap();
    print!("in: {input}");
}

#[test]
fn the_environment_can_be_changed() {
    let _scene = Scene::new();
    for method in METHODS {
        let builder = || Process::builder().start_method(method);
        let get =
            |builder: ProcessBuilder, name: &str| builder.spawn(variable, name.to_string()).unwrap().result().unwrap();
        let odd = "ü = \n x";
        assert_eq!(
            get(builder().env("OFFSPRING_ODD", odd), "OFFSPRING_ODD").as_deref(),
            Some(odd)
        );
        assert_eq!(
            get(builder(), "OFFSPRING_ODD"),
            None,
            "one child's setting is not the next one's"
        );
        assert_eq!(get(builder().env_remove("PATH"), "PATH"), None);
        assert_eq!(get(builder().env_clear().env("A", ""), "A").as_deref(), Some(""));
        assert_eq!(get(builder().env_clear(), "PATH"), None);
        assert!(get(builder(), "PATH").is_some());
    }
    let leftovers = Process::spawn(
        || {
            env::vars()
                .filter(|(key, _)| key.starts_with("OFFSPRING_START"))
                .count()
        },
        (),
    );
    assert_eq!(
        leftovers.unwrap().result().unwrap(),
        0,
        "a child's children must not be taken for workers"
    );
}

#[test]
fn the_directory_can_be_changed() {
    let _scene = Scene::new();
    let here = || env::current_dir().unwrap().to_string_lossy().into_owned();
    let place = temp_dir();
    for method in METHODS {
        let process = Process::builder()
            .start_method(method)
            .current_dir(place.path())
            .spawn(here, ())
            .unwrap();
        assert_eq!(
            process.result().unwrap(),
            place.path().canonicalize().unwrap().to_string_lossy()
        );
        assert_eq!(Process::spawn(here, ()).unwrap().result().unwrap(), here());
    }
}

#[test]
fn streams_can_be_redirected() {
    let _scene = Scene::new();
    let place = temp_dir();
    let (input, output, errors) = (
        place.path().join("in"),
        place.path().join("out"),
        place.path().join("err"),
    );
    for method in METHODS {
        fs::write(&input, "from a file\n").unwrap();
        let process = Process::builder()
            .start_method(method)
            .stdin(File::open(&input).unwrap())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&errors).unwrap())
            .spawn(talk, "hello".to_string())
            .unwrap();
        process.result().unwrap();
        assert_eq!(fs::read_to_string(&output).unwrap(), "out: hello\nin: from a file\n");
        assert_eq!(fs::read_to_string(&errors).unwrap(), "err: hello\n");
    }
    let quiet = Process::builder()
        .stdout(Stdio::Null)
        .stderr(Stdio::Null)
        .spawn(talk, "nothing".to_string());
    quiet.unwrap().result().unwrap();
}

#[test]
fn limits_niceness_and_processors() {
    let _scene = Scene::new();
    for method in METHODS {
        let process = Process::builder()
            .start_method(method)
            .rlimit(Resource::OpenFiles, 77, 99);
        assert_eq!(
            process.spawn(limit_of_descriptors, ()).unwrap().result().unwrap(),
            (77, 99)
        );
        assert_ne!(limit_of_descriptors(), (77, 99));

        let nice = || {
            fs::read_to_string("/proc/self/stat")
                .unwrap()
                .rsplit_once(')')
                .unwrap()
                .1
                .to_string()
        };
        let stat = Process::builder()
            .start_method(method)
            .nice(7)
            .spawn(nice, ())
            .unwrap()
            .result()
            .unwrap();
        assert_eq!(stat.split_whitespace().nth(16), Some("7"), "{stat}");

        let one = Process::builder().start_method(method).cpu_affinity(&[0]);
        let allowed = one
            .spawn(status, "Cpus_allowed_list:".to_string())
            .unwrap()
            .result()
            .unwrap();
        assert_eq!(allowed, "0");
    }
}

#[test]
fn a_name_of_any_length_is_shortened_for_the_kernel() {
    let _scene = Scene::new();
    for (name, short) in [("bee", "bee"), ("a name of twenty-two b", "a name of twent"), ("", "")] {
        let process = Process::builder()
            .name(name)
            .spawn(status, "Name:".to_string())
            .unwrap();
        assert_eq!(process.name(), name);
        assert_eq!(process.result().unwrap(), short);
    }
}

#[test]
fn a_setting_that_cannot_be_met_is_named() {
    let _scene = Scene::new();
    type Setting = fn(ProcessBuilder) -> ProcessBuilder;
    let settings: [(Setting, &str); 9] = [
        (|builder| builder.current_dir("/nowhere/at/all"), "/nowhere/at/all"),
        (|builder| builder.current_dir("/a\0b"), "zero byte"),
        (|builder| builder.env("A=B", "c"), "A=B"),
        (|builder| builder.env("A", "b\0c"), "environment variable \"A\""),
        (|builder| builder.env("", "c"), "environment"),
        (|builder| builder.rlimit(Resource::OpenFiles, 9, 8), "soft limit 9"),
        (|builder| builder.nice(20), "20"),
        (|builder| builder.cpu_affinity(&[]), "at least one processor"),
        (|builder| builder.cpu_affinity(&[8191]), "8191"),
    ];
    for method in METHODS {
        for (index, (set, words)) in settings.iter().enumerate() {
            let error = set(Process::builder().start_method(method))
                .spawn(|| 1_u8, ())
                .unwrap_err();
            assert!(
                error.to_string().contains(words),
                "{method:?}, setting {index}: {error}"
            );
            assert!(error.to_string().starts_with("cannot start a process"), "{error}");
        }
    }
    // The method that failed before works again.
    assert_eq!(Process::spawn(|| 1_u8, ()).unwrap().result().unwrap(), 1);
}

#[test]
fn a_child_under_a_memory_limit_fails_alone() {
    let _scene = Scene::new();
    // The arena's address space does not fit into the limit: the child cannot even set itself up, and says so.
    let builder = Process::builder().start_method(StartMethod::Spawn).stderr(Stdio::Null);
    let outcome = builder
        .rlimit(Resource::AddressSpace, 1 << 20, 1 << 20)
        .spawn(|| 1_u8, ());
    match outcome {
        Ok(process) => {
            let error = process.result().unwrap_err();
            assert!(error.is_worker_death(), "{error}");
        }
        Err(error) => assert!(!error.is_panic(), "{error}"),
    }
    // What the zygote's clone has mapped it keeps; what it asks for beyond the limit it does not get.
    fn greedy(len: usize) -> bool {
        Vec::<u8>::new().try_reserve_exact(len).is_err()
    }
    let size = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = size.split_whitespace().next().unwrap().parse().unwrap();
    let limit = pages * 4096 + (256 << 20);
    let process = Process::builder()
        .rlimit(Resource::AddressSpace, limit, limit)
        .spawn(greedy, limit as usize);
    assert!(process.unwrap().result().unwrap());
}

#[test]
fn a_grace_is_no_longer_than_it_says() {
    let _scene = Scene::new();
    let sleeper = || std::thread::sleep(Duration::from_secs(1000));
    let process = Process::builder().grace(Duration::ZERO).spawn(sleeper, ()).unwrap();
    let pid = process.pid();
    drop(process);
    scene::assert_gone(pid);
}
