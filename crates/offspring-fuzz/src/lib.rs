//! Fuzz targets: whatever reads bytes that another process wrote, into shared memory or a socket.
//!
//! A target is a function of bytes that panics, hangs or crashes when the code under test does, or when what that code
//! promises does not hold: what is decoded lies where it may, errors say what is wrong, what was encoded is decoded to the
//! same. The engine is libFuzzer; `cargo xtask fuzz` builds it in and runs the targets. Without it the targets run over their
//! corpus, as ordinary tests (`tests/corpus.rs`) or one by one:
//!
//! ```text
//! cargo run -p offspring-fuzz -- packet FILE...
//! ```
//!
//! What a target does is decided by its input alone: a file that fails fails again.

mod input;
mod memory;
mod target;
mod targets;

pub use target::{Target, target};
pub use targets::TARGETS;
