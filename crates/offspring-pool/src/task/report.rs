use offspring_process::Panic;
use offspring_queue::{DecodeError, EncodeError};
use rkyv::{Archive, Deserialize, Serialize};

use crate::error::{Error, Kind};

/// What a worker says of a task that failed, as it travels home.
#[derive(Archive, Serialize, Deserialize, Debug)]
pub(crate) enum Report {
    Panic {
        message: String,
        location: String,
        backtrace: String,
    },
    Transfer {
        reason: String,
        out_of_memory: bool,
    },
}

impl Report {
    pub(crate) fn into_error(self, item: Option<usize>) -> Error {
        Error::new(match self {
            Self::Panic {
                message,
                location,
                backtrace,
            } => Kind::Panic {
                panic: Panic::from_parts(message, location, backtrace),
                item,
            },
            Self::Transfer { reason, out_of_memory } => Kind::Transfer {
                reason,
                out_of_memory,
                item,
            },
        })
    }
}

impl From<Panic> for Report {
    fn from(panic: Panic) -> Self {
        Self::Panic {
            message: panic.message().into(),
            location: panic.location().into(),
            backtrace: panic.backtrace().into(),
        }
    }
}

impl From<DecodeError> for Report {
    fn from(error: DecodeError) -> Self {
        Self::Transfer {
            reason: error.to_string(),
            out_of_memory: false,
        }
    }
}

impl From<EncodeError> for Report {
    fn from(error: EncodeError) -> Self {
        Self::Transfer {
            reason: error.to_string(),
            out_of_memory: matches!(error, EncodeError::OutOfMemory(_)),
        }
    }
}
