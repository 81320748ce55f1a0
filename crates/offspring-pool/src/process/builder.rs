// UNSAFETY: tells a forked child who it is.
#![expect(unsafe_code, reason = "tells a forked child its tag")]

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::Duration;

use offspring_process::{Arguments, EntryPoint, Launcher, Resource, StartMethod, Stdio};
use offspring_queue::{Message, Parcel};
use offspring_shm::{Owner, family};
use offspring_sync::primitive::{AtomicU64, Ordering};

use super::delivery::Delivery;
use super::handle::{ProcessHandle, Running};
use super::typed::Process;
use crate::error::{Error, Result};
use crate::kin::release;
use crate::ours::Ours;
use crate::start::{Start, names, owner_from};
use crate::task::{self, Report, TaskFn, TaskTable, admit, check_alignment};

/// Where a process that runs one function starts.
static PROCESS: EntryPoint = EntryPoint::new("process", main);

/// Exit code of a child that could not set itself up.
const SET_UP_FAILED: i32 = 78;

/// Exit code of a child whose argument or result did not make it through its encoding.
const NOT_DELIVERED: i32 = 1;

/// How long a dropped process that is no daemon may still run, unless the builder says otherwise.
const GRACE: Duration = Duration::from_secs(30);

/// Makes a [`Process`] with settings; from [`Process::builder`].
///
/// ```
/// use offspring_pool::Process;
///
/// let process = Process::builder()
///     .name("greeter")
///     .env("GREETING", "hello")
///     .spawn(|| std::env::var("GREETING").unwrap_or_default(), ())?;
/// assert_eq!(process.name(), "greeter");
/// assert_eq!(process.result()?, "hello");
/// # Ok::<(), offspring_pool::Error>(())
/// ```
#[derive(Debug)]
pub struct ProcessBuilder {
    launcher: Launcher,
    name: Option<String>,
    daemon: bool,
    grace: Duration,
}

impl ProcessBuilder {
    pub(super) fn new() -> Self {
        Self {
            launcher: Launcher::new(),
            name: None,
            daemon: false,
            grace: GRACE,
        }
    }

    /// What the child is called, in [`current`](crate::current) and, shortened to 15 bytes, in `ps` and `top`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the child is killed when its [`Process`] is dropped, and not waited for.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// How long a child that is no daemon may still run when its [`Process`] is dropped; then it is sent a SIGTERM
    /// and, if that does not help, a SIGKILL. By default 30 seconds.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How the child is started; by default from the zygote.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.launcher.method(method);
        self
    }

    /// Sets a variable of the child's environment.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.launcher.env(key, value);
        self
    }

    /// Takes a variable out of the child's environment.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.launcher.env_remove(key);
        self
    }

    /// Starts the child's environment from nothing.
    pub fn env_clear(mut self) -> Self {
        self.launcher.env_clear();
        self
    }

    /// The child's working directory.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.launcher.current_dir(directory);
        self
    }

    /// The child's standard input; by default `/dev/null`.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.launcher.stdin(stdin);
        self
    }

    /// The child's standard output; by default its parent's.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.launcher.stdout(stdout);
        self
    }

    /// The child's standard error; by default its parent's.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.launcher.stderr(stderr);
        self
    }

    /// A resource limit of the child, soft and hard.
    pub fn rlimit(mut self, resource: Resource, soft: u64, hard: u64) -> Self {
        self.launcher.rlimit(resource, soft, hard);
        self
    }

    /// The child's niceness, from -20 (greedy) to 19 (nice).
    pub fn nice(mut self, nice: i32) -> Self {
        self.launcher.nice(nice);
        self
    }

    /// The processors that the child may run on.
    pub fn cpu_affinity(mut self, processors: &[usize]) -> Self {
        self.launcher.cpu_affinity(processors);
        self
    }

    /// Whether the child ignores SIGINT, and so leaves Ctrl-C to its parent.
    pub fn ignore_interrupt(mut self, ignore: bool) -> Self {
        self.launcher.ignore_interrupt(ignore);
        self
    }

    /// Starts the process: see [`Process::spawn`].
    ///
    /// # Errors
    /// Those of [`Process::spawn`], and when a setting cannot be applied: the error names it, and nothing is left
    /// behind.
    pub fn spawn<F, A, R, K>(mut self, function: F, argument: A) -> Result<Process<R>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: 'static,
    {
        admit(function);
        let failed = |error| Error::os("cannot start a process", error);
        let task = TaskTable::of::<F, A, R, K>().identity().map_err(failed)?;
        let arena = family::arena().map_err(failed)?;
        let me = family::me().map_err(failed)?;
        let sent = Parcel::encode(arena, me, &argument)?.erase();
        let delivery = Delivery::new(arena, me)?;
        let name = self.name.unwrap_or_else(next_name);
        let words = [task, sent.raw().1, delivery.offset(), u64::from(me.raw()), 0];
        self.launcher.name(&name);
        // What this process shares is kept for the child from here on: its argument may hold the last handle.
        let owner = family::reserve_spawn().map_err(failed)?;
        let start = Start::new(&name, words);
        let child = start.launch(&self.launcher, &PROCESS, owner).map_err(failed)?;
        let (daemon, grace) = (self.daemon, self.grace);
        let running = Running {
            child,
            owner,
            name,
            daemon,
            grace,
            delivery: Ours::new(delivery),
            _argument: Some(Ours::new(sent)),
        };
        Ok(Process::new(ProcessHandle::new(running)))
    }

    /// Forks this process: see [`Process::fork`].
    ///
    /// # Errors
    /// Those of [`Process::fork`], and when a setting cannot be applied.
    pub fn fork<F, R>(mut self, function: F) -> Result<Process<R>>
    where
        F: FnOnce() -> R,
        R: Message,
    {
        const { check_alignment::<R>() };
        let failed = |error| Error::os("cannot fork", error);
        let arena = family::arena().map_err(failed)?;
        let me = family::me().map_err(failed)?;
        let delivery = Delivery::new(arena, me)?;
        let name = self.name.unwrap_or_else(next_name);
        let owner = family::reserve_fork().map_err(failed)?;
        let start = Start::new(&name, [0; 5]);
        let forked = self.launcher.name(&name).fork(|| {
            // SAFETY: the tag was reserved for this fork, which is made of a process with one thread.
            if let Err(error) = unsafe { start.become_child(owner) } {
                eprintln!("offspring: a forked process could not join the family: {error}");
                return SET_UP_FAILED;
            }
            let outcome = Parcel::encode(arena, owner, &function())
                .map(Parcel::erase)
                .map_err(Report::from);
            deliver(&delivery, owner, me, outcome)
        });
        let child = match forked {
            Ok(child) => child,
            Err(error) => {
                release(owner);
                return Err(failed(error));
            }
        };
        let (daemon, grace) = (self.daemon, self.grace);
        let running = Running {
            child,
            owner,
            name,
            daemon,
            grace,
            delivery: Ours::new(delivery),
            _argument: None,
        };
        Ok(Process::new(ProcessHandle::new(running)))
    }
}

fn main(mut arguments: Arguments) -> i32 {
    let mut run = || -> io::Result<i32> {
        let [task, argument, place, parent, _] = Start::receive(&mut arguments)?.words();
        let arena = family::arena()?;
        let me = family::me()?;
        let delivery = Delivery::at(arena, place)?;
        let parent = owner_from(parent)?;
        let outcome = task::run_for_result(arena, me, task, argument)?;
        Ok(deliver(&delivery, me, parent, outcome))
    };
    run().unwrap_or_else(|error| {
        eprintln!("offspring: a process could not set itself up: {error}");
        SET_UP_FAILED
    })
}

fn deliver(delivery: &Delivery, me: Owner, parent: Owner, outcome: std::result::Result<Parcel<()>, Report>) -> i32 {
    let code = if outcome.is_ok() { 0 } else { NOT_DELIVERED };
    delivery.deliver(me, parent, outcome);
    code
}

/// `Process-1`, `Process-2`, ...; below a child of the family its name comes first.
fn next_name() -> String {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed) + 1;
    match names() {
        Some(names) => format!("{}:{number}", names.own),
        None => format!("Process-{number}"),
    }
}
