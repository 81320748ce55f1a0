//! Where the program that this process runs can be executed again.
//!
// UNSAFETY: the auxiliary vector holds the executable's name as a C string.
#![expect(unsafe_code, reason = "getauxval(AT_EXECFN)")]

use std::ffi::{CStr, OsStr, c_char};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use crate::failure::While;
use crate::image;

/// Where the program that this process runs can be executed again.
#[derive(Debug)]
pub(crate) struct Executable {
    path: PathBuf,
    needs_check: bool,
}

impl Executable {
    /// The link that the kernel keeps to the very file that this process executes, even if it was deleted or replaced.
    pub(crate) fn by_link() -> Self {
        Self {
            path: "/proc/self/exe".into(),
            needs_check: false,
        }
    }

    /// The path by which the program was started, if what is there now is still the same program.
    ///
    /// # Errors
    ///
    /// The path is not known, nothing is there any more, or another program.
    pub(crate) fn by_path() -> io::Result<Self> {
        const ADVICE: &str = "without /proc this process can only be started again from where it was started";
        let path = executed_path().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("the executable's path is unknown; {ADVICE}"),
            )
        })?;
        let found = File::open(&path)
            .and_then(|file| image::is_loaded_from(&file))
            .during(format!("cannot read the executable {}; {ADVICE}", path.display()))?;
        if !found {
            return Err(io::Error::other(format!(
                "the executable {} was replaced by another program since this process was started; {ADVICE}",
                path.display()
            )));
        }
        Ok(Self {
            path,
            needs_check: true,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether something else may be found at the path by the time it is executed.
    pub(crate) fn needs_check(&self) -> bool {
        self.needs_check
    }
}

fn executed_path() -> Option<PathBuf> {
    // SAFETY: no pointers; the result is the address of a C string that the kernel put on the stack, or 0.
    let name: *const c_char = unsafe { ptr::with_exposed_provenance(libc::getauxval(libc::AT_EXECFN) as usize) };
    if name.is_null() {
        return None;
    }
    // SAFETY: as above; it stays there unchanged as long as the process lives.
    let name = unsafe { CStr::from_ptr(name) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}
