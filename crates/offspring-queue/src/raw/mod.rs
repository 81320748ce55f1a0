//! The ring and its sleep, apart from the memory they lie in and the handles that a user holds.
//!
//! They hold no guards and run no destructors, so that the models (`tests/loom.rs`) can stop a thread for ever between any
//! two of their steps.

mod look;
mod place;
mod position;
mod ring;
mod spsc;
mod steps;
mod vigil;
mod waiting;
mod word;

pub use place::Place;
pub use position::Position;
pub use ring::{Blocked, Ring, Taken};
pub use spsc::{SpscRing, SpscWait};
pub use vigil::{Look, Vigil, Watched};
pub use waiting::{Ended, Waiting};

use steps::Steps;
