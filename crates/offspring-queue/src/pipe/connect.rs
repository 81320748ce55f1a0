use std::io;

use super::PipeEnd;
use crate::{Message, spsc};

/// How many messages a pipe holds in each direction, if nobody says otherwise.
const CAPACITY: usize = 64;

/// Makes a connection of two ends, of which each sends to the other: the first sends `A`s and receives `B`s.
///
/// For one direction take [`spsc::channel`], whose ends can only send or only receive.
///
/// ```
/// use std::thread;
/// use offspring_queue::pipe;
///
/// let (ours, theirs) = pipe::<u32, String>()?;
/// let echo = thread::spawn(move || {
///     while let Ok(number) = theirs.recv() {
///         theirs.send(number.to_string()).unwrap();
///     }
/// });
/// ours.send(42)?;
/// assert_eq!(ours.recv()?, "42");
/// drop(ours);
/// echo.join().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the arena has no room for it.
#[doc(alias = "Pipe")]
pub fn pipe<A: Message, B: Message>() -> io::Result<(PipeEnd<A, B>, PipeEnd<B, A>)> {
    pipe_with_capacity(CAPACITY)
}

/// As [`pipe`], with room for `capacity` messages in each direction.
///
/// ```
/// let (left, right) = offspring_queue::pipe_with_capacity::<u32, u32>(1)?;
/// left.send(1)?;
/// assert!(left.try_send(2).unwrap_err().is_full());
/// assert_eq!(right.recv()?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the capacity is 0, or the arena has no room for so many slots.
pub fn pipe_with_capacity<A: Message, B: Message>(capacity: usize) -> io::Result<(PipeEnd<A, B>, PipeEnd<B, A>)> {
    let (there, far) = spsc::channel(capacity)?;
    let (back, near) = spsc::channel(capacity)?;
    Ok((PipeEnd::new(there, near), PipeEnd::new(back, far)))
}
