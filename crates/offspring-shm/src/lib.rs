//! Shared memory: segments, mappings, and a crash-safe arena.
//!
//! From the ground up:
//!
//! - [`Segment`] is a piece of memory that has a descriptor (an anonymous sealed memfd) or a name (in `/dev/shm`), and
//!   [`Mapping`] makes it addressable.
//! - [`Arena`] hands out blocks of one large segment to many processes. Each block names its [`Owner`] in one word, so
//!   that the blocks of a process that was killed, at any instruction, are found and given back.
//! - [`family`] is the arena that a program and the processes it starts have in common.
//!
//! # Trust
//!
//! Processes of one family run the same program as the same user. They are trusted to be honest, not to be alive:
//! whatever is read from shared memory (a word, an offset, a length) is checked before it is used, and a bad one is an
//! error or is left alone, never a reason to touch memory outside the mapping. A named segment is opened only when it
//! belongs to the same user, and whoever can open it can also truncate it: keep secrets and strangers out of it.

#[cfg(not(target_os = "linux"))]
compile_error!("offspring runs on Linux only: it is built on futexes, memfds and pidfds");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("offspring needs a 64-bit system: the arena reserves more address space than 32 bits have");

mod arena;
pub mod family;
mod fork_guard;
mod limits;
mod mapping;
mod out_of_memory;
mod owner;
mod segment;
mod segment_name;

pub use arena::{Arena, Block, Census, Holding};
pub use mapping::Mapping;
pub use out_of_memory::OutOfMemory;
pub use owner::Owner;
pub use segment::Segment;
