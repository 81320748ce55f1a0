use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RecvBytesError;
use super::end::End;
use crate::core::Core;
use crate::peers::Side;
use crate::port::Limit;
use crate::{Descriptor, Message, RecvError, RecvTimeoutError, TryRecvError, WaitOn, Waitable};

/// The receiving end of a [pair](super).
///
/// There is one: it is used by one thread at a time, can be moved to other threads and sent to other processes, and cannot be
/// cloned. When it is gone, dropped or dead with its process, the producer finds the pair disconnected.
///
/// ```compile_fail,E0599
/// let (_producer, consumer) = offspring_queue::spsc::channel::<u8>(1)?;
/// let second = consumer.clone();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Consumer<T: Message> {
    pub(super) end: End,
    marker: PhantomData<fn() -> T>,
}

impl<T: Message> Consumer<T> {
    pub(super) fn new(core: Arc<Core>) -> io::Result<Self> {
        Ok(Self::over(End::new(core, Side::Receivers)?))
    }

    pub(super) fn over(end: End) -> Self {
        Self {
            end,
            marker: PhantomData,
        }
    }

    /// Receives the oldest message; waits while there is none.
    ///
    /// # Errors
    /// When nothing is left, and the producer is gone or the pair closed; when a message came that cannot be read, or is raw bytes,
    /// which then stay where they are; when another process has this end.
    #[doc(alias = "get")]
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        if let Some(value) = self.end.recv_plain() {
            return Ok(value);
        }
        Ok(self.end.recv(Limit::FOREVER)?)
    }

    /// Receives the oldest message if there is one now.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and when there is none.
    #[doc(alias = "get_nowait")]
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        if let Some(value) = self.end.recv_plain() {
            return Ok(value);
        }
        Ok(self.end.recv(Limit::Now)?)
    }

    /// Receives the oldest message; waits while there is none, but no longer than `timeout`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and when the time runs out.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        Ok(self.end.recv(Limit::after(timeout))?)
    }

    /// Receives the oldest message; waits while there is none, but not beyond `deadline`.
    ///
    /// # Errors
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        Ok(self.end.recv(Limit::At(Some(deadline)))?)
    }

    /// Receives at least one message and at most `most`, those that are there, and puts them at the end of `into`; gives
    /// their number. Waits while there is none.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), when not even one came.
    pub fn recv_many(&self, into: &mut Vec<T>, most: usize) -> Result<usize, RecvError> {
        if most == 0 {
            return Ok(0);
        }
        into.push(self.recv()?);
        let before = into.len();
        into.extend(self.try_iter().take(most - 1));
        Ok(into.len() - before + 1)
    }

    /// Receives a message of raw bytes; waits while there is none. The bytes are copied once, straight into the vector.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); a message that is a value stays where it is.
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        Ok(self.end.recv_bytes(Limit::FOREVER)?)
    }

    /// Receives a message of raw bytes if there is one now.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes), and when there is none.
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, TryRecvError> {
        Ok(self.end.recv_bytes(Limit::Now)?)
    }

    /// Receives a message of raw bytes into the start of `into`, straight and without allocating; gives its length. Waits while
    /// there is none.
    ///
    /// ```
    /// let (producer, consumer) = offspring_queue::spsc::channel::<()>(4)?;
    /// let mut buffer = [0; 8];
    /// producer.send_bytes(b"0123456789")?;
    /// assert_eq!(consumer.recv_bytes_into(&mut buffer).unwrap_err().needed(), Some(10));
    /// assert_eq!(consumer.recv_bytes()?.len(), 10);
    ///
    /// producer.send_bytes(b"abc")?;
    /// assert_eq!(consumer.recv_bytes_into(&mut buffer[2..])?, 3);
    /// assert_eq!(&buffer, b"\0\0abc\0\0\0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes); a message that is longer than `into` stays where it is.
    pub fn recv_bytes_into(&self, into: &mut [u8]) -> Result<usize, RecvBytesError> {
        self.end.recv_bytes_into(into, Limit::FOREVER)
    }

    /// Waits until there is something to receive, no longer than `timeout`, and says whether there is: then the next receiving call
    /// does not wait. So it does at the end too, when nothing will come any more. Nothing is taken.
    ///
    /// # Errors
    /// When another process has this end, or its memory is damaged.
    pub fn poll(&self, timeout: Duration) -> io::Result<bool> {
        self.end.poll(if timeout.is_zero() {
            Limit::Now
        } else {
            Limit::after(timeout)
        })
    }

    /// A descriptor that becomes readable when there is a message, or the end: see [`Descriptor`].
    ///
    /// # Errors
    /// When the system has no descriptor or no thread for it.
    #[doc(alias = "fileno")]
    pub fn descriptor(&self) -> io::Result<Descriptor> {
        self.wait_on().descriptor()
    }

    /// The messages, one after another, until the pair is disconnected or the next message cannot be read.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { consumer: self }
    }

    /// The messages that are there, one after another.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { consumer: self }
    }

    /// Ends the pair, also for copies that a fork has left elsewhere: nothing more can be sent; what is in it can be received. Does
    /// nothing where another process has this end.
    pub fn close(&self) {
        self.end.close();
    }

    /// Whether nothing more will be sent: the pair is closed, or the producer known to be gone. There may be messages left.
    pub fn is_closed(&self) -> bool {
        self.end.is_over()
    }

    /// How many messages there are to receive.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.end.len()
    }

    /// Whether there is nothing to receive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a producer would find no room.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// How many messages the pair can hold.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> usize {
        self.end.core.shape().capacity as usize
    }
}

/// Ready when there is a message, or the end.
impl<T: Message> Waitable for Consumer<T> {
    fn wait_on(&self) -> WaitOn<'_> {
        self.end.wait_on()
    }
}

impl<T: Message> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Consumer").field(&self.end).finish()
    }
}

/// The messages of a consumer, waited for; see [`Consumer::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Message> {
    consumer: &'a Consumer<T>,
}

/// The messages that are there; see [`Consumer::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, T: Message> {
    consumer: &'a Consumer<T>,
}

/// The messages of a consumer that the iterator owns.
#[derive(Debug)]
pub struct IntoIter<T: Message> {
    consumer: Consumer<T>,
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.consumer.recv().ok()
    }
}

impl<T: Message> FusedIterator for Iter<'_, T> {}

impl<T: Message> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.consumer.try_recv().ok()
    }
}

impl<T: Message> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.consumer.recv().ok()
    }
}

impl<'a, T: Message> IntoIterator for &'a Consumer<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: Message> IntoIterator for Consumer<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { consumer: self }
    }
}
