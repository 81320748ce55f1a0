//! A folder for the files of a peer that works through files.

use std::path::{Path, PathBuf};
use std::{env, fs, process};

const PREFIX: &str = "offspring_bench_";
/// Where POSIX shared memory has its names.
const SHARED_MEMORY: &str = "/dev/shm";

/// A temporary folder and a prefix for the names of shared memory; both go when it is dropped.
pub(crate) struct Home {
    path: PathBuf,
    prefix: String,
}

impl Home {
    /// Makes the folder, and removes what a measurement left behind that was killed.
    pub(crate) fn new() -> Result<Self, String> {
        for folder in [env::temp_dir(), PathBuf::from(SHARED_MEMORY)] {
            remove(&folder, |owner| !Path::new(&format!("/proc/{owner}")).exists());
        }
        let prefix = format!("{PREFIX}{}_", process::id());
        let path = env::temp_dir().join(&prefix);
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, prefix })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for folder in [env::temp_dir(), PathBuf::from(SHARED_MEMORY)] {
            remove(&folder, |owner| owner == process::id());
        }
    }
}

/// Removes the files and folders whose names say that they belong to a process of which this is true.
fn remove(folder: &Path, of: impl Fn(u32) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('_').next()?.parse().ok());
        if owner.is_some_and(&of) {
            let path = entry.path();
            // Another measurement may remove the same: what is gone is gone.
            let _ = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
        }
    }
}
