//! Nothing may be left behind by a test.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::panicking;
use std::time::Duration;

use crate::{Snapshot, test_name, wait_until};

/// One check at a time: two tests in one process would see each other's descriptors.
static ALONE: Mutex<()> = Mutex::new(());

/// Compares what the process holds when the value is made and when it is dropped.
///
/// Looked at: open descriptors, children (zombies too), names in `/dev/shm`, shared mappings. What is reaped or closed by
/// another process or thread may take a moment, so a difference counts only if it stays for two seconds.
///
/// nextest gives each test a process of its own. Under plain `cargo test` the tests of one binary share a process: the check then
/// runs alone among those that check, so either every test of a binary has a `LeakCheck` or none does.
///
/// What a library makes once for the life of the process (an arena, a zygote) is not a leak: use the library
/// once before the check begins.
///
/// ```should_panic
/// let leaks = offspring_testing::LeakCheck::new();
/// let file = std::fs::File::open("/dev/null")?;
/// leaks.finish(); // panics: descriptors of /dev/null: 0 before, 1 now; new: 4 -> /dev/null
/// # drop(file);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the check compares when it is dropped"]
pub struct LeakCheck {
    before: Snapshot,
    patience: Duration,
    maker: u32,
    _alone: MutexGuard<'static, ()>,
}

impl LeakCheck {
    /// Takes the first snapshot.
    ///
    /// # Panics
    ///
    /// When `/proc` cannot be read.
    #[expect(clippy::new_without_default, reason = "a check has a beginning, not a default value")]
    pub fn new() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let maker = std::process::id();
        Self {
            before: Snapshot::take(),
            patience: Duration::from_secs(2),
            maker,
            _alone: alone,
        }
    }

    /// Changes how long a difference may stay before it counts.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What is held now and was not held at the beginning, in words, after waiting for it to vanish.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        wait_until(self.patience, || {
            leaks = self.before.leaks_in(&Snapshot::take());
            leaks.is_empty()
        });
        leaks
    }

    /// Compares now, as dropping the check does.
    ///
    /// # Panics
    ///
    /// When something was left behind; the message says what.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for LeakCheck {
    fn drop(&mut self) {
        // A test that fails already says why, and a forked child holds other things than its parent did.
        if panicking() || self.maker != std::process::id() {
            return;
        }
        let leaks = self.leaks();
        assert!(
            leaks.is_empty(),
            "the test {} left behind:\n  {}",
            test_name(),
            leaks.join("\n  ")
        );
    }
}
