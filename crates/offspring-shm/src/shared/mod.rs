//! Values in the family's arena that every process reads in place.

mod handle;
mod hold;
#[cfg(feature = "rkyv")]
mod message;
mod outside;
mod record;
mod registry;
mod slice;
mod value;

pub use handle::Handle;
pub use outside::outside_family;
#[cfg(feature = "fuzzing")]
pub(crate) use record::Record;
pub use slice::SharedSlice;
pub use value::Shared;

pub(crate) use registry::{keep_for, keep_inherited, release};
