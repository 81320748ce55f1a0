//! Two pairs of opposite directions, as one connection.

mod connect;
mod pipe_end;
mod travel;

pub use connect::{pipe, pipe_with_capacity};
pub use pipe_end::PipeEnd;
