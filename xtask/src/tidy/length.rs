//! A file that grows too long holds more than one thing.

use crate::workspace::Workspace;

use super::Finding;
use super::tables::LONGEST;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let lines = workspace
        .files_in("", "rs")
        .map(|(path, text)| (path, text.lines().count()));
    let long = lines.filter(|(_, lines)| *lines > LONGEST);
    long.map(|(path, lines)| Finding::new(path, 0, format!("has {lines} lines, more than {LONGEST}: split it")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_findings;
    use super::*;

    #[test]
    fn one_line_too_many_is_caught() {
        let workspace = Workspace::default()
            .with_file("a.rs", &"\n".repeat(LONGEST))
            .with_file("b.rs", &"\n".repeat(LONGEST + 1));
        assert_findings(check(&workspace), &[("b.rs", 0, "601 lines")]);
    }
}
