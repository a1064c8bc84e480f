//! Paths and URLs given by patterns.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::brace;
#[cfg(not(feature = "parquet"))]
use super::error::DataError;
use super::hidden::is_hidden;
use super::storage::{self, Location};

/// One path or several; `{0000..0003}`, `{a,b}`, `*`, `?` and `[…]` are expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a path or a list of paths")]
pub enum Patterns {
    One(String),
    Several(Vec<String>),
}

impl Patterns {
    /// Problems with the patterns, including missing files, as (key, message) pairs.
    pub(crate) fn problems(&self, key: &'static str) -> Vec<(&'static str, String)> {
        let paths = match self.paths() {
            Ok(paths) => paths,
            Err(message) => return vec![(key, message)],
        };
        if paths.is_empty() {
            return vec![(key, "the list is empty".into())];
        }
        let missing: Vec<_> = paths.iter().filter(|path| !path.is_file()).collect();
        match missing[..] {
            [] => Vec::new(),
            [path] => vec![(key, format!("{} is not a file", path.display()))],
            [first, .., last] => vec![(
                key,
                format!(
                    "{} of {} {key} are not files, from {} to {}",
                    missing.len(),
                    paths.len(),
                    first.display(),
                    last.display()
                ),
            )],
        }
    }

    /// As [`Self::problems`], for patterns that may also be URLs of object stores.
    pub(crate) fn location_problems(&self, key: &'static str) -> Vec<(&'static str, String)> {
        let (urls, paths): (Vec<String>, Vec<String>) =
            (self.patterns().iter().cloned()).partition(|pattern| storage::is_url(pattern));
        let mut problems = Vec::new();
        if !paths.is_empty() || urls.is_empty() {
            problems = Self::Several(paths).problems(key);
        }
        for url in urls {
            // A `*` in a URL is expanded when the dataset is opened.
            let expanded =
                brace::expand(&url).and_then(|urls| storage::check(urls.first().unwrap_or(&url)));
            problems.extend(expanded.err().map(|message| (key, message)));
        }
        problems
    }

    /// Every path and URL, in order.
    pub(crate) fn locations(&self) -> Result<Vec<Location>, String> {
        let mut locations = Vec::new();
        for pattern in self.patterns() {
            for path in brace::expand(pattern)? {
                if storage::is_url(&path) {
                    locations.extend(storage::find(path)?);
                } else {
                    locations.extend(glob_paths(path)?.into_iter().map(Location::File));
                }
            }
        }
        Ok(locations)
    }

    /// Whether any file is at one of the paths of a pattern.
    pub(crate) fn matches_any(pattern: &str) -> bool {
        let expanded = brace::expand(pattern).unwrap_or_default();
        let mut paths = expanded.into_iter().map(glob_paths);
        paths.any(|found| found.is_ok_and(|found| found.iter().any(|path| path.exists())))
    }

    /// Whether the braces of a pattern cannot be expanded.
    pub(crate) fn is_unsound(pattern: &str) -> bool {
        brace::expand(pattern).is_err()
    }

    /// Each pattern as it is written.
    pub fn each_mut(&mut self) -> &mut [String] {
        match self {
            Self::One(pattern) => std::slice::from_mut(pattern),
            Self::Several(patterns) => patterns,
        }
    }

    fn patterns(&self) -> &[String] {
        match self {
            Self::One(pattern) => std::slice::from_ref(pattern),
            Self::Several(patterns) => patterns,
        }
    }

    /// Every path, in order.
    pub(crate) fn paths(&self) -> Result<Vec<PathBuf>, String> {
        let mut paths = Vec::new();
        for pattern in self.patterns() {
            for path in brace::expand(pattern)? {
                paths.extend(glob_paths(path)?);
            }
        }
        Ok(paths)
    }
}

/// The files that match a pattern with `*`, `?` or `[…]`, sorted by name, without hidden ones; any
/// other path is returned unchanged.
fn glob_paths(path: String) -> Result<Vec<PathBuf>, String> {
    if !path.contains(['*', '?', '[']) || Path::new(&path).is_file() {
        return Ok(vec![path.into()]);
    }
    let found = glob::glob(&path).map_err(|error| format!("`{path}`: {error}"))?;
    let mut found: Vec<PathBuf> = found
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    found.retain(|found| !is_hidden_match(&path, found));
    if found.is_empty() {
        return Err(format!(
            "no file matches `{path}`; check the path or write {{0000..0099}}"
        ));
    }
    Ok(found)
}

/// Whether a part of a path that a wildcard matched is hidden; parts that the pattern names are not.
fn is_hidden_match(pattern: &str, found: &Path) -> bool {
    let parts = Path::new(pattern).components().rev();
    found.components().rev().zip(parts).any(|(part, pattern)| {
        let pattern = pattern.as_os_str();
        is_hidden(part.as_os_str()) && part.as_os_str() != pattern && !is_hidden(pattern)
    })
}

/// The error about Parquet files in a build without the feature `parquet`.
#[cfg(not(feature = "parquet"))]
pub(crate) fn without_parquet() -> DataError {
    DataError::key("source", WITHOUT_PARQUET)
}

pub(crate) const WITHOUT_PARQUET: &str = "this binary was built without Parquet; build it with the feature `parquet`, which is on by default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_files_sorted_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.tar", "a.tar", "c.txt", "._a.tar"] {
            std::fs::write(folder.path().join(name), []).unwrap();
        }
        let pattern =
            |pattern: &str| Patterns::One(folder.path().join(pattern).display().to_string());
        let paths = pattern("*.tar").paths().unwrap();
        assert_eq!(
            paths,
            ["a.tar", "b.tar"].map(|name| folder.path().join(name))
        );
        assert_eq!(pattern("._*.tar").paths().unwrap().len(), 1);
        let error = pattern("*.zip").problems("shards").remove(0).1;
        assert!(error.starts_with("no file matches"), "{error}");
    }

    #[test]
    fn a_problem_counts_the_missing_files() {
        let problems = Patterns::One("nowhere/{00..04}.tar".into()).problems("shards");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].1.starts_with("5 of 5 shards"), "{problems:?}");
    }
}
