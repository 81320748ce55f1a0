use std::error;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::{Duration, Instant};

use offspring_sync::Tag;

use crate::core::Core;
use crate::peers::Side;
use crate::port::{Goal, Limit, Port};
use crate::raw::Position;
use crate::recv_error::Unreceived;
use crate::shape::Shape;
use crate::view::finish;
use crate::{
    Descriptor, Message, QueueHandle, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError,
    TrySendError, View, WaitOn, Waitable,
};

/// A bounded queue of work that knows when all of it is done.
///
/// Whoever takes a [`Task`] says when it is [done](Task::done); [`join`](JoinableQueue::join) waits for that. A task whose
/// worker dies first, or that is dropped without being done, goes back into the queue and is given to the next
/// worker: a death never makes `join` wait for ever, nor return before the work is done. When no worker is left at all, `join`
/// says so.
///
/// A task in somebody's hands keeps its slot, so the queue goes round once at most while it is held: choose a capacity that
/// leaves room for the tasks that are done meanwhile.
///
/// ```
/// use offspring_queue::JoinableQueue;
///
/// let queue = JoinableQueue::new(8)?;
/// let worker = queue.receiver()?;
/// queue.send(20)?;
/// queue.send(22)?;
///
/// let mut sum = 0;
/// while let Ok(task) = worker.try_recv() {
///     sum += *task;
///     task.done();
/// }
/// queue.join()?;
/// assert_eq!(sum, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A task cannot be done twice, as Python's `task_done` can:
///
/// ```compile_fail,E0382
/// # let queue = offspring_queue::JoinableQueue::new(8)?;
/// # let worker = queue.receiver()?;
/// # queue.send(1)?;
/// let task = worker.recv()?;
/// task.done();
/// task.done();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct JoinableQueue<T: Message> {
    pub(crate) port: Port,
    marker: PhantomData<fn(T)>,
}

/// The end of a [`JoinableQueue`] that gives out tasks.
pub struct TaskReceiver<T: Message> {
    pub(crate) port: Port,
    marker: PhantomData<fn() -> T>,
}

/// A message of a [`JoinableQueue`] that is being worked on; it belongs to the thread that received it.
#[must_use = "a task that is dropped goes back into the queue"]
pub struct Task<'a, T: Message> {
    port: &'a Port,
    at: Position,
    me: Tag,
    deliveries: u32,
    value: Option<T>,
    /// The lease depends on the life of this thread.
    marker: PhantomData<*const ()>,
}

/// Why [`JoinableQueue::join`] came back although work is left.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// The time ran out.
    Timeout,
    /// Work is left, and nobody is left who could take it.
    Deserted,
    /// The queue cannot be used by this thread, or its memory is damaged.
    Unusable(io::Error),
}

impl<T: Message> JoinableQueue<T> {
    /// A queue with room for `capacity` tasks, waiting or in work.
    ///
    /// # Errors
    /// When the capacity is 0, or the arena has no room for so many slots.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let core = Core::create(Shape::of::<T>(capacity, true)?)?;
        core.join(Side::Senders)?;
        Ok(Self {
            port: Port::new(core),
            marker: PhantomData,
        })
    }

    /// An end for a worker.
    ///
    /// # Errors
    /// When too many processes hold one.
    pub fn receiver(&self) -> io::Result<TaskReceiver<T>> {
        TaskReceiver::new(self.port.duplicate())
    }

    /// Waits until every task that was sent is done.
    ///
    /// # Errors
    /// When work is left and no worker.
    pub fn join(&self) -> Result<(), JoinError> {
        Ok(self.port.wait_for_rest(Limit::FOREVER)?)
    }

    /// Waits until every task that was sent is done, but no longer than `timeout`.
    ///
    /// # Errors
    /// When work is left then, or no worker.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        Ok(self.port.wait_for_rest(Limit::after(timeout))?)
    }

    /// A descriptor that becomes readable when [`join`](Self::join) would not wait: see [`Descriptor`].
    ///
    /// # Errors
    /// When the system has no descriptor or no thread for it.
    pub fn descriptor(&self) -> io::Result<Descriptor> {
        self.wait_on().descriptor()
    }

    /// Sends a task; waits while the queue is full.
    ///
    /// # Errors
    /// As [`Sender::send`](crate::Sender::send).
    #[doc(alias = "put")]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.port
            .send(value, Limit::FOREVER)
            .map_err(|(value, why)| SendError::new(value, why))
    }

    /// Sends a task if there is room now.
    ///
    /// # Errors
    /// As [`Sender::try_send`](crate::Sender::try_send).
    #[doc(alias = "put_nowait")]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.port
            .send(value, Limit::Now)
            .map_err(|(value, why)| TrySendError::new(value, why))
    }

    /// Sends a task; waits while the queue is full, but no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Sender::send_timeout`](crate::Sender::send_timeout).
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.port
            .send(value, Limit::after(timeout))
            .map_err(|(value, why)| SendTimeoutError::new(value, why))
    }

    /// Ends the queue for everybody: nothing more can be sent, and workers find it disconnected after the last task.
    pub fn close(&self) {
        self.port.core.close();
    }

    /// How many tasks wait for a worker.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.port.len()
    }

    /// Whether no task waits for a worker.
    pub fn is_empty(&self) -> bool {
        self.port.is_empty()
    }

    /// How many tasks the queue can hold.
    pub fn capacity(&self) -> usize {
        self.port.capacity()
    }

    /// The queue's name, to be sent by other means; it does not keep the queue alive.
    pub fn to_handle(&self) -> QueueHandle {
        QueueHandle::new(self.port.core.handle())
    }

    /// The queue of this name.
    ///
    /// # Errors
    /// When the queue is gone or is of another type, or the name is garbage; when too many processes hold it.
    pub fn from_handle(handle: QueueHandle) -> io::Result<Self> {
        let core = Core::attach(handle.memory, |capacity| Shape::of::<T>(capacity, true))?;
        let from = handle.sender()?;
        core.join(Side::Senders)?;
        if let Some(from) = from {
            core.arrive(Side::Senders, from);
        }
        Ok(Self {
            port: Port::new(core),
            marker: PhantomData,
        })
    }
}

impl<T: Message> TaskReceiver<T> {
    fn new(port: Port) -> io::Result<Self> {
        port.core.join(Side::Receivers)?;
        Ok(Self {
            port,
            marker: PhantomData,
        })
    }

    /// Takes the oldest task; waits while there is none.
    ///
    /// # Errors
    /// As [`Receiver::recv`](crate::Receiver::recv).
    #[doc(alias = "get")]
    pub fn recv(&self) -> Result<Task<'_, T>, RecvError> {
        Ok(Task::take(&self.port, Limit::FOREVER)?)
    }

    /// Takes the oldest task if there is one now.
    ///
    /// # Errors
    /// As [`Receiver::try_recv`](crate::Receiver::try_recv).
    #[doc(alias = "get_nowait")]
    pub fn try_recv(&self) -> Result<Task<'_, T>, TryRecvError> {
        Ok(Task::take(&self.port, Limit::Now)?)
    }

    /// Takes the oldest task; waits while there is none, but no longer than `timeout`.
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`](crate::Receiver::recv_timeout).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Task<'_, T>, RecvTimeoutError> {
        Ok(Task::take(&self.port, Limit::after(timeout))?)
    }

    /// Takes the oldest task; waits while there is none, but not beyond `deadline`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<Task<'_, T>, RecvTimeoutError> {
        Ok(Task::take(&self.port, Limit::At(Some(deadline)))?)
    }

    /// Leases the oldest task and reads it where it lies; it is done when the view is dropped. See [`View`].
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_view(&self) -> Result<View<'_, T>, RecvError> {
        Ok(View::lease(&self.port, Limit::FOREVER)?)
    }

    /// A descriptor that becomes readable when there is a task, or the end: see [`Descriptor`].
    ///
    /// # Errors
    /// When the system has no descriptor or no thread for it.
    pub fn descriptor(&self) -> io::Result<Descriptor> {
        self.wait_on().descriptor()
    }

    /// The receiver of the queue of this name.
    ///
    /// # Errors
    /// When the queue is gone or is of another type, or the name is garbage; when too many processes hold it.
    pub fn from_handle(handle: QueueHandle) -> io::Result<Self> {
        let core = Core::attach(handle.memory, |capacity| Shape::of::<T>(capacity, true))?;
        let from = handle.sender()?;
        let receiver = Self::new(Port::new(core))?;
        if let Some(from) = from {
            receiver.port.core.arrive(Side::Receivers, from);
        }
        Ok(receiver)
    }
}

/// Ready when [`join`](JoinableQueue::join) would not wait: no work is left, or nobody who could do it.
impl<T: Message> Waitable for JoinableQueue<T> {
    fn wait_on(&self) -> WaitOn<'_> {
        self.port.wait_on(Goal::Rest)
    }
}

/// Ready when there is a task, or the end.
impl<T: Message> Waitable for TaskReceiver<T> {
    fn wait_on(&self) -> WaitOn<'_> {
        self.port.wait_on(Goal::Message)
    }
}

impl<'a, T: Message> Task<'a, T> {
    fn take(port: &'a Port, limit: Limit) -> Result<Self, Unreceived> {
        let view = View::<T>::lease(port, limit)?;
        let value = view.decode();
        let deliveries = view.delivery_count();
        match value {
            Ok(value) => {
                let (at, me) = view.into_lease();
                Ok(Self {
                    port,
                    at,
                    me,
                    deliveries,
                    value: Some(value),
                    marker: PhantomData,
                })
            }
            // It would be as unreadable for the next worker: the view's end takes it out of the queue.
            Err(error) => Err(Unreceived::Decode(error)),
        }
    }

    /// Says that the task is done, and gives its value.
    #[doc(alias = "task_done")]
    #[expect(clippy::missing_panics_doc, reason = "the value is there until the task is done")]
    pub fn done(mut self) -> T {
        self.value.take().expect("a task has its value until it is done")
    }

    /// How often the task was given out, this time included: more than once after a worker died with it.
    pub fn delivery_count(&self) -> u32 {
        self.deliveries
    }
}

impl<T: Message> Deref for Task<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("a task has its value until it is done")
    }
}

impl<T: Message> Drop for Task<'_, T> {
    fn drop(&mut self) {
        if self.value.is_some() {
            self.port.core.ring().give_back(self.at, self.me);
        } else {
            finish(&self.port.core, self.at, self.me);
        }
    }
}

impl<T: Message> Clone for JoinableQueue<T> {
    fn clone(&self) -> Self {
        self.port.core.join_again(Side::Senders);
        Self {
            port: self.port.duplicate(),
            marker: PhantomData,
        }
    }
}

impl<T: Message> Clone for TaskReceiver<T> {
    fn clone(&self) -> Self {
        self.port.core.join_again(Side::Receivers);
        Self {
            port: self.port.duplicate(),
            marker: PhantomData,
        }
    }
}

impl<T: Message> Drop for JoinableQueue<T> {
    fn drop(&mut self) {
        self.port.core.leave(Side::Senders);
    }
}

impl<T: Message> Drop for TaskReceiver<T> {
    fn drop(&mut self) {
        self.port.core.leave(Side::Receivers);
    }
}

impl<T: Message> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JoinableQueue").field(&self.port.core).finish()
    }
}

impl<T: Message> fmt::Debug for TaskReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskReceiver").field(&self.port.core).finish()
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for Task<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Task").field(&**self).finish()
    }
}

impl JoinError {
    /// Whether the time ran out.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// Whether no worker is left.
    pub fn is_deserted(&self) -> bool {
        matches!(self, Self::Deserted)
    }
}

impl From<Unreceived> for JoinError {
    fn from(why: Unreceived) -> Self {
        match why {
            Unreceived::Empty => Self::Timeout,
            Unreceived::Disconnected => Self::Deserted,
            Unreceived::Decode(error) => Self::Unusable(error.into()),
            Unreceived::Unusable(error) => Self::Unusable(error),
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("the work was not done until the time ran out"),
            Self::Deserted => f.write_str("work is left in the queue, and no worker"),
            Self::Unusable(error) => error.fmt(f),
        }
    }
}

impl error::Error for JoinError {}

impl From<JoinError> for io::Error {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Timeout => Self::new(io::ErrorKind::TimedOut, error),
            JoinError::Deserted => Self::new(io::ErrorKind::BrokenPipe, error),
            JoinError::Unusable(error) => error,
        }
    }
}
