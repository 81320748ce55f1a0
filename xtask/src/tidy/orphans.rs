//! Every source file belongs to a target. cargo and rustc pass over any other in silence.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::source::Source;
use crate::workspace::Workspace;

use super::Finding;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    for target in workspace.packages.iter().flat_map(|package| &package.targets) {
        reach(workspace, &target.path, true, &mut reached);
    }
    let orphans = workspace
        .files_in("", "rs")
        .filter(|(path, _)| !reached.contains(*path));
    orphans.map(|(path, _)| Finding::new(path, 0, what(path))).collect()
}

fn what(path: &str) -> &'static str {
    if path.starts_with("examples/") || path.starts_with("benches/") {
        "is not in the manifest of its package and no module of a target: it is never compiled"
    } else {
        "no target and no `mod` leads to this file: it is never compiled"
    }
}

/// Marks a file and everything its `mod` and `include!` lead to. A root of a target has its modules beside it.
fn reach(workspace: &Workspace, path: &str, root: bool, reached: &mut BTreeSet<String>) {
    let Some(text) = workspace.files.get(path) else { return };
    if !reached.insert(path.to_owned()) {
        return;
    }
    let file = Path::new(path);
    let folder = file.parent().unwrap_or(Path::new(""));
    let beside = root || file.file_name().is_some_and(|name| name == "mod.rs");
    let modules = if beside {
        folder.to_owned()
    } else {
        file.with_extension("")
    };
    for edge in edges(&Source::new(text)) {
        match edge {
            Edge::Included(name) => reach(workspace, &normal(&folder.join(name)), true, reached),
            Edge::Path { inside, path } => {
                // Inside an inline module the path counts from that module's folder, outside from the file's.
                let base = if inside.is_empty() {
                    folder.to_owned()
                } else {
                    inside.iter().fold(modules.clone(), |at, name| at.join(name))
                };
                reach(workspace, &normal(&base.join(path)), true, reached);
            }
            Edge::Module { inside, name } => {
                let base = inside.iter().fold(modules.clone(), |at, name| at.join(name));
                reach(workspace, &normal(&base.join(format!("{name}.rs"))), false, reached);
                reach(workspace, &normal(&base.join(name).join("mod.rs")), false, reached);
            }
        }
    }
}

fn normal(path: &Path) -> String {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => {}
            part => parts.push(part),
        }
    }
    parts.to_string_lossy().into_owned()
}

/// What leads from one file to another.
enum Edge {
    /// `mod name;` inside the inline modules given.
    Module { inside: Vec<String>, name: String },
    /// `#[path = "path"] mod name;`.
    Path { inside: Vec<String>, path: String },
    /// `include!("name")`.
    Included(String),
}

fn edges(source: &Source<'_>) -> Vec<Edge> {
    let tokens = source.tokens();
    let word = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    let string = |at: usize| {
        tokens
            .get(at)
            .and_then(|(position, _)| source.string_at(*position))
            .map(str::to_owned)
    };
    let mut edges = Vec::new();
    // The open braces; those of inline modules have a name.
    let mut braces: Vec<Option<String>> = Vec::new();
    let mut path = None;
    for at in 0..tokens.len() {
        match (word(at), word(at + 1), word(at + 2)) {
            ("path", "=", "\"") if at > 0 && matches!(word(at - 1), "[" | ",") => path = string(at + 2),
            ("include", "!", "(") => edges.extend(string(at + 3).map(Edge::Included)),
            ("mod", name, ";") => {
                let inside = braces.iter().flatten().cloned().collect();
                edges.push(match path.take() {
                    Some(path) => Edge::Path { inside, path },
                    None => Edge::Module {
                        inside,
                        name: name.to_owned(),
                    },
                });
            }
            ("{", ..) => {
                let inline = at >= 2 && word(at - 2) == "mod";
                braces.push(inline.then(|| word(at - 1).to_owned()));
                path = None;
            }
            ("}", ..) => drop(braces.pop()),
            _ => {}
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_findings;
    use super::*;

    fn library(text: &str) -> Workspace {
        Workspace::default()
            .with_package("a", "lib", "crates/a/src/lib.rs")
            .with_file("crates/a/src/lib.rs", text)
    }

    #[test]
    fn every_way_to_a_file_is_known() {
        let root = "mod one;\npub mod inner { mod two; }\n#[path = \"odd/name.rs\"]\nmod three;\n#[cfg(loom)]\nmod four;\ninclude!(\"part.rs\");";
        let workspace = library(root)
            .with_file("crates/a/src/one.rs", "mod deep;")
            .with_file("crates/a/src/one/deep.rs", "")
            .with_file("crates/a/src/inner/two.rs", "")
            .with_file("crates/a/src/odd/name.rs", "")
            .with_file("crates/a/src/four/mod.rs", "mod five;")
            .with_file("crates/a/src/four/five.rs", "")
            .with_file("crates/a/src/part.rs", "")
            .with_target("test", "t", "crates/a/tests/t/main.rs")
            .with_file("crates/a/tests/t/main.rs", "mod helper;")
            .with_file("crates/a/tests/t/helper.rs", "");
        assert_findings(check(&workspace), &[]);
    }

    #[test]
    fn a_file_that_is_only_mentioned_is_an_orphan() {
        let workspace = library("// mod lost;\nconst A: &str = \"mod lost;\";\nfn mod_lost() {}")
            .with_file("crates/a/src/lost.rs", "");
        assert_findings(check(&workspace), &[("crates/a/src/lost.rs", 0, "never compiled")]);
    }

    #[test]
    fn an_example_outside_the_manifest_is_caught() {
        let workspace = Workspace::default()
            .with_package("offspring-examples", "example", "examples/src/one.rs")
            .with_file("examples/src/one.rs", "")
            .with_file("examples/two.rs", "fn main() {}");
        assert_findings(check(&workspace), &[("examples/two.rs", 0, "not in the manifest")]);
    }
}
