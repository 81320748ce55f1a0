use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::Core;
use crate::peers::Side;
use crate::port::{Goal, Limit, Port};
use crate::shape::Shape;
use crate::{Descriptor, Message, Parcel, QueueHandle, SendError, SendTimeoutError, TrySendError, WaitOn, Waitable};

/// The sending end of a [`Queue`](crate::Queue).
///
/// It can be cloned, used by several threads, captured by a forked child, and sent to other processes as an argument or in a
/// message. When the last sender is gone, dropped or dead with its process, receivers find the queue disconnected after the
/// last message.
pub struct Sender<T: Message> {
    pub(crate) port: Port,
    marker: PhantomData<fn(T)>,
}

impl<T: Message> Sender<T> {
    pub(crate) fn new(core: Arc<Core>) -> io::Result<Self> {
        core.join(Side::Senders)?;
        Ok(Self {
            port: Port::new(core),
            marker: PhantomData,
        })
    }

    /// Sends a message; waits while the queue is full.
    ///
    /// Once this returns `Ok` the message is in the queue and stays there until it is received, whoever dies.
    ///
    /// # Errors
    /// When the queue is closed or nobody is left to receive; when the value cannot be written into shared memory. The error
    /// holds the value.
    #[doc(alias = "put")]
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.port
            .send(value, Limit::FOREVER)
            .map_err(|(value, why)| SendError::new(value, why))
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and when the queue is full.
    #[doc(alias = "put_nowait")]
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.port
            .send(value, Limit::Now)
            .map_err(|(value, why)| TrySendError::new(value, why))
    }

    /// Sends a message; waits while the queue is full, but no longer than `timeout`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and when the time runs out.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.port
            .send(value, Limit::after(timeout))
            .map_err(|(value, why)| SendTimeoutError::new(value, why))
    }

    /// Sends a message; waits while the queue is full, but not beyond `deadline`.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.port
            .send(value, Limit::At(Some(deadline)))
            .map_err(|(value, why)| SendTimeoutError::new(value, why))
    }

    /// Sends all messages of an iterator, in order, at less cost for each than [`send`](Self::send); gives their number.
    ///
    /// Pass `&mut iterator` to keep what is left after an error.
    ///
    /// # Errors
    /// As [`send`](Self::send), for the first message that could not be sent; those before it were.
    pub fn send_many(&self, values: impl IntoIterator<Item = T>) -> Result<usize, SendError<T>> {
        match self.port.send_many(values.into_iter()) {
            (count, None) => Ok(count),
            (_, Some((value, why))) => Err(SendError::new(value, why)),
        }
    }

    /// Sends a message that was encoded before: its block changes hands, whatever its size, and nothing is copied. Waits
    /// while the queue is full.
    ///
    /// # Errors
    /// As [`send`](Self::send). The error holds the parcel.
    pub fn send_parcel(&self, parcel: Parcel<T>) -> Result<(), SendError<Parcel<T>>> {
        self.port
            .send_parcel(parcel, Limit::FOREVER)
            .map_err(|(parcel, why)| SendError::new(parcel, why))
    }

    /// A descriptor that becomes *readable* when there is room, or nobody to receive: see [`Descriptor`].
    ///
    /// # Errors
    /// When the system has no descriptor or no thread for it.
    pub fn descriptor(&self) -> io::Result<Descriptor> {
        self.wait_on().descriptor()
    }

    /// Ends the queue for everybody: nothing more can be sent, and receivers find it disconnected after the last message.
    ///
    /// A send that runs at the same time may still succeed.
    pub fn close(&self) {
        self.port.core.close();
    }

    /// Whether somebody closed the queue.
    pub fn is_closed(&self) -> bool {
        self.port.is_closed()
    }

    /// How many messages there are to receive.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.port.len()
    }

    /// Whether there is nothing to receive.
    pub fn is_empty(&self) -> bool {
        self.port.is_empty()
    }

    /// Whether a [`try_send`](Self::try_send) would find no room.
    pub fn is_full(&self) -> bool {
        self.port.is_full()
    }

    /// How many messages the queue can hold.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> usize {
        self.port.capacity()
    }

    /// The queue's name, to be sent by other means; it does not keep the queue alive.
    pub fn to_handle(&self) -> QueueHandle {
        QueueHandle::new(self.port.core.handle())
    }

    /// A sender for the queue of this name.
    ///
    /// # Errors
    /// When the queue is gone or is of another type, or the name is garbage; when too many processes send to it.
    pub fn from_handle(handle: QueueHandle) -> io::Result<Self> {
        let core = Core::attach(handle.memory, |capacity| Shape::of::<T>(capacity, false))?;
        let from = handle.sender()?;
        let sender = Self::new(core)?;
        if let Some(from) = from {
            sender.port.core.arrive(Side::Senders, from);
        }
        Ok(sender)
    }
}

/// Ready when there is room, or nobody to receive.
impl<T: Message> Waitable for Sender<T> {
    fn wait_on(&self) -> WaitOn<'_> {
        self.port.wait_on(Goal::Room)
    }
}

impl<T: Message> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.port.core.join_again(Side::Senders);
        Self {
            port: self.port.duplicate(),
            marker: PhantomData,
        }
    }
}

impl<T: Message> Drop for Sender<T> {
    fn drop(&mut self) {
        self.port.core.leave(Side::Senders);
    }
}

impl<T: Message> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&self.port.core).finish()
    }
}
