//! No file names a place of one machine: what is committed must mean the same everywhere.

use crate::workspace::Workspace;

use super::Finding;

/// The first parts of absolute paths that only one machine, or one user of it, has.
const PRIVATE: &[&str] = &["home", "root", "tmp", "work", "mnt", "Users"];

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &workspace.files {
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(place) = PRIVATE.iter().find(|place| names(line, place)) {
                findings.push(Finding::new(
                    path,
                    number,
                    format!("names a path under /{place} of one machine"),
                ));
            }
        }
    }
    findings
}

/// Whether the line holds `/place/x` at the beginning of a path.
fn names(line: &str, place: &str) -> bool {
    let pattern = format!("/{place}/");
    line.match_indices(&pattern).any(|(at, _)| {
        let begins = line[..at]
            .chars()
            .next_back()
            .is_none_or(|before| !before.is_alphanumeric() && !"/._-~$}])*".contains(before));
        let goes_on = line[at + pattern.len()..]
            .chars()
            .next()
            .is_some_and(|next| next.is_alphanumeric() || ".{<$".contains(next));
        begins && goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_findings;
    use super::*;

    #[test]
    fn private_paths_are_caught() {
        for place in PRIVATE {
            for line in [
                format!("/{place}/me"),
                format!("cd \"/{place}/me\""),
                format!("see (/{place}/.cache)"),
                format!("A=/{place}/x"),
            ] {
                let workspace = Workspace::default().with_file("README.md", &format!("\n{line}"));
                assert_findings(check(&workspace), &[("README.md", 2, "one machine")]);
            }
        }
    }

    #[test]
    fn other_paths_pass() {
        let text =
            "https://example.org/work/x ./work/y crates/root/z /dev/shm/a /proc/self/exe /tmp and/or work/ src/tmp/a";
        assert_findings(check(&Workspace::default().with_file("README.md", text)), &[]);
    }
}
