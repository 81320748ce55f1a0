//! Both ends of a happens-before edge carry the same label: `// PAIRS: slot-published`.

use std::collections::BTreeMap;

use crate::source::Source;
use crate::workspace::Workspace;

use super::Finding;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut places: BTreeMap<String, Vec<(String, usize)>> = BTreeMap::new();
    for (path, text) in workspace.files_in("crates", "rs") {
        for (line, comment) in Source::new(text).comments {
            let Some((_, labels)) = comment.split_once("PAIRS:") else {
                continue;
            };
            let labels = labels.split(',').map(str::trim);
            for label in labels {
                // What follows the label, after a blank, explains it.
                let label = label
                    .split_ascii_whitespace()
                    .next()
                    .unwrap_or_default()
                    .trim_end_matches(['.', ':', ';', ')', '`']);
                if is_label(label) {
                    places
                        .entry(label.to_owned())
                        .or_default()
                        .push((path.to_owned(), line));
                } else {
                    findings.push(Finding::new(
                        path,
                        line,
                        format!("`{label}` is no label: small letters, digits and hyphens"),
                    ));
                }
            }
        }
    }
    for (label, places) in places {
        if let [(path, line)] = places.as_slice() {
            findings.push(Finding::new(
                path,
                *line,
                format!("PAIRS: {label} stands only here: its other side is missing"),
            ));
        }
    }
    findings
}

fn is_label(label: &str) -> bool {
    let fits = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    !label.is_empty() && label.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_findings;
    use super::*;

    #[test]
    fn two_sides_pass_even_in_two_crates() {
        let workspace = Workspace::default()
            .with_file("crates/a/src/lib.rs", "// PAIRS: published, freed\n// PAIRS: freed")
            .with_file("crates/b/src/lib.rs", "/// The flag. `PAIRS: published`");
        assert_findings(check(&workspace), &[]);
    }

    #[test]
    fn one_side_alone_is_caught() {
        let workspace =
            Workspace::default().with_file("crates/a/src/lib.rs", "\n// PAIRS: one\n// PAIRS: two\n// PAIRS: two");
        assert_findings(
            check(&workspace),
            &[("crates/a/src/lib.rs", 2, "other side is missing")],
        );
    }

    #[test]
    fn a_text_that_is_no_label_is_caught() {
        let workspace = Workspace::default().with_file("crates/a/src/lib.rs", "// PAIRS: With the reader");
        assert_findings(check(&workspace), &[("crates/a/src/lib.rs", 1, "no label")]);
    }
}
