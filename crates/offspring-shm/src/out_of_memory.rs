use std::{fmt, io};

/// Why the arena gave no block; says how large the arena is, how much of it is in use, and what to do.
#[derive(Debug)]
pub struct OutOfMemory {
    requested: usize,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Full {
        in_use: usize,
        capacity: usize,
    },
    Commit {
        in_use: usize,
        capacity: usize,
        source: io::Error,
    },
    Forked,
}

impl OutOfMemory {
    /// The bytes that were asked for.
    #[must_use]
    pub fn requested(&self) -> usize {
        self.requested
    }

    /// Whether a larger arena, or less in use, would have helped: false when the system itself had no memory, and in
    /// a process that was forked by other means than this library's.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.reason, Reason::Full { .. })
    }

    pub(crate) fn full(requested: usize, in_use: usize, capacity: usize) -> Self {
        Self {
            requested,
            reason: Reason::Full { in_use, capacity },
        }
    }

    pub(crate) fn commit(requested: usize, in_use: usize, capacity: usize, source: io::Error) -> Self {
        Self {
            requested,
            reason: Reason::Commit {
                in_use,
                capacity,
                source,
            },
        }
    }

    pub(crate) fn forked(requested: usize) -> Self {
        Self {
            requested,
            reason: Reason::Forked,
        }
    }
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requested = Bytes(self.requested);
        match &self.reason {
            Reason::Full { in_use, capacity } => write!(
                f,
                "no room for {requested} in the shared arena: {} of {} are in use; free some, or make it larger with \
                 family::set_capacity before its first use",
                Bytes(*in_use),
                Bytes(*capacity)
            ),
            Reason::Commit {
                in_use,
                capacity,
                source,
            } => write!(
                f,
                "the system has no memory for {requested} more in the shared arena, of which {} of {} are in use: \
                 {source}",
                Bytes(*in_use),
                Bytes(*capacity)
            ),
            Reason::Forked => f.write_str(crate::fork_guard::MESSAGE),
        }
    }
}

impl std::error::Error for OutOfMemory {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Commit { source, .. } => Some(source),
            Reason::Full { .. } | Reason::Forked => None,
        }
    }
}

impl From<OutOfMemory> for io::Error {
    fn from(error: OutOfMemory) -> Self {
        let kind = match error.reason {
            Reason::Full { .. } | Reason::Commit { .. } => io::ErrorKind::OutOfMemory,
            Reason::Forked => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, error)
    }
}

/// A number of bytes, written in the largest unit that keeps it exact enough.
pub(crate) struct Bytes(pub(crate) usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 10 << 30 => write!(f, "{} GiB", bytes >> 30),
            bytes if bytes >= 1 << 20 => write!(f, "{} MiB", bytes.div_ceil(1 << 20)),
            bytes if bytes >= 10 << 10 => write!(f, "{} KiB", bytes.div_ceil(1 << 10)),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
