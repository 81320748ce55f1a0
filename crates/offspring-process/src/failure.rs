//! Errors that say what was being done, in this process or reported by another one.

use std::error::Error;
use std::{fmt, io};

use crate::wire::{Reader, Writer};

/// An operating system error together with what was being done.
///
/// It becomes an [`io::Error`] whose kind is that of the system's error and whose inner error has it as its source.
#[derive(Debug)]
pub(crate) struct Failure {
    action: String,
    source: io::Error,
}

impl Failure {
    pub(crate) fn new(action: impl Into<String>, source: io::Error) -> Self {
        Self {
            action: action.into(),
            source,
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.i32(self.source.raw_os_error().unwrap_or(0));
        if self.source.raw_os_error().is_some() {
            writer.bytes(self.action.as_bytes());
        } else {
            writer.bytes(self.to_string().as_bytes());
        }
    }

    /// Decodes what [`encode`](Self::encode) wrote. Without an error number the text stands alone.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> io::Result<io::Error> {
        let errno = reader.i32()?;
        let action = reader.text()?.to_owned();
        if errno == 0 {
            return Ok(io::Error::other(action));
        }
        Ok(Self::new(action, io::Error::from_raw_os_error(errno)).into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.action, self.source)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.source.kind(), failure)
    }
}

/// Adds to an error what was being done.
pub(crate) trait While<T> {
    fn during(self, action: impl Into<String>) -> io::Result<T>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn during(self, action: impl Into<String>) -> io::Result<T> {
        self.map_err(|error| Failure::new(action, error.into()).into())
    }
}
