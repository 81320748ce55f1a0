use std::os::unix::process::parent_id;

use crate::start::{ROOT, names};

/// The process that asks; from [`current`].
#[derive(Debug, Clone)]
pub struct CurrentProcess {
    name: String,
}

/// The process of the family that started this one; from [`parent`].
#[derive(Debug, Clone)]
pub struct ParentProcess {
    pid: u32,
    name: String,
}

/// This process.
///
/// ```
/// use offspring_pool::{Process, current};
///
/// assert_eq!(current().name(), "MainProcess");
/// let child = Process::builder().name("worker bee").spawn(|| current().name().to_string(), ())?;
/// assert_eq!(child.result()?, "worker bee");
/// # Ok::<(), offspring_pool::Error>(())
/// ```
#[doc(alias = "current_process")]
pub fn current() -> CurrentProcess {
    CurrentProcess {
        name: names().map_or_else(|| ROOT.to_string(), |names| names.own.clone()),
    }
}

/// The parent of this process, if it is a child of the family.
///
/// ```
/// use offspring_pool::{Process, parent};
///
/// assert!(parent().is_none());
/// let child = Process::spawn(|| parent().map(|parent| parent.pid()), ())?;
/// assert_eq!(child.result()?, Some(std::process::id()));
/// # Ok::<(), offspring_pool::Error>(())
/// ```
#[doc(alias = "parent_process")]
pub fn parent() -> Option<ParentProcess> {
    names().map(|names| ParentProcess {
        pid: parent_id(),
        name: names.parent.clone(),
    })
}

impl CurrentProcess {
    /// The name that this process was given, or `MainProcess`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This process's id.
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// True if this process was started by another of the family.
    pub fn is_child(&self) -> bool {
        names().is_some()
    }
}

impl ParentProcess {
    /// The parent's process id.
    ///
    /// There is no need to ask whether the parent is alive: its children are killed when it dies.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The parent's name, or `MainProcess`.
    pub fn name(&self) -> &str {
        &self.name
    }
}
