//! Where a new process begins.
//!
// UNSAFETY: an entry point is found in the image by its offset, and its type is known by a magic number only.
#![expect(unsafe_code, reason = "a reference to a static that is found by its offset")]

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use crate::image;

const MAGIC: u64 = 0x6f66_6673_7072_696e;

/// What a new process was given: bytes and descriptors.
#[derive(Debug)]
pub struct Arguments {
    /// The bytes that were passed to [`Launcher::start`](crate::Launcher::start).
    pub payload: Vec<u8>,
    /// Its own duplicates of the descriptors that were passed, in the same order. They are close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Where a new process begins: a function with a name, in a static of the program.
///
/// A process that is started afresh shares no memory with the one that started it, so it cannot be given a closure. It is
/// told the place of a static in the program's image, which both run. The number that the function returns is the exit
/// code.
///
/// # Examples
///
/// ```
/// use offspring_process::{Arguments, EntryPoint};
///
/// static WORKER: EntryPoint = EntryPoint::new("worker", worker);
///
/// fn worker(arguments: Arguments) -> i32 {
///     i32::from(arguments.payload.is_empty())
/// }
/// assert_eq!(WORKER.name(), "worker");
/// ```
#[repr(C)]
pub struct EntryPoint {
    /// Tells an entry point from anything else in the image.
    magic: u64,
    name: &'static str,
    run: fn(Arguments) -> i32,
}

impl EntryPoint {
    /// An entry point, to be put into a static.
    #[must_use]
    pub const fn new(name: &'static str, run: fn(Arguments) -> i32) -> Self {
        Self {
            magic: MAGIC,
            name,
            run,
        }
    }

    /// Its name, which is also that of its processes unless they are given another.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn run(&self, arguments: Arguments) -> i32 {
        (self.run)(arguments)
    }

    /// The entry point that a process of the same program has at `offset`.
    pub(crate) fn at(offset: u64) -> io::Result<&'static Self> {
        let unknown = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("there is no entry point at offset {offset:#x} of this program"),
            )
        };
        let place = image::at::<Self>(offset)?;
        // SAFETY: `place` is inside of the image and aligned; that eight bytes there are readable is all that is needed.
        if unsafe { place.cast::<u64>().read_volatile() } != MAGIC {
            return Err(unknown());
        }
        // SAFETY: the magic number says that an entry point is here; statics of the image live as long as the process
        // and entry points have no interior mutability.
        Ok(unsafe { place.as_ref() })
    }
}

impl fmt::Debug for EntryPoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EntryPoint")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ENTRY: EntryPoint = EntryPoint::new("entry", |_| 7);
    static OTHER: [u64; 4] = [1; 4];

    #[test]
    fn an_entry_point_is_found_by_its_offset() {
        let offset = image::offset_of(&ENTRY).unwrap();
        let found = EntryPoint::at(offset).unwrap();
        assert_eq!(
            found.run(Arguments {
                payload: Vec::new(),
                descriptors: Vec::new()
            }),
            7
        );
        assert!(EntryPoint::at(offset + 1).is_err());
        assert!(EntryPoint::at(image::offset_of(&OTHER).unwrap()).is_err());
    }
}
