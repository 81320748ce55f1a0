//! The ring and its sleep, apart from the memory they lie in and the handles that a user holds.
//!
//! They hold no guards and run no destructors, so that the models (`tests/loom.rs`) can stop a thread for ever between any
//! two of their steps.

mod look;
mod place;
mod position;
mod ring;
mod steps;
mod waiting;
mod word;

pub use place::Place;
pub use position::Position;
pub use ring::{Blocked, Ring, Taken};
use steps::Steps;
pub use waiting::{Ended, Waiting};
