//! The BLAKE3 checksum of every file below a directory, a task for each file, with a progress bar; checked against the
//! same work done by this process alone.
//!
//!     cargo run --release --example checksum [DIR]
//!
//! Without DIR it takes the sources that cargo keeps on this machine, or this workspace if there are none.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use indicatif::{ProgressBar, ProgressStyle};
use offspring::rkyv::{Archive, Deserialize, Serialize};
use offspring::{Pool, Shared};

/// What became of a file: its length and checksum, or why it could not be read.
#[derive(Archive, Serialize, Deserialize, Debug, PartialEq, Eq)]
#[rkyv(crate = offspring::rkyv)]
enum Checksum {
    Of { bytes: u64, hash: [u8; 32] },
    Unreadable(String),
}

/// The task. `progress` is one number that all processes share.
fn checksum(path: String, progress: Shared<AtomicU64>) -> Checksum {
    let checksum = read(Path::new(&path));
    if let Checksum::Of { bytes, .. } = checksum {
        progress.fetch_add(bytes, Ordering::Relaxed);
    }
    checksum
}

fn read(path: &Path) -> Checksum {
    let mut hasher = blake3::Hasher::new();
    let read = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut hasher));
    match read {
        Ok(bytes) => Checksum::Of {
            bytes,
            hash: *hasher.finalize().as_bytes(),
        },
        Err(error) => Checksum::Unreadable(error.to_string()),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = env::args_os().nth(1).map_or_else(default_directory, PathBuf::from);
    let (files, total) = files_below(&directory)?;
    println!(
        "{} files, {:.1} MiB below {}",
        files.len(),
        mebibytes(total),
        directory.display()
    );

    let pool = Pool::builder().build()?;
    let progress = Shared::new(AtomicU64::new(0))?;
    let jobs = files.iter().map(|file| (file.clone(), progress.clone()));
    let since = Instant::now();
    let checksums = with_progress_bar(total, &progress, || pool.starmap(checksum, jobs))?;
    let parallel = since.elapsed();

    let since = Instant::now();
    let expected: Vec<Checksum> = files.iter().map(|file| read(Path::new(file))).collect();
    let alone = since.elapsed();

    let unreadable = checksums
        .iter()
        .filter(|checksum| matches!(checksum, Checksum::Unreadable(_)))
        .count();
    println!(
        "{} workers: {parallel:.2?}; this process alone: {alone:.2?}",
        pool.workers()
    );
    println!(
        "checksum of all checksums: {}, {unreadable} files unreadable",
        summary(&checksums)
    );
    if checksums != expected {
        return Err("the workers' checksums differ from this process's own".into());
    }
    println!("verified");
    Ok(())
}

/// Runs `work` while a bar follows what the workers count.
fn with_progress_bar<R>(total: u64, progress: &Shared<AtomicU64>, work: impl FnOnce() -> R) -> R {
    let bar = ProgressBar::new(total);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    let done = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                bar.set_position(progress.load(Ordering::Relaxed));
                thread::sleep(Duration::from_millis(50));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    });
    bar.set_position(progress.load(Ordering::Relaxed));
    bar.finish_and_clear();
    result
}

fn summary(checksums: &[Checksum]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for checksum in checksums {
        if let Checksum::Of { hash, .. } = checksum {
            hasher.update(hash);
        }
    }
    hasher.finalize()
}

/// The regular files below a directory whose paths are UTF-8, in order, and their bytes.
fn files_below(directory: &Path) -> io::Result<(Vec<String>, u64)> {
    let mut files = Vec::new();
    let mut total = 0;
    let mut left = vec![directory.to_path_buf()];
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", directory.display())))?;
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push(entry.path());
            } else if let (true, Ok(path)) = (kind.is_file(), entry.path().into_os_string().into_string()) {
                total += entry.metadata()?.len();
                files.push(path);
            }
        }
    }
    files.sort_unstable();
    Ok((files, total))
}

fn default_directory() -> PathBuf {
    let cargo = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let sources = cargo.map(|cargo| cargo.join("registry/src"));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    sources.filter(|sources| sources.is_dir()).unwrap_or(workspace)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
