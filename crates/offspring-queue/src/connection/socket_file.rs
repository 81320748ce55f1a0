use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;

use super::nonce::nonce;

/// The file of a listening socket; the drop removes it, and nothing that has come in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file that was made.
    identity: (u64, u64),
    /// A forked child has a copy of this and must not take the file away from its parent.
    maker: u32,
}

impl SocketFile {
    /// Looks at the file that `bind` has just made.
    pub(super) fn made(path: &Path) -> io::Result<Self> {
        // The program may change its directory before the file is removed.
        let path = std::path::absolute(path)?;
        Ok(Self {
            identity: identity(&path)?,
            path,
            maker: process::id(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = self.maker == process::id() && identity(&self.path).is_ok_and(|found| found == self.identity);
        if ours {
            // Somebody may have been faster; there is nobody to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and number of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// What stands at a path, to a user who wanted to make a socket there.
pub(super) fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// A directory that only this user can enter; the drop removes it when it is empty.
#[derive(Debug)]
pub(super) struct PrivateDirectory {
    path: PathBuf,
    maker: u32,
}

impl PrivateDirectory {
    pub(super) fn new() -> io::Result<Self> {
        let base = std::env::temp_dir();
        let name: String = nonce::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = base.join(format!("offspring-{name}"));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot make the directory {}: {error}", path.display()),
            )
        })?;
        Ok(Self {
            path,
            maker: process::id(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if self.maker == process::id() {
            // What somebody else put into it stays.
            let _ = fs::remove_dir(&self.path);
        }
    }
}
