//! Pairs of one producer and one consumer.
//!
//! Where messages go from one process to one other, a pair is simpler and faster than a [`Queue`](crate::Queue): its ends cannot be
//! cloned, so that nobody ever contends for a slot, and a send and its receipt are a copy and a store each.
//!
//! ```
//! use offspring_queue::spsc;
//!
//! let (producer, consumer) = spsc::channel(16)?;
//! producer.send("one".to_string())?;
//! producer.send("two".to_string())?;
//! drop(producer);
//! assert_eq!(consumer.iter().collect::<Vec<_>>(), ["one", "two"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One user at a time
//!
//! An end can be sent to another process, as an argument or in a message, which then has it. A forked child has a copy of the ends
//! of its parent: of the two processes, the one that uses its copy first has the end from then on, and the other one gets an error
//! that says so. Forked from a process with several threads, the end stays with the parent. As long as neither has used its copy,
//! the end is there while one of them lives that has not dropped it; [`close`](Producer::close) ends it for all.
//!
//! # Death
//!
//! Both ends may be killed at any instruction. A process that has ended has dropped its ends: the consumer receives what was sent
//! and then finds the pair disconnected, the producer gets its value back: at its next send, or with small plain values at one of
//! the next sixteen. A message was sent or was not, and is received once or never; blocks of memory that nobody received are freed
//! with the pair, or with the process that had taken them.
//!
//! An end in a message is its sender's until it is received. What only the waiting process itself has a copy of, unused, and no
//! other thread that could use it, is not waited for without a limit: that is disconnected too.

mod bytes;
mod channel;
mod consumer;
mod end;
mod kind;
mod producer;
mod receiving;
mod recv_bytes_error;
pub(crate) mod seat;
mod sending;
mod travel;
mod watch;

pub use channel::channel;
pub use consumer::{Consumer, IntoIter, Iter, TryIter};
pub use producer::Producer;
pub use recv_bytes_error::RecvBytesError;
pub(crate) use travel::{ArchivedEndHandle, EndHandle};
