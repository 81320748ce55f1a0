//! Shared memory: segments, mappings, a crash-safe arena, and values that live in it.
//!
//! From the ground up:
//!
//! - [`Segment`] is a piece of memory that has a descriptor (an anonymous sealed memfd) or a name (in `/dev/shm`), and
//!   [`Mapping`] makes it addressable.
//! - [`Arena`] hands out blocks of one large segment to many processes. Each block names its [`Owner`] in one word, so
//!   that the blocks of a process that was killed, at any instruction, are found and given back.
//! - [`family`] is the arena that a program and the processes it starts have in common.
//! - [`Shared`] and [`SharedSlice`] are values in the family's arena that every process reads in place.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use offspring_shm::{Shared, SharedSlice};
//!
//! let hits = Shared::new(AtomicU64::new(0))?;
//! hits.fetch_add(1, Relaxed);
//!
//! // A handle is plain data: send it to another process of the family, by whatever way, and make a value of it there.
//! let table = SharedSlice::from_fn(1000, |i| i as f64)?;
//! let again = SharedSlice::<f64>::from_handle(table.to_handle())?;
//! assert_eq!(again[999], 999.0);
//! # Ok::<(), std::io::Error>(())
//! ```
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
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod mapping;
mod out_of_memory;
mod owner;
mod segment;
mod segment_name;
mod shared;
mod shm_safe;

pub use arena::{Arena, Block, Census, Holding};
pub use mapping::Mapping;
pub use out_of_memory::OutOfMemory;
pub use owner::Owner;
pub use segment::Segment;
pub use shared::{Handle, Shared, SharedSlice, outside_family};
pub use shm_safe::ShmSafe;
