//! Waiting for several things at once, whatever they are.
//!
//! Two kinds of things are waited for: words in shared memory that a futex wakes for, and descriptors. [`wait_any`] sleeps
//! on what it is given, in one system call if all are of one kind. Where the kinds meet, the [bridge](bridge) stands
//! between: a thread that sleeps on words and makes an eventfd readable. The same bridge gives out a [`Descriptor`] for an event
//! loop.
//!
//! Nobody here takes a message. How one sleeps on a bell without keeping a wake from those who do is told at
//! [`Vigil`](crate::raw::Vigil).

mod any;
mod bridge;
mod deadline;
mod descriptor;
mod doorbell;
mod poll;
mod waitable;
mod writable;

pub use any::{wait_any, wait_any_deadline};
pub use deadline::Deadline;
pub use descriptor::Descriptor;
pub(crate) use doorbell::{Doorbell, Shared};
pub use waitable::{WaitOn, Waitable};
pub use writable::Writable;
