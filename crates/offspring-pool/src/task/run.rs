// UNSAFETY: hands an archived argument to a task function.
#![expect(unsafe_code, reason = "hands an archived argument to a task function")]

use std::io;

use offspring_queue::Parcel;
use offspring_shm::{Arena, Owner, family};

use super::{Report, TaskTable};

/// Runs a function that another process named, once, and forgets its result.
///
/// A panic of the function passes through.
///
/// # Errors
/// When there is no such function, or its argument cannot be reached or rebuilt.
pub(crate) fn run(arena: &'static Arena, task: u64, argument: u64) -> io::Result<()> {
    run_for_result(arena, family::me()?, task, argument)?
        .map(drop)
        .map_err(|report| io::Error::other(report.into_error(None)))
}

/// Runs a function that another process named, once, and encodes its result into a block of `owner`.
///
/// A panic of the function passes through.
///
/// # Errors
/// Outside: when there is no such function, or its argument lies outside the arena. Inside: when the argument or the
/// result did not make it through their encoding.
pub(crate) fn run_for_result(
    arena: &'static Arena,
    owner: Owner,
    task: u64,
    argument: u64,
) -> io::Result<Result<Parcel<()>, Report>> {
    let table = TaskTable::find(task)?;
    let place = arena.pointer(argument, table.argument().size())?;
    if !place.addr().get().is_multiple_of(table.argument().align()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no argument of `{}` can lie at {argument:#x}", table.name()),
        ));
    }
    let argument = place;
    // SAFETY: whoever named the function archived an argument for it at this place, and keeps it until the process
    // that runs this is gone.
    Ok(Parcel::encode_with(arena, owner, |encoder| unsafe {
        table.call(argument, encoder)
    }))
}
