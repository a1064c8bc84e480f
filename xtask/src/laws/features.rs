//! Adding `cli`, `hub`, `parquet`, `serve`, `object-store` or `mpi` must not change what Burn is built with, or it would be
//! built again. The workspace's Cargo.toml turns on in every build what these turn on in crates
//! that they share with it.

use std::collections::{BTreeMap, BTreeSet};

use crate::workspace::cargo_output;

const OPTIONAL: &str =
    "couplet/cli,couplet/hub,couplet/parquet,couplet/serve,couplet/object-store,couplet/mpi";

/// The sets of features that each package is built with: one, or two where build scripts and
/// procedural macros need others than the binary.
type Packages = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check() -> Result<Vec<String>, String> {
    let tree = |package: &str, edges: &str, features: &[&str]| {
        let mut arguments = vec!["tree", "--locked", package];
        arguments.extend([edges, "--prefix=none", "--format={p}|{f}"]);
        arguments.extend(features);
        cargo_output(&arguments).map(|tree| packages(&tree))
    };
    let couplet = "--package=couplet";
    let burn = tree("--package=burn", "--edges=normal,build", &[])?;
    let burn = burn.into_keys().collect();
    let mut broken = BTreeSet::new();
    // The second alone shows that the binary's set changed where build scripts keep the first one.
    for edges in ["--edges=normal,build", "--edges=normal,no-proc-macro"] {
        let library = tree(couplet, edges, &["--no-default-features"])?;
        let more = tree(couplet, edges, &["--features", OPTIONAL])?;
        broken.extend(changed(&library, &more, &burn));
    }
    Ok(broken.into_iter().collect())
}

fn packages(tree: &str) -> Packages {
    let mut packages = Packages::new();
    for line in tree.lines() {
        let Some((package, features)) = line.split_once('|') else {
            continue;
        };
        let features = features.trim_end_matches("(*)").trim();
        let sets = packages.entry(package.to_owned()).or_default();
        sets.insert(features.to_owned());
    }
    packages
}

/// - burn: the packages that Burn is built with.
fn changed(library: &Packages, more: &Packages, burn: &BTreeSet<String>) -> Vec<String> {
    let mut broken = Vec::new();
    let shared = |(package, _): &(&String, _)| burn.contains(*package);
    for (package, sets) in library.iter().filter(shared) {
        let other = more.get(package);
        if !other.is_some_and(|other| sets.is_subset(other)) {
            let shown = |sets: &BTreeSet<String>| {
                sets.iter()
                    .map(|set| format!("[{set}]"))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            broken.push(format!(
                "{OPTIONAL} builds {package} again: its features {} become {}; \
                 turn on the others in the workspace's Cargo.toml",
                shown(sets),
                other.map(shown).unwrap_or_default()
            ));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(library: &str, more: &str) -> usize {
        let burn = ["cc v1.0.0", "syn v3.0.0"].map(str::to_owned).into();
        changed(&packages(library), &packages(more), &burn).len()
    }

    #[test]
    fn a_package_that_gets_more_features_is_found() {
        let default =
            "couplet v0.1.0 (/x)|default\nour v1.0.0|\ncc v1.0.0|\ncc v1.0.0| (*)\nsyn v3.0.0|full";
        let more = "couplet v0.1.0 (/x)|default,parquet\nour v1.0.0|other\ncc v1.0.0|\nsyn v3.0.0|fold,full";
        assert_eq!(broken(default, default), 0);
        assert_eq!(broken(default, more), 1);
        let both = "cc v1.0.0|\nsyn v3.0.0|fold,full\nsyn v3.0.0|full\nparquet v1.0.0|arrow";
        assert_eq!(broken(default, both), 0);
    }
}
