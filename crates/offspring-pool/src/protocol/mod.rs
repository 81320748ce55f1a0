//! The words through which a caller, its workers and the owner of a pool agree, apart from the memory they lie in.
//!
//! Everything that two processes may do at the same time happens here, so that `tests/loom.rs` can let a model checker
//! run it in every order, with a death at every step.

mod bell;
mod chunk;
mod rounds;
mod slot;

pub use bell::Bell;
pub use chunk::{ChunkState, ChunkWord, Ending, MAX_CHUNK};
pub use rounds::Rounds;
pub use slot::{Hazard, Slot};
