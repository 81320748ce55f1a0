//! Small workspaces for the rules' own tests.

use crate::workspace::{Dependency, Package, Target, Workspace};

use super::Finding;

impl Workspace {
    pub(crate) fn with_file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// A package in `crates/NAME`, or in `NAME` when it is no library of ours, with an orderly manifest and one target.
    pub(crate) fn with_package(mut self, name: &str, kind: &str, path: &str) -> Self {
        let folder = path.split("/src/").next().unwrap_or(path).to_owned();
        let manifest = format!(
            "[package]\n[{}]\nbench = false\n[lints]\nworkspace = true\n",
            section(kind)
        );
        self.files.insert(format!("{folder}/Cargo.toml"), manifest);
        let target = Target {
            name: name.to_owned(),
            kind: kind.to_owned(),
            path: path.to_owned(),
        };
        self.packages.push(Package {
            name: name.to_owned(),
            folder,
            dependencies: Vec::new(),
            targets: vec![target],
        });
        self
    }

    /// Adds a target to the package added last.
    pub(crate) fn with_target(mut self, kind: &str, name: &str, path: &str) -> Self {
        let target = Target {
            name: name.to_owned(),
            kind: kind.to_owned(),
            path: path.to_owned(),
        };
        self.packages
            .last_mut()
            .expect("a package was added")
            .targets
            .push(target);
        self
    }

    /// Adds a dependency to the package added last.
    pub(crate) fn with_dependency(mut self, kind: &str, name: &str, ours: bool) -> Self {
        let dependency = Dependency {
            name: name.to_owned(),
            kind: kind.to_owned(),
            ours,
        };
        self.packages
            .last_mut()
            .expect("a package was added")
            .dependencies
            .push(dependency);
        self
    }
}

fn section(kind: &str) -> &str {
    if kind == "bin" { "[bin]" } else { kind }
}

/// Checks that the findings are exactly these, as `file:line`, and that each says the word given.
#[track_caller]
pub(super) fn assert_findings(findings: Vec<Finding>, expected: &[(&str, usize, &str)]) {
    let places = |finding: &Finding| (finding.file.clone(), finding.line);
    let found: Vec<_> = findings.iter().map(places).collect();
    let wanted: Vec<_> = expected
        .iter()
        .map(|(file, line, _)| ((*file).to_owned(), *line))
        .collect();
    assert_eq!(found, wanted, "{findings:#?}");
    for (finding, (_, _, word)) in findings.iter().zip(expected) {
        assert!(finding.what.contains(word), "{finding} does not say {word:?}");
    }
}
