use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::Core;
use crate::shape::Shape;
use crate::{
    Descriptor, Iter, Message, Parcel, QueueHandle, Receiver, RecvError, RecvTimeoutError, SendError, SendTimeoutError,
    Sender, TryIter, TryRecvError, TrySendError, View, WaitOn, Waitable,
};

/// A bounded queue in shared memory, to which any number of processes and threads send and from which any number receive.
///
/// Any of them may be killed at any moment. What was sent stays until it is received; half-written messages vanish; nobody
/// hangs. Messages of one sender are received in the order in which it sent them. Small messages lie in the queue itself, large
/// ones in blocks of the arena that are written once and change hands; a message may be as large as the arena.
///
/// A `Queue` is both ends at once; [`sender`](Queue::sender) and [`receiver`](Queue::receiver) give one end. All three can be
/// sent to other processes: as a task's argument, or in a message. Waiting costs no processor time.
///
/// ```
/// use offspring_queue::Queue;
///
/// let queue = Queue::new(100)?;
/// let (sender, receiver) = (queue.sender(), queue.receiver());
/// drop(queue);
///
/// sender.send("one".to_string())?;
/// sender.send("two".to_string())?;
/// drop(sender);
///
/// // The last sender is gone: the iterator ends after the last message.
/// assert_eq!(receiver.iter().collect::<Vec<_>>(), ["one", "two"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Fewer promises, fewer types
///
/// Python's `SimpleQueue` is this type. There is no priority queue: a heap moves many messages for each that comes or goes, and
/// a process that dies in the middle leaves one of them twice and another nowhere; where a few levels do, take a queue for each
/// and [`try_recv`](Queue::try_recv) from the most urgent one first.
#[doc(alias = "SimpleQueue")]
#[doc(alias = "channel")]
pub struct Queue<T: Message> {
    pub(crate) sender: Sender<T>,
    pub(crate) receiver: Receiver<T>,
}

impl<T: Message> Queue<T> {
    /// A queue with room for `capacity` messages.
    ///
    /// # Errors
    /// When the capacity is 0, or the arena has no room for so many slots.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let core = Core::create(Shape::of::<T>(capacity, false)?)?;
        Self::over(core)
    }

    fn over(core: Arc<Core>) -> io::Result<Self> {
        Ok(Self {
            sender: Sender::new(Arc::clone(&core))?,
            receiver: Receiver::new(core)?,
        })
    }

    /// A sending end.
    pub fn sender(&self) -> Sender<T> {
        self.sender.clone()
    }

    /// A receiving end.
    pub fn receiver(&self) -> Receiver<T> {
        self.receiver.clone()
    }

    /// Both ends, apart.
    pub fn split(self) -> (Sender<T>, Receiver<T>) {
        (self.sender, self.receiver)
    }

    /// As [`Sender::send`].
    ///
    /// # Errors
    /// As there.
    #[doc(alias = "put")]
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.sender.send(value)
    }

    /// As [`Sender::try_send`].
    ///
    /// # Errors
    /// As there.
    #[doc(alias = "put_nowait")]
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.sender.try_send(value)
    }

    /// As [`Sender::send_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.sender.send_timeout(value, timeout)
    }

    /// As [`Sender::send_deadline`].
    ///
    /// # Errors
    /// As there.
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.sender.send_deadline(value, deadline)
    }

    /// As [`Sender::send_many`].
    ///
    /// # Errors
    /// As there.
    pub fn send_many(&self, values: impl IntoIterator<Item = T>) -> Result<usize, SendError<T>> {
        self.sender.send_many(values)
    }

    /// As [`Sender::send_parcel`].
    ///
    /// # Errors
    /// As there.
    pub fn send_parcel(&self, parcel: Parcel<T>) -> Result<(), SendError<Parcel<T>>> {
        self.sender.send_parcel(parcel)
    }

    /// As [`Receiver::recv`].
    ///
    /// # Errors
    /// As there.
    #[doc(alias = "get")]
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv()
    }

    /// As [`Receiver::try_recv`].
    ///
    /// # Errors
    /// As there.
    #[doc(alias = "get_nowait")]
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv()
    }

    /// As [`Receiver::recv_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_timeout(timeout)
    }

    /// As [`Receiver::recv_deadline`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.receiver.recv_deadline(deadline)
    }

    /// As [`Receiver::recv_many`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_many(&self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        self.receiver.recv_many(into, most)
    }

    /// As [`Receiver::recv_view`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_view(&self) -> Result<View<'_, T>, RecvError> {
        self.receiver.recv_view()
    }

    /// As [`Receiver::descriptor`].
    ///
    /// # Errors
    /// As there.
    pub fn descriptor(&self) -> io::Result<Descriptor> {
        self.receiver.descriptor()
    }

    /// As [`Receiver::iter`]. A queue that is held as a whole ends only by [`close`](Self::close).
    pub fn iter(&self) -> Iter<'_, T> {
        self.receiver.iter()
    }

    /// As [`Receiver::try_iter`].
    pub fn try_iter(&self) -> TryIter<'_, T> {
        self.receiver.try_iter()
    }

    /// Ends the queue for everybody: nothing more can be sent; what is in it can be received.
    ///
    /// A send that runs at the same time may still succeed.
    pub fn close(&self) {
        self.sender.close();
    }

    /// Whether somebody closed the queue.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// How many messages there are to receive.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether there is nothing to receive.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Whether there is no room.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.sender.is_full()
    }

    /// How many messages the queue can hold.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> usize {
        self.sender.capacity()
    }

    /// The queue's name, to be sent by other means; it does not keep the queue alive.
    pub fn to_handle(&self) -> QueueHandle {
        self.sender.to_handle()
    }

    /// Both ends of the queue of this name.
    ///
    /// # Errors
    /// When the queue is gone or is of another type, or the name is garbage; when too many processes hold it.
    pub fn from_handle(handle: QueueHandle) -> io::Result<Self> {
        Ok(Self {
            sender: Sender::from_handle(handle)?,
            receiver: Receiver::from_handle(handle)?,
        })
    }
}

/// Ready when there is a message, or the end. For room, wait on a [`sender`](Queue::sender).
impl<T: Message> Waitable for Queue<T> {
    fn wait_on(&self) -> WaitOn<'_> {
        self.receiver.wait_on()
    }
}

impl<T: Message> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            receiver: self.receiver.clone(),
        }
    }
}

impl<T: Message> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(&self.sender.port.core).finish()
    }
}
