//! What a process holds at one moment, read from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process;

use crate::wait::state_of;

/// The descriptors, children, names in `/dev/shm` and shared mappings of this process.
///
/// Two snapshots are compared by kind, not by number: a zygote that was replaced by another one is no leak, a second one is.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Number and target.
    descriptors: BTreeMap<u32, String>,
    /// Process number, name and state.
    children: BTreeMap<u32, (String, char)>,
    /// Names under /dev/shm that belong to this user.
    shm_entries: BTreeSet<String>,
    /// Bytes by what is mapped.
    mappings: BTreeMap<String, u64>,
}

impl Snapshot {
    /// Looks at the calling process now.
    ///
    /// # Panics
    ///
    /// When `/proc` cannot be read.
    pub fn take() -> Self {
        Self {
            descriptors: descriptors(),
            children: children(),
            shm_entries: shm_entries(),
            mappings: shared_mappings(),
        }
    }

    /// What `later` holds beyond `self`, one sentence each; empty when nothing was left behind.
    pub fn leaks_in(&self, later: &Self) -> Vec<String> {
        let mut leaks = Vec::new();
        let kinds = |snapshot: &Self| count(snapshot.descriptors.values().map(|target| kind(target)));
        for (kind, before, after) in grown(&kinds(self), &kinds(later)) {
            let new: Vec<_> = (later.descriptors.iter())
                .filter(|(number, target)| kind == self::kind(target) && self.descriptors.get(number) != Some(target))
                .map(|(number, target)| format!("{number} -> {target}"))
                .collect();
            leaks.push(format!(
                "descriptors of {kind}: {before} before, {after} now; new: {}",
                new.join(", ")
            ));
        }
        for (pid, (name, state)) in &later.children {
            if *state == 'Z' && self.children.get(pid).is_none_or(|(_, state)| *state != 'Z') {
                leaks.push(format!("child {pid} ({name}) is a zombie that nobody waited for"));
            }
        }
        let names = |snapshot: &Self| {
            count(
                snapshot
                    .children
                    .values()
                    .filter(|(_, state)| *state != 'Z')
                    .map(|(name, _)| name.as_str()),
            )
        };
        for (name, before, after) in grown(&names(self), &names(later)) {
            let new: Vec<_> = (later.children.iter())
                .filter(|(pid, (other, state))| *other == name && *state != 'Z' && !self.children.contains_key(pid))
                .map(|(pid, (_, state))| format!("{pid} (state {state})"))
                .collect();
            leaks.push(format!(
                "children named {name}: {before} before, {after} now; new: {}",
                new.join(", ")
            ));
        }
        for name in later.shm_entries.difference(&self.shm_entries) {
            if !is_of_others(name) {
                leaks.push(format!("/dev/shm/{name} was not there before"));
            }
        }
        for (what, before, after) in grown(&self.mappings, &later.mappings) {
            leaks.push(format!(
                "shared mapping of {what}: {before} bytes before, {after} bytes now"
            ));
        }
        leaks
    }
}

fn count<'a>(items: impl Iterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// The keys whose number is higher in `later`, with both numbers.
fn grown(earlier: &BTreeMap<String, u64>, later: &BTreeMap<String, u64>) -> Vec<(String, u64, u64)> {
    let before = |what: &String| earlier.get(what).copied().unwrap_or(0);
    later
        .iter()
        .filter(|(what, now)| **now > before(what))
        .map(|(what, now)| (what.clone(), before(what), *now))
        .collect()
}

/// `socket:[123]` is a socket, whichever; a file is itself.
fn kind(target: &str) -> &str {
    target.split_once(":[").map_or(target, |(kind, _)| kind)
}

fn descriptors() -> BTreeMap<u32, String> {
    let own = format!("/proc/{}/fd", process::id());
    let entries = fs::read_dir("/proc/self/fd").expect("the descriptors of this process can be listed");
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Collected first: the listing's own descriptor is closed before the links are read.
    let numbers: Vec<u32> = numbers.collect();
    let target = |number: &u32| fs::read_link(format!("/proc/self/fd/{number}")).ok();
    let targets = numbers
        .iter()
        .filter_map(|number| Some((*number, target(number)?.display().to_string())));
    targets.filter(|(_, target)| *target != own).collect()
}

fn children() -> BTreeMap<u32, (String, char)> {
    let mut pids = BTreeSet::new();
    let me = process::id();
    // Each thread has its own children; a list in `/proc` needs CONFIG_PROC_CHILDREN and may miss some while they come and go, so
    // the parent of every process is read instead.
    for entry in fs::read_dir("/proc").expect("/proc can be listed").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if parent_of(pid) == Some(me) {
            pids.insert(pid);
        }
    }
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim_end().to_owned());
    pids.into_iter()
        .filter_map(|pid| Some((pid, (name(pid).ok()?, state_of(pid)?))))
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn shm_entries() -> BTreeSet<String> {
    // The owner of our own directory in `/proc` is the effective user of this process.
    let me = fs::metadata("/proc/self").map(|metadata| metadata.uid());
    let Ok(entries) = fs::read_dir("/dev/shm") else {
        return BTreeSet::new();
    };
    let ours = entries.flatten().filter(|entry| match (entry.metadata(), &me) {
        (Ok(metadata), Ok(me)) => metadata.uid() == *me,
        _ => false,
    });
    ours.map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Whether the entry is gone again, or a process that is neither this one nor a child of it has it open or mapped: then another program, or another test
/// that runs at the same time, uses it.
fn is_of_others(name: &str) -> bool {
    let path = format!("/dev/shm/{name}");
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let others = pids.filter(|pid| *pid != process::id() && parent_of(*pid) != Some(process::id()));
    let held = others.into_iter().any(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(&path)))
        });
        open || fs::read_to_string(format!("/proc/{pid}/maps"))
            .is_ok_and(|maps| maps.lines().any(|line| line.ends_with(&path)))
    });
    // Asked last: who held it may have let it go, and removed it, while the processes were looked at.
    held || !Path::new(&path).exists()
}

/// Bytes of shared mappings by object. A line of `/proc/self/maps`: `address permissions offset device inode path`.
fn shared_mappings() -> BTreeMap<String, u64> {
    let maps = fs::read_to_string("/proc/self/maps").expect("the mappings of this process can be read");
    let mut bytes = BTreeMap::new();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(permissions)) = (fields.next(), fields.next()) else {
            continue;
        };
        if !permissions.ends_with('s') {
            continue;
        }
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let Some((Some(start), Some(end))) = range.split_once('-').map(|(start, end)| (number(start), number(end)))
        else {
            continue;
        };
        let inode = fields.nth(2).unwrap_or("0");
        let path = fields.collect::<Vec<_>>().join(" ");
        *bytes.entry(format!("{path} (inode {inode})")).or_insert(0) += end - start;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_descriptors(descriptors: &[(u32, &str)]) -> Snapshot {
        let descriptors = descriptors
            .iter()
            .map(|&(number, target)| (number, target.to_owned()))
            .collect();
        Snapshot {
            descriptors,
            ..Snapshot::default()
        }
    }

    fn with_children(children: &[(u32, &str, char)]) -> Snapshot {
        let children = children
            .iter()
            .map(|&(pid, name, state)| (pid, (name.to_owned(), state)))
            .collect();
        Snapshot {
            children,
            ..Snapshot::default()
        }
    }

    #[test]
    fn one_socket_may_take_the_place_of_another() {
        let before = with_descriptors(&[(0, "/dev/null"), (3, "socket:[1]")]);
        assert!(
            before
                .leaks_in(&with_descriptors(&[(0, "/dev/null"), (4, "socket:[2]")]))
                .is_empty()
        );
        let leaks = before.leaks_in(&with_descriptors(&[(3, "socket:[1]"), (4, "socket:[2]")]));
        assert_eq!(leaks, ["descriptors of socket: 1 before, 2 now; new: 4 -> socket:[2]"]);
    }

    #[test]
    fn one_child_may_take_the_place_of_another_but_a_zombie_is_a_leak() {
        let before = with_children(&[(7, "zygote", 'S')]);
        assert!(before.leaks_in(&with_children(&[(8, "zygote", 'R')])).is_empty());
        let leaks = before.leaks_in(&with_children(&[(7, "zygote", 'S'), (8, "zygote", 'S')]));
        assert_eq!(leaks, ["children named zygote: 1 before, 2 now; new: 8 (state S)"]);
        let leaks = before.leaks_in(&with_children(&[(7, "zygote", 'Z')]));
        assert_eq!(leaks, ["child 7 (zygote) is a zombie that nobody waited for"]);
    }

    #[test]
    fn a_snapshot_sees_the_standard_streams() {
        assert!(Snapshot::take().descriptors.len() >= 3);
    }
}
