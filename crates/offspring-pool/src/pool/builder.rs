use std::fmt;

use offspring_process::{Launcher, StartMethod};
use offspring_queue::{Message, Parcel};
use offspring_shm::family;

use super::Pool;
use super::crew::{Crew, Recipe};
use crate::error::{Error, Result};
use crate::ours::Ours;
use crate::task::{TaskFn, TaskTable, admit};

/// The most workers a pool can have: as many processes as one family can.
pub const MAX_WORKERS: usize = 4094;

/// Makes a [`Pool`] with more than a number of workers; from [`Pool::builder`].
pub struct PoolBuilder {
    workers: Option<usize>,
    launcher: Launcher,
    most_tasks: Option<u64>,
    retries: u32,
    initializer: Result<Option<(u64, Ours<Parcel<()>>)>>,
}

impl PoolBuilder {
    pub(crate) fn new() -> Self {
        Self {
            workers: None,
            launcher: Launcher::new(),
            most_tasks: None,
            retries: 0,
            initializer: Ok(None),
        }
    }

    /// How many processes. By default one for each processor that this process may use: its affinity and its
    /// control group's quota are respected.
    #[doc(alias = "processes")]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How the workers are started; by default from the zygote.
    #[doc(alias = "context")]
    pub fn start(mut self, method: StartMethod) -> Self {
        self.launcher.method(method);
        self
    }

    /// How the workers are launched in all details: environment, working directory, limits, niceness, processors.
    pub fn launcher(mut self, launcher: Launcher) -> Self {
        self.launcher = launcher;
        self
    }

    /// A function that each worker calls once, before its first task. If it panics the pool gives up.
    ///
    /// ```
    /// use offspring_pool::Pool;
    /// use std::sync::OnceLock;
    ///
    /// static GREETING: OnceLock<String> = OnceLock::new();
    ///
    /// fn prepare(greeting: String) {
    ///     GREETING.set(greeting).unwrap();
    /// }
    ///
    /// fn greet(name: String) -> String {
    ///     format!("{}, {name}", GREETING.get().unwrap())
    /// }
    ///
    /// let pool = Pool::builder().workers(2).initializer(prepare, "hello".to_string()).build()?;
    /// assert_eq!(pool.map(greet, ["Ada".to_string()])?, ["hello, Ada"]);
    /// # Ok::<(), offspring_pool::Error>(())
    /// ```
    #[doc(alias = "initargs")]
    pub fn initializer<F, A, K>(mut self, function: F, argument: A) -> Self
    where
        F: TaskFn<A, (), K>,
        A: Message,
        K: 'static,
    {
        admit(function);
        self.initializer = prepare::<F, A, K>(&argument).map(Some);
        self
    }

    /// Replaces each worker by a new process when it has done so many tasks, for functions that leak. A chunk that was
    /// begun is finished first: set the chunk size too where the number must be exact.
    #[doc(alias = "maxtasksperchild")]
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.most_tasks = Some(tasks);
        self
    }

    /// How often an item is tried again, in another worker, after a worker died with it; by default never, since a
    /// task that was begun may have done half of its work.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// When the numbers make no sense, or a worker cannot be started, for lack of processes, descriptors or memory:
    /// the error says which worker, and those that were started are gone.
    pub fn build(mut self) -> Result<Pool> {
        let workers = match self.workers {
            Some(0) => {
                return Err(Error::invalid(
                    "a pool of 0 workers would never do anything: ask for at least 1",
                ));
            }
            Some(many) if many > MAX_WORKERS => {
                return Err(Error::invalid(format!(
                    "a pool of {many} workers is more than the {MAX_WORKERS} processes that one family can have"
                )));
            }
            Some(workers) => workers,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        if self.most_tasks == Some(0) {
            return Err(Error::invalid(
                "workers that may do 0 tasks would never do anything: allow at least 1",
            ));
        }
        // A terminal sends Ctrl-C to the whole foreground group: the workers leave it to the root.
        self.launcher.ignore_interrupt(true);
        let recipe = Recipe {
            launcher: self.launcher,
            most_tasks: self.most_tasks.unwrap_or(0),
            retries: self.retries,
            initializer: self.initializer?,
        };
        Ok(Pool::from(Crew::start(workers, recipe)?))
    }
}

/// Makes an initializer ready to be found by the workers.
fn prepare<F, A, K>(argument: &A) -> Result<(u64, Ours<Parcel<()>>)>
where
    F: TaskFn<A, (), K>,
    A: Message,
    K: 'static,
{
    let failed = |error| Error::os("cannot send the initializer", error);
    let task = TaskTable::of::<F, A, (), K>().identity().map_err(failed)?;
    let arena = family::arena().map_err(failed)?;
    let me = family::me().map_err(failed)?;
    Ok((task, Ours::new(Parcel::encode(arena, me, argument)?.erase())))
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("workers", &self.workers)
            .field("launcher", &self.launcher)
            .field("most_tasks", &self.most_tasks)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}
