// UNSAFETY: a forked child takes its place in the family, and its parent gives the place up, which only they can know to be right.
#![expect(unsafe_code, reason = "become_child and release")]
//! Several parties that do the same at the same time, as processes or as threads.

use std::{process, thread};

use offspring_shm::{Owner, family};

use crate::{Forked, fork, pin};

/// What the parties are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Forked children that are members of the family.
    Family,
    /// Forked children.
    Processes,
    /// Threads of the measuring process, for peers that know no other.
    Threads,
}

/// A forked child, killed and reaped when it is dropped before it was waited for.
#[derive(Debug)]
pub struct Child {
    forked: Option<Forked>,
    owner: Option<Owner>,
}

impl Child {
    /// Forks a child that runs a function and exits.
    ///
    /// # Panics
    ///
    /// As [`fork`](crate::fork()), and when the family has no room.
    pub fn start(kind: Kind, run: impl FnOnce()) -> Self {
        let owner = (kind == Kind::Family).then(|| family::reserve_fork().expect("the family has room"));
        let forked = fork(|| {
            if let Some(owner) = owner {
                // SAFETY: reserved above for this child alone, which has one thread.
                unsafe { family::become_child(owner) }.expect("the tag was reserved");
            }
            run();
        });
        Self {
            forked: Some(forked),
            owner,
        }
    }

    fn forked(&self) -> &Forked {
        self.forked.as_ref().expect("the child was not waited for")
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.forked().pid()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.forked().kill();
    }

    /// Waits for the end.
    ///
    /// # Errors
    ///
    /// When the child did not exit with 0.
    pub fn wait(mut self) -> Result<(), String> {
        self.forked.take().expect("a child is waited for once").wait()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Kills and reaps it, if it was not waited for.
        drop(self.forked.take());
        if let Some(owner) = self.owner {
            // SAFETY: the process has ended, and only its parent releases it.
            unsafe { family::release(owner) }.expect("the child's place can be given up");
        }
    }
}

/// Runs `party(0)`, `party(1)`, ... at the same time, each pinned to its processor, and `meanwhile` beside them, which says how it went.
///
/// # Errors
///
/// Those of `meanwhile`, and when a party panicked.
pub fn side_by_side<R>(
    kind: Kind,
    parties: usize,
    party: impl Fn(usize) + Sync,
    meanwhile: impl FnOnce() -> Result<R, String>,
) -> Result<R, String> {
    let pinned = |number| {
        pin(number);
        party(number);
    };
    if kind == Kind::Threads {
        return thread::scope(|scope| {
            let pinned = &pinned;
            let threads: Vec<_> = (0..parties).map(|number| scope.spawn(move || pinned(number))).collect();
            let result = meanwhile().unwrap_or_else(|reason| {
                // The others would wait for ever for the one that failed.
                eprintln!("error: {reason}");
                process::exit(1)
            });
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
        });
    }
    let children: Vec<_> = (0..parties)
        .map(|number| Child::start(kind, || pinned(number)))
        .collect();
    // Kills the children if it went wrong: they may wait for ever.
    let result = meanwhile()?;
    children.into_iter().try_for_each(Child::wait)?;
    Ok(result)
}
