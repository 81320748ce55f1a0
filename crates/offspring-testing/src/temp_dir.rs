//! A directory of a test's own.

use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A directory that is removed, with all it holds, when the value is dropped.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    maker: u32,
}

/// Makes an empty directory with a name that no other test has.
///
/// # Panics
///
/// When the directory cannot be made.
///
/// ```
/// let dir = offspring_testing::temp_dir();
/// std::fs::write(dir.join("file"), "text")?;
/// let path = dir.to_path_buf();
/// drop(dir);
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn temp_dir() -> TempDir {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let maker = process::id();
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Process numbers come back after a while; the time tells two processes with the same number apart.
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos());
        let path = std::env::temp_dir().join(format!("offspring-test-{maker}-{number}-{time:x}"));
        match fs::create_dir(&path) {
            Ok(()) => return TempDir { path, maker },
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("cannot make the temporary directory {}: {error}", path.display()),
        }
    }
}

impl TempDir {
    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for TempDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A forked child inherits the value, but not the directory.
        if self.maker == process::id() {
            let result = fs::remove_dir_all(&self.path);
            if let (Err(error), false) = (result, std::thread::panicking()) {
                panic!("cannot remove the temporary directory {}: {error}", self.path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directories_differ_and_vanish() {
        let (one, two) = (temp_dir(), temp_dir());
        assert_ne!(one.path(), two.path());
        fs::create_dir(one.join("inner")).expect("the directory is ours");
        let path = one.to_path_buf();
        drop(one);
        assert!(!path.exists());
        assert!(two.exists());
    }
}
