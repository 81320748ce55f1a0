//! The workspace as the checks see it: packages from `cargo metadata`, files from the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cargo::Cargo;

/// The folder of the root manifest.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in a folder of the workspace")
}

/// What the checks look at. Paths are relative to the root and use `/`.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
    /// Every text file.
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) target_directory: PathBuf,
}

#[derive(Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `normal`, `dev` or `build`.
    pub(crate) kind: String,
    /// Whether it is a package of this workspace.
    pub(crate) ours: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `lib`, `bin`, `test`, `example`, `bench` or `custom-build`.
    pub(crate) kind: String,
    pub(crate) path: String,
}

impl Package {
    pub(crate) fn targets_of_kind(&self, kind: &str) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(move |target| target.kind == kind)
    }
}

impl Workspace {
    /// Reads the workspace that this program was built from.
    pub(crate) fn load() -> Result<Self, String> {
        let metadata = Cargo::new("metadata --no-deps --format-version 1").output()?;
        let metadata: Value = serde_json::from_slice(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
        let packages = list(&metadata["packages"])
            .map(package)
            .collect::<Result<_, String>>()?;
        let mut files = BTreeMap::new();
        read_folder(root(), &mut files)?;
        Ok(Self {
            packages,
            files,
            target_directory: text(&metadata["target_directory"]).into(),
        })
    }

    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The files under a folder, or all under `""`, whose names end in `.extension`.
    pub(crate) fn files_in(&self, folder: &str, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        let fits = move |path: &str| {
            let inner = folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
            inner && Path::new(path).extension().is_some_and(|end| end == extension)
        };
        self.files
            .iter()
            .filter(move |(path, _)| fits(path))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn relative(path: &str) -> Result<String, String> {
    let path = Path::new(path)
        .strip_prefix(root())
        .map_err(|_| format!("{path} lies outside the workspace"))?;
    Ok(path.to_string_lossy().into_owned())
}

fn package(value: &Value) -> Result<Package, String> {
    let manifest = relative(text(&value["manifest_path"]))?;
    let dependency = |value: &Value| Dependency {
        name: text(&value["name"]).to_owned(),
        kind: value["kind"].as_str().unwrap_or("normal").to_owned(),
        ours: value["path"].is_string(),
    };
    let target = |value: &Value| {
        let (name, path) = (text(&value["name"]).to_owned(), relative(text(&value["src_path"]))?);
        Ok(Target {
            name,
            kind: text(&value["kind"][0]).to_owned(),
            path,
        })
    };
    Ok(Package {
        name: text(&value["name"]).to_owned(),
        folder: manifest.trim_end_matches("/Cargo.toml").to_owned(),
        dependencies: list(&value["dependencies"]).map(dependency).collect(),
        targets: list(&value["targets"]).map(target).collect::<Result<_, String>>()?,
    })
}

/// Reads every text file, except under `target` and hidden folders of tools; `.cargo`, `.ci` and `.config` are ours. In a further
/// worktree of a repository `.git` is a file.
fn read_folder(folder: &Path, files: &mut BTreeMap<String, String>) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            let foreign = name.starts_with('.') && !matches!(&*name, ".cargo" | ".ci" | ".config" | ".github");
            if name != "target" && !foreign {
                read_folder(&path, files)?;
            }
        } else if name != ".git"
            && let Ok(text) = fs::read_to_string(&path)
        {
            files.insert(relative(&path.to_string_lossy())?, text);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_read() {
        let workspace = Workspace::load().expect("the workspace can be read");
        let xtask = workspace.package("xtask").expect("xtask is a package of it");
        assert_eq!(xtask.folder, "xtask");
        assert!(
            xtask
                .targets_of_kind("bin")
                .any(|target| target.path == "xtask/src/main.rs")
        );
        assert!(
            xtask
                .dependencies
                .iter()
                .any(|dependency| dependency.name == "serde_json" && !dependency.ours)
        );
        assert!(
            workspace
                .files_in("xtask", "rs")
                .any(|(path, _)| path == "xtask/src/workspace.rs")
        );
        assert!(workspace.files.contains_key(".cargo/config.toml"));
    }
}
