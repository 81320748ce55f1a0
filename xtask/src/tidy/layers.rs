//! Nothing calls up a floor, and what a library depends on was chosen on purpose.

use crate::workspace::{Dependency, Package, Workspace};

use super::Finding;
use super::tables::{EXTERNAL, EXTERNAL_OF_ONE, FOR_TESTS, LAYERS, PEERS};

pub(super) fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        let mut found = |what: String| findings.push(Finding::new(&manifest, 0, what));
        let layer = LAYERS.iter().find(|(name, _)| *name == package.name);
        if layer.is_none() && package.folder.starts_with("crates/") {
            found(format!("{} is not in the layer table of tidy", package.name));
        }
        for dependency in &package.dependencies {
            if let Some((_, below)) = layer {
                found_in_library(package, dependency, below)
                    .into_iter()
                    .for_each(&mut found);
            }
            if PEERS.contains(&dependency.name.as_str()) && package.name != "offspring-benches" {
                found(format!(
                    "{} is a peer: only offspring-benches may depend on it",
                    dependency.name
                ));
            }
        }
    }
    findings
}

fn found_in_library(package: &Package, dependency: &Dependency, below: &[&str]) -> Option<String> {
    let name = dependency.name.as_str();
    let test = dependency.kind == "dev" && FOR_TESTS.contains(&name);
    if dependency.ours {
        let allowed = below.contains(&name) || test;
        (!allowed).then(|| format!("{} must not depend on {name}: it is not on a lower floor", package.name))
    } else {
        let allowed =
            EXTERNAL.contains(&name) || EXTERNAL_OF_ONE.contains(&(&package.name, name)) || dependency.kind == "dev";
        (!allowed).then(|| {
            format!(
                "{name} is not among the external crates a library may use: {}",
                EXTERNAL.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::assert_findings;
    use super::*;

    fn with(name: &str) -> Workspace {
        Workspace::default().with_package(name, "lib", &format!("crates/{name}/src/lib.rs"))
    }

    #[test]
    fn edges_down_and_for_tests_are_allowed() {
        let workspace = with("offspring-queue")
            .with_dependency("normal", "offspring-shm", true)
            .with_dependency("normal", "rkyv", false)
            .with_dependency("dev", "offspring-testing", true)
            .with_dependency("dev", "offspring-process", true)
            .with_dependency("dev", "anything", false);
        assert_findings(check(&workspace), &[]);
    }

    #[test]
    fn edges_up_and_across_are_caught() {
        let manifest = "crates/offspring-shm/Cargo.toml";
        for kind in ["normal", "dev", "build"] {
            let workspace = with("offspring-shm").with_dependency(kind, "offspring-sync", true);
            assert_findings(check(&workspace), &[(manifest, 0, "must not depend on offspring-sync")]);
        }
        let workspace = with("offspring-shm").with_dependency("normal", "offspring-process", true);
        assert_findings(
            check(&workspace),
            &[(manifest, 0, "must not depend on offspring-process")],
        );
        let workspace = with("offspring-shm").with_dependency("normal", "offspring-testing", true);
        assert_findings(
            check(&workspace),
            &[(manifest, 0, "must not depend on offspring-testing")],
        );
    }

    #[test]
    fn an_unknown_crate_and_an_unknown_dependency_are_caught() {
        let manifest = "crates/offspring-new/Cargo.toml";
        assert_findings(
            check(&with("offspring-new")),
            &[(manifest, 0, "not in the layer table")],
        );
        let workspace = with("offspring-shm").with_dependency("normal", "lazy_static", false);
        assert_findings(
            check(&workspace),
            &[("crates/offspring-shm/Cargo.toml", 0, "lazy_static")],
        );
    }

    #[test]
    fn what_one_crate_may_use_is_not_for_others() {
        let with_engine = |name: &str| with(name).with_dependency("normal", "libfuzzer-sys", false);
        assert_findings(check(&with_engine("offspring-fuzz")), &[]);
        assert_findings(
            check(&with_engine("offspring-shm")),
            &[("crates/offspring-shm/Cargo.toml", 0, "libfuzzer-sys")],
        );
    }

    #[test]
    fn a_peer_is_caught_outside_the_benches() {
        let workspace = with("offspring-shm").with_dependency("dev", "rayon", false);
        assert_findings(check(&workspace), &[("crates/offspring-shm/Cargo.toml", 0, "peer")]);
        let benches = Workspace::default().with_package("offspring-benches", "lib", "benches/src/lib.rs");
        assert_findings(check(&benches.with_dependency("normal", "rayon", false)), &[]);
    }
}
