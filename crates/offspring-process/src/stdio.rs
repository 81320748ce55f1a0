//! What a child's standard streams are.

use std::fs::File;
use std::os::fd::OwnedFd;

/// What one of a child's standard streams is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stdio {
    /// The stream that this process has at the moment of the start; `/dev/null` if that is closed.
    Inherit,
    /// `/dev/null`.
    Null,
    /// A duplicate of this descriptor.
    Descriptor(OwnedFd),
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self::Descriptor(fd)
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        Self::Descriptor(file.into())
    }
}

impl From<std::io::PipeReader> for Stdio {
    fn from(pipe: std::io::PipeReader) -> Self {
        Self::Descriptor(pipe.into())
    }
}

impl From<std::io::PipeWriter> for Stdio {
    fn from(pipe: std::io::PipeWriter) -> Self {
        Self::Descriptor(pipe.into())
    }
}
