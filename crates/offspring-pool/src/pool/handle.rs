use std::fmt;
use std::sync::Arc;

use offspring_queue::Message;

use super::builder::PoolBuilder;
use super::calls::Calls;
use super::crew::Crew;
use super::views::Views;
use crate::error::Result;
use crate::task::{SpreadKind, TaskFn};

/// A pool of worker processes that run functions over items.
///
/// ```
/// use offspring_pool::Pool;
///
/// fn double(number: i32) -> i32 {
///     number * 2
/// }
///
/// let pool = Pool::new(2)?;
/// assert_eq!(pool.map(double, [1, 2, 3, 4])?, [2, 4, 6, 8]);
/// assert_eq!(pool.map(|word: String| word.len(), vec!["on".to_string(), "four".to_string()])?, [2, 4]);
/// # Ok::<(), offspring_pool::Error>(())
/// ```
///
/// A pool can be used from several threads at once. Dropping it closes it and waits for its workers to leave.
///
/// # When a worker dies
///
/// Whatever ends a worker in the middle of a task (a signal, `abort`, `exit`, the out-of-memory killer), the others go
/// on, it is replaced, and exactly the item that it was working on fails, with an error that names the process and how
/// it ended ([`Error::is_worker_death`](crate::Error::is_worker_death)); with
/// [`retries`](PoolBuilder::retries) the item is tried again first. A panic fails its item too
/// ([`Error::is_panic`](crate::Error::is_panic)) and the worker lives on.
pub struct Pool {
    crew: Arc<Crew>,
}

impl Pool {
    /// Starts a pool of so many workers.
    ///
    /// # Errors
    /// When `workers` is 0 or more than [`MAX_WORKERS`](super::MAX_WORKERS), or one cannot be started; see
    /// [`PoolBuilder::build`].
    pub fn new(workers: usize) -> Result<Self> {
        Self::builder().workers(workers).build()
    }

    /// Makes a pool with more settings.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// Calls `function` for every item and gives the results in the order of the items.
    ///
    /// The function's shape decides what it gets, a value or a view of it: see [`TaskFn`].
    ///
    /// # Errors
    /// The first failure stops the call: the panic or the death of a worker, of the item that comes first. Tasks that
    /// were not begun are not run then; [`map_all`](Self::map_all) goes on instead. Also when the items do not fit
    /// into the arena, and when the pool is closed, terminated or broken.
    pub fn map<F, A, R, K, I>(&self, function: F, items: I) -> Result<Vec<R>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: 'static,
        I: IntoIterator<Item = A>,
    {
        Calls::new(&self.crew, None).map(function, items)
    }

    /// Calls `function` for every item, whatever becomes of the others, and gives each item's result or error.
    ///
    /// ```
    /// use offspring_pool::Pool;
    ///
    /// let pool = Pool::new(2)?;
    /// let results = pool.map_all(|n: u32| 12 / n, [3, 0, 4])?;
    /// assert_eq!(*results[0].as_ref().unwrap(), 4);
    /// assert!(results[1].as_ref().unwrap_err().is_panic());
    /// assert_eq!(*results[2].as_ref().unwrap(), 3);
    /// # Ok::<(), offspring_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the items do not fit into the arena, and when the pool is closed, terminated or broken.
    pub fn map_all<F, A, R, K, I>(&self, function: F, items: I) -> Result<Vec<Result<R>>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: 'static,
        I: IntoIterator<Item = A>,
    {
        Calls::new(&self.crew, None).map_all(function, items)
    }

    /// As [`map`](Self::map), but leaves the results where the workers wrote them, to be read in place.
    ///
    /// ```
    /// use offspring_pool::Pool;
    ///
    /// let pool = Pool::new(2)?;
    /// let rows = pool.map_views(|n: u32| vec![n; 3], [7, 8])?;
    /// assert_eq!(rows[1].as_slice(), [8, 8, 8]);
    /// # Ok::<(), offspring_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`map`](Self::map).
    pub fn map_views<F, A, R, K, I>(&self, function: F, items: I) -> Result<Views<R>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: 'static,
        I: IntoIterator<Item = A>,
    {
        Calls::new(&self.crew, None).map_views(function, items)
    }

    /// As [`map`](Self::map), for a function of several arguments and items that are tuples of them.
    ///
    /// ```
    /// use offspring_pool::Pool;
    ///
    /// fn area(width: u32, height: u32) -> u32 {
    ///     width * height
    /// }
    ///
    /// let pool = Pool::new(2)?;
    /// assert_eq!(pool.starmap(area, [(3, 4), (5, 6)])?, [12, 30]);
    /// # Ok::<(), offspring_pool::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`map`](Self::map).
    pub fn starmap<F, A, R, K, I>(&self, function: F, items: I) -> Result<Vec<R>>
    where
        F: TaskFn<A, R, K>,
        A: Message,
        R: Message,
        K: SpreadKind + 'static,
        I: IntoIterator<Item = A>,
    {
        Calls::new(&self.crew, None).starmap(function, items)
    }

    /// The pool's calls with so many items to a chunk, the unit that a worker takes at a time.
    ///
    /// By default a call is cut into about a thousand chunks. Large chunks cost less for tiny tasks, small ones
    /// balance uneven tasks better.
    ///
    /// ```
    /// # let pool = offspring_pool::Pool::new(2)?;
    /// let sums = pool.chunk_size(1).map(|n: u64| (0..n).sum::<u64>(), [10, 1_000_000])?;
    /// # assert_eq!(sums, [45, 499_999_500_000]);
    /// # Ok::<(), offspring_pool::Error>(())
    /// ```
    #[doc(alias = "chunksize")]
    pub fn chunk_size(&self, items: usize) -> Calls<'_> {
        Calls::new(&self.crew, Some(items))
    }

    /// How many workers the pool has, those included that are just being replaced.
    pub fn workers(&self) -> usize {
        self.crew.shared.cells().len()
    }

    /// The pids of the workers that are there now.
    pub fn pids(&self) -> Vec<u32> {
        self.crew.pids()
    }

    /// Takes no more calls; the workers leave when those under way are done. Does not wait: see [`join`](Self::join).
    pub fn close(&self) {
        if self.crew.is_mine() {
            self.crew.close();
        }
    }

    /// Ends the workers at once, whatever they are doing; calls under way fail. Does not wait: see
    /// [`join`](Self::join).
    pub fn terminate(&self) {
        if self.crew.is_mine() {
            self.crew.terminate();
        }
    }

    /// Waits until the workers of a closed or terminated pool are gone.
    ///
    /// # Errors
    /// When the pool is still open, or had to give up because its workers would not start.
    pub fn join(&self) -> Result<()> {
        self.crew.join()
    }
}

impl From<Arc<Crew>> for Pool {
    fn from(crew: Arc<Crew>) -> Self {
        Self { crew }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.crew.is_mine() {
            return;
        }
        if std::thread::panicking() {
            self.crew.terminate();
        } else {
            self.crew.close();
        }
        // A pool that gave up has told its callers so.
        let _ = self.crew.join();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.workers())
            .field("crew", &self.crew)
            .finish()
    }
}
