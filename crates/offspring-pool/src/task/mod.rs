//! Functions that run in other processes: what they look like, and how one process names them to another.

mod function;
mod report;
mod run;
mod table;

pub(crate) use function::admit;
pub use function::{ByValue, ByView, Spread, SpreadKind, TaskFn};
pub(crate) use report::Report;
pub(crate) use run::{run, run_for_result};
pub(crate) use table::{ChunkRun, Failure, Progress, TaskTable, check_alignment};
