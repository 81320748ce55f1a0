//! Changes of this process's environment.
//!
// UNSAFETY: set_var and remove_var, while there is one thread.
#![expect(unsafe_code, reason = "the environment of a process that has one thread")]

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::wire::{Reader, Writer};

/// One change of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Variable {
    Clear,
    Set(OsString, OsString),
    Remove(OsString),
}

impl Variable {
    /// Refuses names and values that cannot be.
    pub(crate) fn validate(&self) -> io::Result<()> {
        match self {
            Self::Clear => Ok(()),
            Self::Set(key, value) => check(key, value),
            Self::Remove(key) => check(key, OsStr::new("")),
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Clear => writer.u8(0),
            Self::Set(key, value) => {
                writer.u8(1);
                writer.bytes(key.as_bytes());
                writer.bytes(value.as_bytes());
            }
            Self::Remove(key) => {
                writer.u8(2);
                writer.bytes(key.as_bytes());
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> io::Result<Self> {
        let text = |reader: &mut Reader<'_>| Ok::<_, io::Error>(OsString::from_vec(reader.bytes()?.to_vec()));
        Ok(match reader.u8()? {
            0 => Self::Clear,
            1 => Self::Set(text(reader)?, text(reader)?),
            2 => Self::Remove(text(reader)?),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "malformed message: a change of the environment is of no known kind",
                ));
            }
        })
    }

    /// Changes the environment of this process.
    ///
    /// # Safety
    ///
    /// This process has one thread: another one might be reading the environment. The change is valid.
    pub(crate) unsafe fn apply(&self) {
        // SAFETY: handed on to the caller.
        unsafe {
            match self {
                Self::Clear => env::vars_os().for_each(|(key, _)| env::remove_var(key)),
                Self::Set(key, value) => env::set_var(key, value),
                Self::Remove(key) => env::remove_var(key),
            }
        }
    }
}

/// Refuses what `set_var` would not take.
fn check(key: &OsStr, value: &OsStr) -> io::Result<()> {
    let (name, value) = (key.as_bytes(), value.as_bytes());
    if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("environment variable {key:?} has an impossible name or value"),
        ));
    }
    Ok(())
}

/// Writes down a whole environment.
pub(crate) fn encode(variables: &[(OsString, OsString)], writer: &mut Writer) {
    writer.length(variables.len());
    for (key, value) in variables {
        writer.bytes(key.as_bytes());
        writer.bytes(value.as_bytes());
    }
}

/// Reads what [`encode`] wrote down.
pub(crate) fn decode<'a>(reader: &mut Reader<'a>) -> io::Result<Vec<(&'a OsStr, &'a OsStr)>> {
    (0..reader.count(16)?)
        .map(|_| Ok((OsStr::from_bytes(reader.bytes()?), OsStr::from_bytes(reader.bytes()?))))
        .collect()
}

/// Replaces this process's environment by one that [`encode`] wrote down in another.
///
/// # Safety
///
/// This process has one thread.
pub(crate) unsafe fn replace(reader: &mut Reader<'_>) -> io::Result<()> {
    let mut wanted = decode(reader)?;
    for (key, value) in env::vars_os() {
        match wanted.iter().position(|&(name, _)| name == key) {
            Some(index) if wanted[index].1 == value => drop(wanted.swap_remove(index)),
            Some(_) => {}
            // SAFETY: the caller vouches that there is one thread.
            None => unsafe { env::remove_var(key) },
        }
    }
    for (key, value) in wanted {
        // `set_var` panics on what it refuses. Strange names that both processes inherited are not among these.
        check(key, value)?;
        // SAFETY: as above.
        unsafe { env::set_var(key, value) };
    }
    Ok(())
}
