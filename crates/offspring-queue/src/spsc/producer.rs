use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::end::End;
use crate::core::Core;
use crate::peers::Side;
use crate::port::Limit;
use crate::{Message, Parcel, SendError, SendTimeoutError, TrySendError, WaitOn, Waitable};

/// The sending end of a [pair](super).
///
/// There is one: it is used by one thread at a time, can be moved to other threads and sent to other processes, and cannot be
/// cloned. When it is gone, dropped or dead with its process, the consumer finds the pair disconnected after the last message.
///
/// ```compile_fail,E0599
/// let (producer, _consumer) = offspring_queue::spsc::channel::<u8>(1)?;
/// let second = producer.clone();
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// ```compile_fail,E0277
/// let (producer, _consumer) = offspring_queue::spsc::channel::<u8>(1)?;
/// std::thread::scope(|scope| scope.spawn(|| producer.send(1)).join());
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Producer<T: Message> {
    pub(super) end: End,
    marker: PhantomData<fn(T)>,
}

impl<T: Message> Producer<T> {
    pub(super) fn new(core: Arc<Core>) -> io::Result<Self> {
        Ok(Self::over(End::new(core, Side::Senders)?))
    }

    pub(super) fn over(end: End) -> Self {
        Self {
            end,
            marker: PhantomData,
        }
    }

    /// Sends a message; waits while the pair is full.
    ///
    /// Once this returns `Ok` the message stays in the pair until it is received, also when this process dies.
    ///
    /// # Errors
    /// When the consumer is gone or the pair closed; when the value cannot be written into shared memory, or another process has
    /// this end. The error holds the value.
    #[doc(alias = "put")]
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.end.send_plain(&value) {
            return Ok(());
        }
        self.end
            .send(value, Limit::FOREVER)
            .map_err(|(value, why)| SendError::new(value, why))
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`send`](Self::send), and when the pair is full.
    #[doc(alias = "put_nowait")]
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.end.send_plain(&value) {
            return Ok(());
        }
        self.end
            .send(value, Limit::Now)
            .map_err(|(value, why)| TrySendError::new(value, why))
    }

    /// Sends a message; waits while the pair is full, but no longer than `timeout`.
    ///
    /// # Errors
    /// As [`send`](Self::send), and when the time runs out.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.end
            .send(value, Limit::after(timeout))
            .map_err(|(value, why)| SendTimeoutError::new(value, why))
    }

    /// Sends a message; waits while the pair is full, but not beyond `deadline`.
    ///
    /// # Errors
    /// As [`send_timeout`](Self::send_timeout).
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.end
            .send(value, Limit::At(Some(deadline)))
            .map_err(|(value, why)| SendTimeoutError::new(value, why))
    }

    /// Sends all messages of an iterator, in order; gives their number.
    ///
    /// Pass `&mut iterator` to keep what is left after an error.
    ///
    /// # Errors
    /// As [`send`](Self::send), for the first message that could not be sent; those before it were.
    pub fn send_many(&self, values: impl IntoIterator<Item = T>) -> Result<usize, SendError<T>> {
        match self.end.send_many(values.into_iter()) {
            (count, None) => Ok(count),
            (_, Some((value, why))) => Err(SendError::new(value, why)),
        }
    }

    /// Sends a message that was encoded before: its block changes hands, whatever its size, and nothing is copied. Waits
    /// while the pair is full.
    ///
    /// # Errors
    /// As [`send`](Self::send). The error holds the parcel.
    pub fn send_parcel(&self, parcel: Parcel<T>) -> Result<(), SendError<Parcel<T>>> {
        self.end
            .send_parcel(parcel, Limit::FOREVER)
            .map_err(|(parcel, why)| SendError::new(parcel, why))
    }

    /// Sends raw bytes as one message, which is [received as bytes](super::Consumer::recv_bytes), in turn with the values; waits
    /// while the pair is full. They are copied once, straight into shared memory.
    ///
    /// ```
    /// let (producer, consumer) = offspring_queue::spsc::channel::<u32>(4)?;
    /// producer.send_bytes(b"header")?;
    /// producer.send(7)?;
    /// assert_eq!(consumer.recv_bytes()?, b"header");
    /// assert_eq!(consumer.recv()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.end
            .send_bytes(bytes, Limit::FOREVER)
            .map_err(|why| SendError::new((), why))
    }

    /// Sends raw bytes as one message if there is room now.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), TrySendError<()>> {
        self.end
            .send_bytes(bytes, Limit::Now)
            .map_err(|why| TrySendError::new((), why))
    }

    /// Ends the pair, also for copies that a fork has left elsewhere: nothing more can be sent; what is in it can be received. Does
    /// nothing where another process has this end.
    pub fn close(&self) {
        self.end.close();
    }

    /// Whether nobody will receive what is sent now: the pair is closed, or the consumer known to be gone.
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

    /// Whether a [`try_send`](Self::try_send) would find no room.
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// How many messages the pair can hold.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> usize {
        self.end.core.shape().capacity as usize
    }
}

/// Ready when there is room, or nobody to receive.
impl<T: Message> Waitable for Producer<T> {
    fn wait_on(&self) -> WaitOn<'_> {
        self.end.wait_on()
    }
}

impl<T: Message> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Producer").field(&self.end).finish()
    }
}
