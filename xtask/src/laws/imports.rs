//! Which of our crates each crate may import. ARCHITECTURE.md says why.

use std::fs;
use std::path::Path;

pub(super) const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("couplet-alloc", &[]),
    ("couplet-data", &[]),
    ("couplet-hub", &[]),
    ("couplet-kernels", &[]),
    ("couplet-model", &["couplet-kernels"]),
    ("couplet-loss", &["couplet-kernels"]),
    ("couplet-ranks", &[]),
    ("couplet-onnx", &["couplet-model"]),
    (
        "couplet-eval",
        &[
            "couplet-data",
            "couplet-hub",
            "couplet-kernels",
            "couplet-model",
            "couplet-onnx",
        ],
    ),
    (
        "couplet-train",
        &[
            "couplet-data",
            "couplet-model",
            "couplet-loss",
            "couplet-eval",
            "couplet-kernels",
            "couplet-ranks",
        ],
    ),
    (
        "couplet-pages",
        &["couplet-data", "couplet-eval", "couplet-train"],
    ),
    ("couplet-search", &["couplet-data", "couplet-eval"]),
    (
        "couplet-serve",
        &[
            "couplet-data",
            "couplet-eval",
            "couplet-model",
            "couplet-pages",
            "couplet-search",
        ],
    ),
    (
        "couplet",
        &[
            "couplet-alloc",
            "couplet-hub",
            "couplet-pages",
            "couplet-search",
            "couplet-serve",
            "couplet-train",
            "couplet-eval",
            "couplet-data",
            "couplet-model",
            "couplet-loss",
            "couplet-ranks",
        ],
    ),
];

pub(super) fn check(folder: &Path, name: &str, may_import: &[&str]) -> Vec<String> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    check_manifest(&manifest, name, may_import)
}

fn check_manifest(manifest: &str, name: &str, may_import: &[&str]) -> Vec<String> {
    let manifest: toml::Table = match manifest.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{name}: Cargo.toml: {error}")],
    };
    let Some(dependencies) = manifest.get("dependencies").and_then(toml::Value::as_table) else {
        return vec![format!("{name}: Cargo.toml has no dependencies")];
    };
    dependencies
        .keys()
        .filter(|other| other.starts_with("couplet") && !may_import.contains(&other.as_str()))
        .map(|other| format!("{name} must not import {other}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_crates_may_be_imported() {
        let manifest = "[dependencies]\nburn.workspace = true\ncouplet-data.workspace = true\n\
            [dependencies.couplet-eval]\nworkspace = true\n";
        assert_eq!(check_manifest(manifest, "x", &["couplet-data"]).len(), 1);
        let both = ["couplet-data", "couplet-eval"];
        assert_eq!(check_manifest(manifest, "x", &both), [""; 0]);
    }
}
