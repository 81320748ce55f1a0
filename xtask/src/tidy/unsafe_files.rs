//! `unsafe` stands only in listed files, and each says at its top why.

use crate::source::Source;
use crate::workspace::Workspace;

use super::Finding;
use super::tables::UNSAFE_FILES;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    check_against(workspace, UNSAFE_FILES)
}

fn check_against(workspace: &Workspace, list: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in workspace.files_in("", "rs") {
        let source = Source::new(text);
        let first = source.tokens().into_iter().find(|(_, token)| *token == "unsafe");
        let line = first.map_or(0, |(position, _)| source.line_of(position));
        let listed = list.contains(&path);
        let mut found = |line, what: &str| findings.push(Finding::new(path, line, what));
        match (first.is_some(), has_header(&source)) {
            (true, true) if !listed => found(line, "may not contain `unsafe`: it is not in UNSAFE_FILES of tidy"),
            (true, false) => {
                found(
                    line,
                    "contains `unsafe` but does not begin with `// UNSAFETY: why` and `#![expect(unsafe_code, reason = \"...\")]`",
                );
            }
            (false, true) => found(0, "has an UNSAFETY header but no `unsafe`"),
            (false, false) if listed => found(0, "is in UNSAFE_FILES of tidy but contains no `unsafe`"),
            _ => {}
        }
    }
    let missing = list.iter().filter(|path| !workspace.files.contains_key(**path));
    findings.extend(missing.map(|path| Finding::new(path, 0, "is in UNSAFE_FILES of tidy but does not exist")));
    findings
}

/// Whether the reason and the expectation stand before the first item.
fn has_header(source: &Source<'_>) -> bool {
    let words = ["expect", "(", "unsafe_code", ",", "reason"];
    let tokens: Vec<_> = source.tokens();
    let expected = tokens
        .windows(words.len())
        .position(|window| window.iter().map(|(_, token)| *token).eq(words));
    let Some(expectation) = expected else { return false };
    let line = source.line_of(tokens[expectation].0);
    // Only inner attributes may come before: `#`, `!`, `[`.
    let inner = expectation >= 3
        && tokens[expectation - 3..expectation]
            .iter()
            .map(|(_, token)| *token)
            .eq(["#", "!", "["]);
    let reason = |(at, text): &(usize, String)| {
        *at <= line && text.strip_prefix("// UNSAFETY: ").is_some_and(|why| !why.is_empty())
    };
    inner && source.comments.iter().any(reason)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_findings;
    use super::*;

    const HEADER: &str = "// UNSAFETY: a reason\n#![expect(unsafe_code, reason = \"a reason\")]\n";

    fn findings(text: &str, list: &[&str]) -> Vec<Finding> {
        check_against(&Workspace::default().with_file("a.rs", text), list)
    }

    #[test]
    fn a_listed_file_with_its_header_passes() {
        assert_findings(findings(&format!("{HEADER}unsafe fn f() {{}}"), &["a.rs"]), &[]);
        assert_findings(
            findings(
                "fn f() {} // unsafe in a comment, \"unsafe\"\nconst A: &str = \"unsafe\";",
                &[],
            ),
            &[],
        );
        assert_findings(findings("#![deny(unsafe_code)] fn unsafe_op() {}", &[]), &[]);
    }

    #[test]
    fn each_half_alone_is_caught() {
        assert_findings(
            findings(&format!("{HEADER}unsafe fn f() {{}}"), &[]),
            &[("a.rs", 3, "not in UNSAFE_FILES")],
        );
        assert_findings(
            findings("fn f() {}\nunsafe fn g() {}", &["a.rs"]),
            &[("a.rs", 2, "does not begin with")],
        );
        assert_findings(
            findings("#[unsafe(no_mangle)]\nfn f() {}", &["a.rs"]),
            &[("a.rs", 1, "does not begin with")],
        );
        let silent = "#![expect(unsafe_code, reason = \"a reason\")]\nunsafe fn f() {}";
        assert_findings(findings(silent, &["a.rs"]), &[("a.rs", 2, "does not begin with")]);
        let outer = "// UNSAFETY: a reason\n#[expect(unsafe_code, reason = \"a reason\")]\nunsafe fn f() {}";
        assert_findings(findings(outer, &["a.rs"]), &[("a.rs", 3, "does not begin with")]);
        assert_findings(
            findings(&format!("{HEADER}fn f() {{}}"), &["a.rs"]),
            &[("a.rs", 0, "no `unsafe`")],
        );
        assert_findings(findings("fn f() {}", &["a.rs"]), &[("a.rs", 0, "contains no `unsafe`")]);
        assert_findings(findings("fn f() {}", &["b.rs"]), &[("b.rs", 0, "does not exist")]);
    }
}
