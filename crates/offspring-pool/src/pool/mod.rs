//! A pool of worker processes.
//!
//! A `map` call is laid out as a *board* in the arena: the arguments as one archived slice, one word per chunk
//! ([`ChunkWord`](crate::protocol::ChunkWord)), and a chain of result blocks per worker ([`outputs`]). Workers help themselves ([`worker`]); the caller
//! sleeps until the last chunk has ended and reads the results where they are ([`calls`], [`active`]). The supervisor
//! ([`supervisor`]) is on no task's path: it sleeps until a worker ends, settles what that one had in hand, and starts
//! another.

mod active;
mod board;
mod builder;
mod calls;
mod crew;
mod handle;
mod header;
mod outputs;
mod supervisor;
mod views;
mod worker;

#[cfg(feature = "fuzzing")]
pub(crate) use active::ActiveBoard;
#[cfg(feature = "fuzzing")]
pub(crate) use board::{Board, MAGIC as BOARD_MAGIC};
#[cfg(feature = "fuzzing")]
pub(crate) use header::{MAGIC as POOL_MAGIC, SharedPool};

pub use builder::{MAX_WORKERS, PoolBuilder};
pub use calls::Calls;
pub use handle::Pool;
pub use views::Views;
