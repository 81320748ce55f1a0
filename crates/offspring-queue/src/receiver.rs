use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::Core;
use crate::peers::Side;
use crate::port::{Goal, Limit, Port};
use crate::shape::Shape;
use crate::{Descriptor, Message, QueueHandle, RecvError, RecvTimeoutError, TryRecvError, View, WaitOn, Waitable};

/// The receiving end of a [`Queue`](crate::Queue).
///
/// It can be cloned, used by several threads, captured by a forked child, and sent to other processes as an argument or in a
/// message. Each message is received by one of the receivers. When the last one is gone, dropped or dead with its process,
/// senders find the queue disconnected.
pub struct Receiver<T: Message> {
    pub(crate) port: Port,
    marker: PhantomData<fn() -> T>,
}

impl<T: Message> Receiver<T> {
    pub(crate) fn new(core: Arc<Core>) -> io::Result<Self> {
        core.join(Side::Receivers)?;
        Ok(Self {
            port: Port::new(core),
            marker: PhantomData,
        })
    }

    /// Receives the oldest message; waits while the queue is empty.
    ///
    /// The message is this thread's alone from then on: if it is killed, the message is gone. Take
    /// [`recv_view`](Self::recv_view) where it must not be.
    ///
    /// # Errors
    /// When the queue is empty, and closed or without anybody who could send; when a message came that cannot be read.
    #[doc(alias = "get")]
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.port.recv(Limit::FOREVER)
    }

    /// Receives the oldest message if there is one now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and when the queue is empty.
    #[doc(alias = "get_nowait")]
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.port.recv(Limit::Now)
    }

    /// Receives the oldest message; waits while the queue is empty, but no longer than `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and when the time runs out.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.port.recv(Limit::after(timeout))
    }

    /// Receives the oldest message; waits while the queue is empty, but not beyond `deadline`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.port.recv(Limit::At(Some(deadline)))
    }

    /// Receives at least one message and at most `most`, those that are there, and puts them at the end of `into`; gives
    /// their number. Waits while the queue is empty.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), when not even one came.
    pub fn recv_many(&self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        if most == 0 {
            return Ok(0);
        }
        into.push(self.recv()?);
        let rest = self.try_iter().take(most - 1);
        let before = into.len();
        into.extend(rest);
        Ok(into.len() - before + 1)
    }

    /// Leases the oldest message and reads it where it lies; waits while the queue is empty. See [`View`].
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_view(&self) -> Result<View<'_, T>, RecvError> {
        Ok(View::lease(&self.port, Limit::FOREVER)?)
    }

    /// Leases the oldest message if there is one now.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv).
    pub fn try_recv_view(&self) -> Result<View<'_, T>, TryRecvError> {
        Ok(View::lease(&self.port, Limit::Now)?)
    }

    /// Leases the oldest message; waits while the queue is empty, but no longer than `timeout`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_view_timeout(&self, timeout: Duration) -> Result<View<'_, T>, RecvTimeoutError> {
        Ok(View::lease(&self.port, Limit::after(timeout))?)
    }

    /// A descriptor that becomes readable when there is a message, or the end: see [`Descriptor`].
    ///
    /// # Errors
    /// When the system has no descriptor or no thread for it.
    #[doc(alias = "fileno")]
    pub fn descriptor(&self) -> io::Result<Descriptor> {
        self.wait_on().descriptor()
    }

    /// The messages, one after another, until the queue is disconnected or cannot be read.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The messages that are there, one after another.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// Ends the queue for everybody: nothing more can be sent; what is in it can be received.
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

    /// Whether a sender would find no room.
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

    /// A receiver for the queue of this name.
    ///
    /// # Errors
    /// When the queue is gone or is of another type, or the name is garbage; when too many processes receive from it.
    pub fn from_handle(handle: QueueHandle) -> io::Result<Self> {
        let core = Core::attach(handle.memory, |capacity| Shape::of::<T>(capacity, false))?;
        let from = handle.sender()?;
        let receiver = Self::new(core)?;
        if let Some(from) = from {
            receiver.port.core.arrive(Side::Receivers, from);
        }
        Ok(receiver)
    }
}

/// Ready when there is a message, or the end.
impl<T: Message> Waitable for Receiver<T> {
    fn wait_on(&self) -> WaitOn<'_> {
        self.port.wait_on(Goal::Message)
    }
}

impl<T: Message> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.port.core.join_again(Side::Receivers);
        Self {
            port: self.port.duplicate(),
            marker: PhantomData,
        }
    }
}

impl<T: Message> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.port.core.leave(Side::Receivers);
    }
}

impl<T: Message> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&self.port.core).finish()
    }
}

/// The messages of a receiver, waited for; see [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Message> {
    receiver: &'a Receiver<T>,
}

/// The messages that are there; see [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T: Message> {
    receiver: &'a Receiver<T>,
}

/// The messages of a receiver that the iterator owns.
#[derive(Debug)]
pub struct IntoIter<T: Message> {
    receiver: Receiver<T>,
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T: Message> FusedIterator for Iter<'_, T> {}

impl<T: Message> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T: Message> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<'a, T: Message> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Message> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}
