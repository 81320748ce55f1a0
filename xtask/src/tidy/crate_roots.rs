//! `lib.rs` tells what a crate is and where its parts are: documentation, `mod` and `use`, no logic.

use crate::source::{Source, Token};
use crate::workspace::Workspace;

use super::Finding;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in workspace
        .files_in("crates", "rs")
        .filter(|(path, _)| path.ends_with("/src/lib.rs"))
    {
        let source = Source::new(text);
        let tokens = source.tokens();
        if let Some(at) = first_logic(&tokens) {
            let (position, word) = tokens[at];
            let what = format!("`{word}`: a crate root holds documentation, `mod` and `pub use`, no logic");
            findings.push(Finding::new(path, source.line_of(position), what));
        }
    }
    findings
}

/// The first token of the first item that is not `mod`, `use`, `extern crate` or `compile_error!`, nor the unit struct whose
/// documentation is the README and which only doctests see.
fn first_logic(tokens: &[Token<'_>]) -> Option<usize> {
    let word = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    let mut at = 0;
    let mut doctest = false;
    while at < tokens.len() {
        let item = at;
        match word(at) {
            "#" => {
                doctest |= (word(at + 2), word(at + 4)) == ("cfg", "doctest");
                at += if word(at + 1) == "!" { 2 } else { 1 };
                at = after_brackets(tokens, at);
                continue;
            }
            // The end of an inline module.
            "}" => {
                at += 1;
                continue;
            }
            "pub" => {
                at += 1;
                if word(at) == "(" {
                    at = after_brackets(tokens, at);
                }
            }
            _ => {}
        }
        match (word(at), word(at + 1), word(at + 2)) {
            ("mod", _, ";" | "{") => at += 3,
            ("struct", _, ";") if doctest => at += 3,
            ("use", ..) | ("extern", "crate", _) | ("compile_error", "!", _) => {
                while at < tokens.len() && word(at) != ";" {
                    at += 1;
                }
                at += 1;
            }
            _ => return Some(item),
        }
        doctest = false;
    }
    None
}

/// The place after the bracket that closes the one at `open`.
fn after_brackets(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0;
    for (at, (_, token)) in tokens.iter().enumerate().skip(open) {
        match *token {
            "[" | "(" | "{" => depth += 1,
            "]" | ")" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_findings;
    use super::*;

    fn findings(text: &str) -> Vec<Finding> {
        check(
            &Workspace::default()
                .with_file("crates/a/src/lib.rs", text)
                .with_file("crates/a/src/b.rs", "fn logic() {}"),
        )
    }

    #[test]
    fn documentation_modules_and_exports_pass() {
        let text = "//! Docs: fn main() {}\n#![cfg_attr(docsrs, feature(doc_cfg))]\nmod a;\npub(crate) mod b;\n#[doc(hidden)]\npub mod c { pub use crate::a::*; }\n\
                    pub use a::{A, B as C};\n#[cfg(not(target_os = \"linux\"))]\ncompile_error!(\"Linux only\");\nextern crate core;\n\
                    #[cfg(doctest)]\n#[doc = include_str!(\"../README.md\")]\npub struct Readme;\n";
        assert_findings(findings(text), &[]);
    }

    #[test]
    fn a_struct_for_more_than_doctests_is_caught() {
        let text = "#[cfg(doctest)]\nmod a;\npub struct B;\n";
        assert_findings(findings(text), &[("crates/a/src/lib.rs", 3, "no logic")]);
        assert_findings(
            findings("#[cfg(doctest)]\nstruct B(u8);"),
            &[("crates/a/src/lib.rs", 2, "no logic")],
        );
    }

    #[test]
    fn logic_is_caught_where_it_stands() {
        for (line, item) in [
            "pub fn f() {}",
            "const A: u8 = 1;",
            "impl A {}",
            "pub type R = u8;",
            "macro_rules! m { () => {} }",
        ]
        .iter()
        .enumerate()
        {
            let text = format!("{}mod a;\n{item}\n", "\n".repeat(line));
            assert_findings(findings(&text), &[("crates/a/src/lib.rs", line + 2, "no logic")]);
        }
        assert_findings(
            findings("mod inner {\n fn f() {}\n}"),
            &[("crates/a/src/lib.rs", 2, "no logic")],
        );
    }
}
