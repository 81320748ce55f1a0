//! Where the parties run.

use offspring_benches::{pin, unpin};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the processors in turn.
    Apart,
    /// All on one processor: one sleeps while another runs.
    Together,
    /// Wherever the system puts them.
    Free,
}

impl Place {
    /// Takes the calling thread there, which is the party of this number.
    pub(crate) fn take(self, number: usize) {
        match self {
            Self::Apart => pin(number),
            Self::Together => pin(0),
            Self::Free => unpin(),
        }
    }
}
