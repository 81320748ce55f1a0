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
        let (key, value) = match self {
            Self::Clear => return Ok(()),
            Self::Set(key, value) => (key, value.as_bytes()),
            Self::Remove(key) => (key, &[][..]),
        };
        if key.is_empty() || key.as_bytes().contains(&b'=') || key.as_bytes().contains(&0) || value.contains(&0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("environment variable {key:?} has an impossible name or value"),
            ));
        }
        Ok(())
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
            _ => return Err(io::ErrorKind::InvalidData.into()),
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

/// Writes down a whole environment.
pub(crate) fn encode(variables: &[(OsString, OsString)], writer: &mut Writer) {
    writer.length(variables.len());
    for (key, value) in variables {
        writer.bytes(key.as_bytes());
        writer.bytes(value.as_bytes());
    }
}

/// Replaces this process's environment by one that [`encode`] wrote down in another.
///
/// # Safety
///
/// This process has one thread.
pub(crate) unsafe fn replace(reader: &mut Reader<'_>) -> io::Result<()> {
    let mut wanted = Vec::new();
    for _ in 0..reader.count(16)? {
        wanted.push((OsStr::from_bytes(reader.bytes()?), OsStr::from_bytes(reader.bytes()?)));
    }
    for (key, value) in env::vars_os() {
        match wanted.iter().position(|&(name, _)| name == key) {
            Some(index) if wanted[index].1 == value => drop(wanted.swap_remove(index)),
            Some(_) => {}
            // SAFETY: the caller vouches that there is one thread.
            None => unsafe { env::remove_var(key) },
        }
    }
    for (key, value) in wanted {
        // SAFETY: as above. The names come from the standard library of another process of this program, which yields
        // none that `set_var` would refuse.
        unsafe { env::set_var(key, value) };
    }
    Ok(())
}
