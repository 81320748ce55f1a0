//! What a new process is to be like, and how it is started.
//!
// UNSAFETY: the checked fork, once it has checked.
#![expect(unsafe_code, reason = "fork of a process with one thread")]

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use crate::environment::Variable;
use crate::failure::While;
use crate::request::{self, Request, open_stream};
use crate::settings::Settings;
use crate::{Child, EntryPoint, Forked, Resource, Stdio, fork, hook, kernel, spawn, zygote};

/// How a process is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum StartMethod {
    /// A small copy of the program, made at the first start, forks it: fast, and independent of how much memory this
    /// process uses and how many threads it has. Where the system does not allow that (see [`zygote::describe`]) it is
    /// the same as `Spawn`.
    #[default]
    #[doc(alias = "forkserver")]
    Zygote,
    /// The program is executed again for it: a fresh process, without what [`zygote::preload`] loaded, at the price of an
    /// exec and the loader's work.
    Spawn,
}

/// What a new process is to be like, in the manner of [`std::process::Command`].
///
/// A new process has an empty signal mask, `/dev/null` as its standard input, this process's standard output and error as
/// they are at the moment of the start, its environment and its current directory, and no descriptor but those that are
/// passed to it.
///
/// # Examples
///
/// ```
/// use offspring_process::{Arguments, EntryPoint, Launcher, StartMethod};
///
/// static CHECK: EntryPoint = EntryPoint::new("check", check);
///
/// fn check(_: Arguments) -> i32 {
///     let set = std::env::var_os("GREETING").is_some_and(|value| value == "hello");
///     let moved = std::env::current_dir().is_ok_and(|directory| directory == std::path::Path::new("/"));
///     if set && moved { 0 } else { 1 }
/// }
///
/// let child = Launcher::new()
///     .method(StartMethod::Spawn)
///     .env("GREETING", "hello")
///     .current_dir("/")
///     .start(&CHECK, &[], &[])?;
/// assert!(child.wait()?.success());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Default)]
pub struct Launcher {
    method: StartMethod,
    name: Option<String>,
    settings: Settings,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
}

impl Launcher {
    /// A launcher without any settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The name that process listings show. The kernel keeps 15 bytes. By default it is the entry point's.
    pub fn name(&mut self, name: &str) -> &mut Self {
        self.name = Some(name.to_owned());
        self
    }

    /// How processes are started.
    pub fn method(&mut self, method: StartMethod) -> &mut Self {
        self.method = method;
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        let set = Variable::Set(key.as_ref().to_owned(), value.as_ref().to_owned());
        self.settings.environment.push(set);
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        let key: OsString = key.as_ref().to_owned();
        self.settings.environment.push(Variable::Remove(key));
        self
    }

    /// Removes all environment variables, also those that were set before this call.
    pub fn env_clear(&mut self) -> &mut Self {
        self.settings.environment.clear();
        self.settings.environment.push(Variable::Clear);
        self
    }

    /// The current directory.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.settings.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// The standard input; by default `/dev/null`.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// The standard output; by default this process's.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// The standard error; by default this process's.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Limits a resource, see setrlimit(2).
    pub fn rlimit(&mut self, resource: Resource, soft: u64, hard: u64) -> &mut Self {
        self.settings.limits.push((resource, soft, hard));
        self
    }

    /// The nice value, from -20 (favoured) to 19.
    pub fn nice(&mut self, nice: i32) -> &mut Self {
        self.settings.nice = Some(nice);
        self
    }

    /// The processors that it may run on.
    pub fn cpu_affinity(&mut self, cpus: &[usize]) -> &mut Self {
        self.settings.affinity = Some(cpus.to_vec());
        self
    }

    /// Whether it ignores SIGINT: Ctrl-C reaches all processes of the terminal's foreground group, and a parent that ends
    /// its children in order does not want them to go first.
    pub fn ignore_interrupt(&mut self, ignore: bool) -> &mut Self {
        self.settings.ignore_interrupt = ignore;
        self
    }

    /// Starts a process at `entry`, and gives it `payload` and duplicates of `descriptors`.
    ///
    /// # Errors
    ///
    /// The process could not be started, and nothing is left of it: limits (`RLIMIT_NPROC`, `RLIMIT_NOFILE`, memory), an
    /// entry point outside of the main program, an executable that is gone where `/proc` is missing, more descriptors
    /// than the kernel passes (about 250), or a setting that the system refused, by name.
    pub fn start(
        &self,
        entry: &'static EntryPoint,
        payload: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<Child> {
        hook::require()?;
        zygote::check_not_preloading()?;
        self.settings.validate()?;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let streams = [
            stream(self.stdin.as_ref().unwrap_or(&Stdio::Null), stdin.as_fd()),
            stream(self.stdout.as_ref().unwrap_or(&Stdio::Inherit), stdout.as_fd()),
            stream(self.stderr.as_ref().unwrap_or(&Stdio::Inherit), stderr.as_fd()),
        ];
        let name = self.name.as_deref().unwrap_or(entry.name());
        let request = Request::new(entry, name, &self.settings, streams, payload, descriptors)?;
        let child = match self.method {
            StartMethod::Zygote => match zygote::start(&request)? {
                Some(child) => child,
                None => spawn::start(&request)?,
            },
            StartMethod::Spawn => spawn::start(&request)?,
        };
        if self.settings.can_fail() {
            child.confirm()?;
        }
        Ok(child)
    }

    /// Forks this process; the copy runs `run` and exits with the number that it returns.
    ///
    /// The copy has all of this process's memory, so `run` may capture anything. For the same reason it is only possible
    /// while this process has a single thread: what the others were doing, holding a lock for instance, would stay undone
    /// in the copy for ever. A test under libtest always runs on a second thread.
    ///
    /// # Errors
    ///
    /// This process has several threads (the error says how many) or cannot tell without `/proc`; or the system refused a
    /// process or a setting.
    ///
    /// # Examples
    ///
    /// ```
    /// # if std::fs::read_dir("/proc/self/task")?.count() > 1 { return Ok(()); }
    /// use offspring_process::Launcher;
    ///
    /// let captured = vec![1, 2, 3];
    /// let child = Launcher::new().fork(|| captured.iter().sum())?;
    /// assert_eq!(child.wait()?.code(), Some(6));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fork(&self, run: impl FnOnce() -> i32) -> io::Result<Child> {
        self.settings.validate()?;
        let threads = count_threads().during("cannot count the threads of this process")?;
        if threads > 1 {
            return Err(io::Error::other(format!(
                "this process has {threads} threads, and only one with a single thread can be forked safely: fork before \
                 the others are started, or use another start method"
            )));
        }
        // What is buffered would be written twice.
        io::stdout().flush()?;
        // SAFETY: this is the only thread, so that the copy may do whatever this process may.
        let forked = unsafe { fork() };
        match forked? {
            Forked::Parent(child) => {
                if self.settings.can_fail() {
                    child.confirm()?;
                }
                Ok(child)
            }
            Forked::Child => {
                if let Err(error) = self.settle() {
                    request::fail(&error);
                }
                request::exit_with(run)
            }
        }
    }

    /// Applies the settings in a forked copy.
    fn settle(&self) -> io::Result<()> {
        let replace = |stdio: &Option<Stdio>, default: Option<&OwnedFd>| -> io::Result<Option<OwnedFd>> {
            match (stdio, default) {
                (Some(Stdio::Descriptor(fd)), _) => fd.try_clone().map(Some),
                (Some(Stdio::Null), _) => hook::null_device().map(Some),
                (Some(Stdio::Inherit), _) | (None, None) => Ok(None),
                (None, Some(fd)) => fd.try_clone().map(Some),
            }
        };
        let null = hook::null_device()?;
        let stdin = replace(&self.stdin, Some(&null))?;
        let stdout = replace(&self.stdout, None)?;
        let stderr = replace(&self.stderr, None)?;
        if let Some(fd) = stdin {
            nix::unistd::dup2_stdin(fd)?;
        }
        if let Some(fd) = stdout {
            nix::unistd::dup2_stdout(fd)?;
        }
        if let Some(fd) = stderr {
            nix::unistd::dup2_stderr(fd)?;
        }
        if let Some(name) = &self.name {
            kernel::set_name(name.as_bytes());
        }
        self.settings.apply_interrupt();
        kernel::empty_signal_mask();
        if self.settings.can_fail() {
            request::apply(&self.settings)
        } else {
            Ok(())
        }
    }
}

fn stream<'a>(stdio: &'a Stdio, ours: BorrowedFd<'a>) -> Option<BorrowedFd<'a>> {
    match stdio {
        Stdio::Inherit => open_stream(ours),
        Stdio::Null => None,
        Stdio::Descriptor(fd) => Some(fd.as_fd()),
    }
}

/// The number of this process's threads. One that has been joined may still be listed for a moment.
fn count_threads() -> io::Result<usize> {
    let mut count = 0;
    for _ in 0..20 {
        count = fs::read_dir("/proc/self/task")?.count();
        if count <= 1 {
            break;
        }
        std::thread::sleep(Duration::from_micros(250));
    }
    Ok(count)
}

impl fmt::Debug for Launcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Launcher");
        debug
            .field("method", &self.method)
            .field("name", &self.name)
            .field("settings", &self.settings);
        if self.method == StartMethod::Zygote {
            debug.field("zygote", &zygote::describe());
        }
        debug.finish_non_exhaustive()
    }
}
