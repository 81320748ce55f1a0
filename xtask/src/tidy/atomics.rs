//! One door to atomics and to loom.

use crate::source::{Source, Token};
use crate::workspace::Workspace;

use super::Finding;
use super::tables::{BEHIND_THE_DOOR, PRIMITIVE_DOOR};

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in BEHIND_THE_DOOR {
        for (path, text) in workspace
            .files_in(folder, "rs")
            .filter(|(path, _)| !path.starts_with(PRIMITIVE_DOOR))
        {
            let source = Source::new(text);
            let tokens = source.tokens();
            let mut found =
                |at: usize, what: String| findings.push(Finding::new(path, source.line_of(tokens[at].0), what));
            for at in 0..tokens.len() {
                if starts(&tokens[at..], &["sync", ":", ":", "atomic"]) {
                    found(
                        at,
                        format!("atomics come from {PRIMITIVE_DOOR}, so that loom can replace them"),
                    );
                }
                if starts(&tokens[at..], &["loom"]) {
                    found(at, format!("only {PRIMITIVE_DOOR} knows loom"));
                }
            }
        }
    }
    findings
}

fn starts(tokens: &[Token<'_>], words: &[&str]) -> bool {
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|((_, token), word)| token == word)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_findings;
    use super::*;

    #[test]
    fn the_door_itself_and_floor_0_are_free() {
        let text = "#[cfg(loom)] use loom::x; use std::sync::atomic::AtomicU32;";
        let workspace = Workspace::default()
            .with_file("crates/offspring-sync/src/primitive/real.rs", text)
            .with_file("crates/offspring-shm/src/arena.rs", text)
            .with_file("crates/offspring-sync/tests/loom.rs", text)
            .with_file(
                "crates/offspring-pool/src/pool.rs",
                "use std::sync::Arc; // std::sync::atomic",
            );
        assert_findings(check(&workspace), &[]);
    }

    #[test]
    fn a_way_around_the_door_is_caught() {
        let workspace = Workspace::default()
            .with_file(
                "crates/offspring-pool/src/a.rs",
                "\nuse std::sync::atomic::{AtomicU32};",
            )
            .with_file(
                "crates/offspring-queue/src/b.rs",
                "type A = core::sync::atomic::AtomicU8;",
            )
            .with_file("crates/offspring-sync/src/c.rs", "#[cfg(not(loom))]\nfn f() {}");
        let expected = [
            ("crates/offspring-sync/src/c.rs", 1, "knows loom"),
            ("crates/offspring-queue/src/b.rs", 1, "atomics come from"),
            ("crates/offspring-pool/src/a.rs", 2, "atomics come from"),
        ];
        assert_findings(check(&workspace), &expected);
    }
}
