use std::io;
use std::time::{Duration, Instant};

use crate::spsc::{Consumer, Iter, Producer, RecvBytesError, TryIter};
use crate::{
    Descriptor, Message, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError, WaitOn,
    Waitable,
};

/// One end of a [`pipe`](crate::pipe): sends `S`s to the other end and receives the `R`s that the other end sends.
///
/// Messages keep their boundaries and their order, values and raw bytes may take turns, and what one process was sent before the
/// other died can still be received. An end is used by one thread at a time; [`split`](Self::split) it, and one thread can send
/// while another receives. It can be sent to another process, which then has it; and what a forked child has copies of, the first
/// user has: see [`spsc`](crate::spsc#one-user-at-a-time).
///
/// ```
/// use offspring_queue::pipe;
/// use std::time::Duration;
///
/// let (left, right) = pipe::<String, u64>()?;
/// left.send("how many?".to_string())?;
/// left.send_bytes(&[1, 2, 3])?;
/// assert!(right.poll(Duration::ZERO)?);
/// assert_eq!(right.recv()?, "how many?");
/// right.send(right.recv_bytes()?.len() as u64)?;
/// assert_eq!(left.recv()?, 3);
///
/// drop(left);
/// assert!(right.recv().unwrap_err().is_disconnected());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[doc(alias = "Connection")]
pub struct PipeEnd<S: Message, R: Message = S> {
    pub(super) producer: Producer<S>,
    pub(super) consumer: Consumer<R>,
}

impl<S: Message, R: Message> PipeEnd<S, R> {
    /// An end of two halves: what [`split`](Self::split) gave, or any others.
    pub fn new(producer: Producer<S>, consumer: Consumer<R>) -> Self {
        Self { producer, consumer }
    }

    /// The half that sends and the half that receives, each good for a thread, or a process, of its own.
    ///
    /// ```
    /// use std::thread;
    ///
    /// let (left, right) = offspring_queue::pipe::<u32, u32>()?;
    /// let (sending, receiving) = left.split();
    /// let reader = thread::spawn(move || receiving.iter().sum::<u32>());
    /// sending.send(20)?;
    /// right.send(right.recv()? + 1)?;
    /// drop(right);
    /// assert_eq!(reader.join().unwrap(), 21);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn split(self) -> (Producer<S>, Consumer<R>) {
        (self.producer, self.consumer)
    }

    /// The half that sends.
    pub fn producer(&self) -> &Producer<S> {
        &self.producer
    }

    /// The half that receives.
    pub fn consumer(&self) -> &Consumer<R> {
        &self.consumer
    }

    /// As [`Producer::send`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn send(&self, value: S) -> Result<(), SendError<S>> {
        self.producer.send(value)
    }

    /// As [`Producer::try_send`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_send(&self, value: S) -> Result<(), TrySendError<S>> {
        self.producer.try_send(value)
    }

    /// As [`Producer::send_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn send_timeout(&self, value: S, timeout: Duration) -> Result<(), SendTimeoutError<S>> {
        self.producer.send_timeout(value, timeout)
    }

    /// As [`Producer::send_deadline`].
    ///
    /// # Errors
    /// As there.
    pub fn send_deadline(&self, value: S, deadline: Instant) -> Result<(), SendTimeoutError<S>> {
        self.producer.send_deadline(value, deadline)
    }

    /// As [`Producer::send_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.producer.send_bytes(bytes)
    }

    /// As [`Producer::try_send_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), TrySendError<()>> {
        self.producer.try_send_bytes(bytes)
    }

    /// As [`Consumer::recv`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn recv(&self) -> Result<R, RecvError> {
        self.consumer.recv()
    }

    /// As [`Consumer::try_recv`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn try_recv(&self) -> Result<R, TryRecvError> {
        self.consumer.try_recv()
    }

    /// As [`Consumer::recv_timeout`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<R, RecvTimeoutError> {
        self.consumer.recv_timeout(timeout)
    }

    /// As [`Consumer::recv_deadline`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<R, RecvTimeoutError> {
        self.consumer.recv_deadline(deadline)
    }

    /// As [`Consumer::recv_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.consumer.recv_bytes()
    }

    /// As [`Consumer::try_recv_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, TryRecvError> {
        self.consumer.try_recv_bytes()
    }

    /// As [`Consumer::recv_bytes_into`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_bytes_into(&self, into: &mut [u8]) -> Result<usize, RecvBytesError> {
        self.consumer.recv_bytes_into(into)
    }

    /// As [`Consumer::poll`].
    ///
    /// # Errors
    /// As there.
    pub fn poll(&self, timeout: Duration) -> io::Result<bool> {
        self.consumer.poll(timeout)
    }

    /// As [`Consumer::descriptor`].
    ///
    /// # Errors
    /// As there.
    #[doc(alias = "fileno")]
    pub fn descriptor(&self) -> io::Result<Descriptor> {
        self.consumer.descriptor()
    }

    /// As [`Consumer::iter`].
    pub fn iter(&self) -> Iter<'_, R> {
        self.consumer.iter()
    }

    /// As [`Consumer::try_iter`].
    pub fn try_iter(&self) -> TryIter<'_, R> {
        self.consumer.try_iter()
    }

    /// Ends both directions: neither end can send any more; what was sent can be received.
    pub fn close(&self) {
        self.producer.close();
        self.consumer.close();
    }

    /// Whether the other end is known to be gone, or the pipe closed. There may be messages left to receive.
    pub fn is_closed(&self) -> bool {
        self.producer.is_closed() && self.consumer.is_closed()
    }
}

/// Ready when there is something to receive, or the end.
impl<S: Message, R: Message> Waitable for PipeEnd<S, R> {
    fn wait_on(&self) -> WaitOn<'_> {
        self.consumer.wait_on()
    }
}
