//! How much memory this process may hope for.

// UNSAFETY: asks the C library for resource limits and for the size of the machine's memory.
#![expect(unsafe_code, reason = "getrlimit and sysconf")]

use std::fs;
use std::path::{Path, PathBuf};

/// The smaller of the machine's memory and what the control groups above this process allow.
pub(crate) fn memory() -> usize {
    let physical = physical_memory();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group_limit(&groups, Path::new("/sys/fs/cgroup")).map_or(physical, |limit| limit.min(physical))
}

/// The largest file this process may make, or `None` when there is no limit.
pub(crate) fn file_size() -> Option<usize> {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is valid for writes.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

fn physical_memory() -> usize {
    // SAFETY: asks for constants.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    // A system that does not tell gets the size of a small one.
    match (usize::try_from(pages), usize::try_from(size)) {
        (Ok(pages), Ok(size)) if pages > 0 => pages.saturating_mul(size),
        _ => 1 << 30,
    }
}

/// The smallest memory limit of the groups named in the text of `/proc/PID/cgroup` and of all the groups above them.
fn group_limit(groups: &str, root: &Path) -> Option<usize> {
    let mut smallest = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (base, file) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut group = base.join(path.trim_start_matches('/'));
        loop {
            if let Some(limit) = read_limit(&group.join(file)) {
                smallest = Some(smallest.map_or(limit, |smallest: usize| smallest.min(limit)));
            }
            if group == base || !group.pop() {
                break;
            }
        }
    }
    smallest
}

/// A limit in bytes; a file that is missing or says "max" sets none.
fn read_limit(file: &PathBuf) -> Option<usize> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_above_counts() {
        let root = std::env::temp_dir().join(format!("offspring-limits-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "1000\n");
        write("a/b/memory.max", "max\n");
        write("memory/x/memory.limit_in_bytes", "500\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(group_limit("0::/a/b\n", &root), Some(1000));
        assert_eq!(group_limit("4:memory:/x\n3:cpu:/\n0::/a\n", &root), Some(500));
        assert_eq!(group_limit("4:cpu,memory:/x/unknown\n", &root), Some(500));
        assert_eq!(group_limit("0::/\n", &root), None);
        assert_eq!(group_limit("nonsense\n", &root), None);
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory() >= 16 << 20);
    }
}
