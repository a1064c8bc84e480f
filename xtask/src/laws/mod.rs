//! What ARCHITECTURE.md and CONTRIBUTING.md promise, checked.

mod features;
mod imports;
mod licences;
mod links;
mod modules;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::root;

/// Every law that the sources break, in words.
pub(crate) fn source() -> Vec<String> {
    let mut broken = Vec::new();
    let xtask = root().join("xtask");
    for (name, may_import) in imports::MAY_IMPORT {
        let folder = root().join("crates").join(name);
        broken.extend(imports::check(&folder, name, may_import));
        broken.extend(crate_laws(name, &folder));
    }
    broken.extend(crate_laws("xtask", &xtask));
    broken
}

/// Every law that the dependency tree and the Markdown pages break, in words. Cargo may have to download for it.
pub(crate) fn dependencies_and_links() -> Vec<String> {
    let checks = [licences::check(), features::check(), links::check()];
    let broken = |check: Result<Vec<String>, String>| check.unwrap_or_else(|error| vec![error]);
    checks.into_iter().flat_map(broken).collect()
}

fn crate_laws(name: &str, folder: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    for file in rust_files(folder) {
        let shown = file.strip_prefix(root()).unwrap_or(&file);
        let text = fs::read_to_string(&file).unwrap_or_default();
        broken.extend(text::check(name, shown, &text));
    }
    for crate_root in ["lib.rs", "main.rs"] {
        let crate_root = folder.join("src").join(crate_root);
        if crate_root.exists() {
            broken.extend(modules::check(name, &crate_root));
        }
    }
    broken
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_sources_break_no_law() {
        assert_eq!(super::source(), [""; 0]);
    }
}
