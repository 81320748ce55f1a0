//! Manifests say what cargo would otherwise guess: lints, benches, examples.

use crate::examples;
use crate::stress;
use crate::workspace::Workspace;

use super::Finding;

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = workspace.files.get("Cargo.toml").map_or("", String::as_str);
    if let Some((line, _)) = line_of(root, "default-members") {
        let what = "default-members break `cargo run --example` and `cargo bench` from the root";
        findings.push(Finding::new("Cargo.toml", line, what));
    }
    for package in &workspace.packages {
        let path = format!("{}/Cargo.toml", package.folder);
        let text = workspace.files.get(&path).map_or("", String::as_str);
        if !has_in_section(text, "[lints]", "workspace = true") {
            findings.push(Finding::new(
                &path,
                0,
                "does not inherit the lints: [lints] workspace = true",
            ));
        }
        for (kind, section) in [("lib", "[lib]"), ("bin", "[[bin]]")] {
            if package.targets_of_kind(kind).next().is_some() && !has_in_section(text, section, "bench = false") {
                let what = format!("{section} needs bench = false, or `cargo bench -- --quick` ends in libtest");
                findings.push(Finding::new(&path, 0, what));
            }
        }
        for target in package.targets_of_kind("bench") {
            if !section_of(text, "[[bench]]", &target.name).is_some_and(|section| section.contains(&"harness = false"))
            {
                let what = format!("the bench {} needs harness = false", target.name);
                findings.push(Finding::new(&path, 0, what));
            }
        }
    }
    findings.extend(
        examples::unlisted(workspace)
            .into_iter()
            .map(|what| Finding::new("xtask/src/examples.rs", 0, what)),
    );
    findings.extend(
        stress::unlisted(workspace)
            .into_iter()
            .map(|what| Finding::new("xtask/src/stress.rs", 0, what)),
    );
    findings
}

fn line_of<'a>(text: &'a str, start: &str) -> Option<(usize, &'a str)> {
    (1..)
        .zip(text.lines())
        .find(|(_, line)| line.trim_start().starts_with(start))
}

/// The lines of each section with this header.
fn sections<'a>(text: &'a str, header: &str) -> Vec<Vec<&'a str>> {
    let mut sections: Vec<Vec<&str>> = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == header;
            if inside {
                sections.push(Vec::new());
            }
        } else if let (true, Some(last)) = (inside, sections.last_mut()) {
            last.push(line);
        }
    }
    sections
}

fn has_in_section(text: &str, header: &str, line: &str) -> bool {
    let sections = sections(text, header);
    !sections.is_empty() && sections.iter().all(|section| section.contains(&line))
}

fn section_of<'a>(text: &'a str, header: &str, name: &str) -> Option<Vec<&'a str>> {
    let name = format!("name = \"{name}\"");
    sections(text, header)
        .into_iter()
        .find(|section| section.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_findings;
    use super::*;

    #[test]
    fn an_orderly_manifest_passes() {
        let workspace = Workspace::default().with_package("xtask", "bin", "xtask/src/main.rs");
        let found: Vec<_> = check(&workspace)
            .into_iter()
            .filter(|finding| finding.file.ends_with(".toml"))
            .collect();
        assert_findings(found, &[]);
    }

    #[test]
    fn what_cargo_would_guess_is_caught() {
        let workspace = Workspace::default()
            .with_package("one", "lib", "crates/one/src/lib.rs")
            .with_target("bench", "speed", "crates/one/speed.rs")
            .with_file(
                "crates/one/Cargo.toml",
                "[lib]\n[lints]\n[[bench]]\nname = \"speed\"\n[[bench]]\nharness = false\n",
            )
            .with_file("Cargo.toml", "[workspace]\ndefault-members = []\n");
        let found: Vec<_> = check(&workspace)
            .into_iter()
            .filter(|finding| finding.file.ends_with(".toml"))
            .collect();
        let manifest = "crates/one/Cargo.toml";
        let expected = [
            ("Cargo.toml", 2, "default-members"),
            (manifest, 0, "lints"),
            (manifest, 0, "[lib] needs bench = false"),
            (manifest, 0, "the bench speed needs harness = false"),
        ];
        assert_findings(found, &expected);
    }
}
