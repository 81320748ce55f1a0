//! Values on their way between processes.
//!
//! A value travels as the bytes that [rkyv] makes of it: written once, straight into a block of the family's
//! arena, and read there, in place as a *view* (`&T::Archived`) or rebuilt as a `T`. [`Message`] names the types that
//! can travel; a [`Parcel`] is one encoded value together with the block that holds it; [`Sink`] and [`Encoder`] are
//! the writing end for those who lay out memory themselves, as the pool does with the results of a whole chunk.
//!
//! ```
//! use offspring_queue::Parcel;
//! use offspring_shm::family;
//!
//! let words = vec!["read".to_string(), "me".to_string()];
//! let parcel = Parcel::encode(family::arena()?, family::me()?, &words)?;
//! assert_eq!(parcel.view()?.as_slice(), ["read", "me"]);
//! assert_eq!(parcel.decode()?, words);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Queue`] takes values from any process to any other, an [`spsc`] pair from one to one, and a [`pipe`](pipe()) to and fro
//! between two. [`wait_any`] waits for several of them, processes and descriptors at once, and a [`Descriptor`] brings them into
//! an event loop. Processes that are not of the family meet over a socket: see [`connection`].
//!
//! # Trust
//!
//! The bytes of a parcel are read without validation: they were written by this program's own image, and a parcel is
//! handed over only when its writer is done with it. [`Parcel::check`] validates for those who want to know. What comes over
//! a [`Connection`] is always validated.

#[cfg(not(target_os = "linux"))]
compile_error!("offspring runs on Linux only: it is built on futexes, memfds and pidfds");

pub mod connection;
mod core;
mod decode;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod joinable;
mod letter;
mod message;
mod parcel;
mod peers;
mod pipe;
mod port;
mod queue;
mod queue_handle;
pub mod raw;
mod receiver;
mod recv_error;
mod send_error;
mod sender;
mod shape;
mod sink;
pub mod spsc;
mod transit;
mod travel;
mod view;
mod wait;

pub use connection::{Client, Connection, Listener};
pub use decode::{decode, decode_slice, is_copied};
pub use error::{DecodeError, EncodeError};
pub use joinable::{JoinError, JoinableQueue, Task, TaskReceiver};
pub use message::{Decoder, Encoder, Message, Validator};
pub use parcel::Parcel;
pub use pipe::{PipeEnd, pipe, pipe_with_capacity};
pub use queue::Queue;
pub use queue_handle::QueueHandle;
pub use receiver::{IntoIter, Iter, Receiver, TryIter};
pub use recv_error::{RecvError, RecvTimeoutError, TryRecvError};
pub use send_error::{SendError, SendTimeoutError, TrySendError};
pub use sender::Sender;
pub use sink::{Sink, Supply};
pub use view::View;
pub use wait::{Deadline, Descriptor, WaitOn, Waitable, Writable, wait_any, wait_any_deadline};

pub use rkyv;
