//! Several parties that do the same at the same time, as processes or as threads.

use std::thread;

use offspring_benches::{fork, pin};

/// What the parties are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Forked children.
    Processes,
    /// Threads of the measuring process, for peers that know no other.
    Threads,
}

/// Runs `party(0)`, `party(1)`, ... at the same time, each pinned to its processor, and `meanwhile` beside them.
pub(crate) fn run<R>(
    kind: Kind,
    parties: usize,
    party: impl Fn(usize) + Sync,
    meanwhile: impl FnOnce() -> R,
) -> Result<R, String> {
    let pinned = |number| {
        pin(number);
        party(number);
    };
    match kind {
        Kind::Processes => {
            let children: Vec<_> = (0..parties).map(|number| fork(|| pinned(number))).collect();
            let result = meanwhile();
            children.into_iter().try_for_each(|child| child.wait())?;
            Ok(result)
        }
        Kind::Threads => thread::scope(|scope| {
            let pinned = &pinned;
            let threads: Vec<_> = (0..parties).map(|number| scope.spawn(move || pinned(number))).collect();
            let result = meanwhile();
            let failed = threads
                .into_iter()
                .map(|thread| thread.join())
                .filter(Result::is_err)
                .count();
            if failed == 0 {
                Ok(result)
            } else {
                Err(format!("{failed} threads panicked"))
            }
        }),
    }
}
