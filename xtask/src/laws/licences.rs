//! Every crate that some build brings in is under a licence that `deny.toml` lists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use spdx::{Expression, Licensee, ParseMode};

use crate::workspace::{self, cargo_output};

pub(super) fn check() -> Result<Vec<String>, String> {
    let root = workspace::root();
    let policy = fs::read_to_string(root.join("deny.toml"))
        .map_err(|error| format!("deny.toml: {error}"))?;
    let tree = cargo_output(&[
        "tree",
        "--locked",
        "--workspace",
        "--all-features",
        "--target=all",
        "--prefix=none",
        "--format={p}|{l}",
    ])?;
    check_tree(&policy, &root, &tree)
}

/// `tree` has a line for each package: name, version, `|` and the licence.
fn check_tree(policy: &str, root: &Path, tree: &str) -> Result<Vec<String>, String> {
    let policy: toml::Table = policy
        .parse()
        .map_err(|error| format!("deny.toml: {error}"))?;
    let allowed = allowed(&policy)?;
    let own = format!("({}", root.display());
    let packages: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.trim_end_matches("(*)").trim().split_once('|'))
        .filter(|(package, _)| !package.contains(&own))
        .collect();
    if packages.is_empty() {
        return Err("cargo tree: no packages".to_owned());
    }
    let broken = packages.into_iter().filter_map(|(package, licence)| {
        let clarified = clarified(&policy, package).filter(|_| licence.is_empty());
        let licence = clarified.unwrap_or(licence);
        problem(licence, &allowed).map(|problem| format!("{package}: {problem}"))
    });
    Ok(broken.collect())
}

/// The licence that the policy states for a package whose manifest states none.
/// - package: name and version.
fn clarified<'a>(policy: &'a toml::Table, package: &str) -> Option<&'a str> {
    let name = package.split(' ').next()?;
    let all = policy.get("licenses")?.get("clarify")?.as_array()?;
    let own = all
        .iter()
        .find(|own| own.get("crate").and_then(toml::Value::as_str) == Some(name))?;
    own.get("expression")?.as_str()
}

fn allowed(policy: &toml::Table) -> Result<Vec<Licensee>, String> {
    let allowed = policy
        .get("licenses")
        .and_then(|licences| licences.get("allow"))
        .and_then(toml::Value::as_array)
        .ok_or("deny.toml: licenses.allow is missing")?;
    let parse = |licence: &toml::Value| {
        let licence = licence.as_str().unwrap_or_default();
        Licensee::parse(licence).map_err(|error| format!("deny.toml: licenses.allow: {error}"))
    };
    allowed.iter().map(parse).collect()
}

/// Why a licence expression is refused.
fn problem(licence: &str, allowed: &[Licensee]) -> Option<String> {
    if licence.is_empty() {
        return Some("no licence expression".to_owned());
    }
    // Old crates write `MIT/Apache-2.0`.
    match Expression::parse_mode(licence, ParseMode::LAX) {
        Err(error) => Some(format!("the licence `{licence}` does not parse: {error}")),
        Ok(expression) => {
            let is_allowed =
                expression.evaluate(|wanted| allowed.iter().any(|own| own.satisfies(wanted)));
            (!is_allowed).then(|| format!("deny.toml does not list the licence `{licence}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "[licenses]\nallow = [\"MIT\", \"Apache-2.0 WITH LLVM-exception\"]\n";

    fn broken(licence: &str) -> usize {
        let tree = format!(
            "own v0.1.0 (/root/own)|GPL-3.0-only\nx v1.0.0|{licence}\nx v1.0.0|{licence} (*)\n"
        );
        check_tree(POLICY, Path::new("/root"), &tree).unwrap().len()
    }

    #[test]
    fn a_licence_must_be_listed() {
        assert_eq!(broken("MIT"), 0);
        assert_eq!(broken("GPL-3.0-only OR MIT"), 0);
        assert_eq!(broken("MIT/Apache-2.0"), 0);
        assert_eq!(broken("Apache-2.0 WITH LLVM-exception"), 0);
        assert_eq!(broken("Apache-2.0"), 1);
        assert_eq!(broken("MIT AND Zlib"), 1);
        assert_eq!(broken("my own"), 1);
        assert_eq!(broken(""), 1);
    }

    #[test]
    fn a_licence_that_no_manifest_states_may_be_clarified() {
        let policy = format!("{POLICY}[[licenses.clarify]]\ncrate = \"x\"\nexpression = \"MIT\"\n");
        let broken = |tree: &str| check_tree(&policy, Path::new("/root"), tree).unwrap();
        assert!(broken("x v1.0.0|").is_empty());
        assert_eq!(broken("y v1.0.0|").len(), 1);
        assert_eq!(broken("x v1.0.0|GPL-3.0-only").len(), 1);
    }

    #[test]
    fn a_policy_without_a_list_is_an_error() {
        assert!(check_tree("[licenses]\n", Path::new("/root"), "x v1.0.0|MIT").is_err());
        assert!(check_tree(POLICY, Path::new("/root"), "").is_err());
    }
}
