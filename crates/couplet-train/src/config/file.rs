//! A whole TOML file read as one type, with every mistake at once.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::collect::{Known, collect, moved, set_right};
use super::issue::ConfigError;
use super::schema::ConfigSchema;
use super::spans::Sources;

/// Reads a file.
/// - schema: that of `T`.
///
/// # Errors
/// If the file cannot be read, or with every mistake in it.
pub(crate) fn read_file<T: DeserializeOwned>(
    path: &Path,
    schema: &ConfigSchema,
) -> Result<(T, Sources), ConfigError> {
    let (mut table, sources) = Sources::read(path)?;
    let respelled = set_right(schema, &mut table, None);
    let moved = moved(&respelled);
    let (mut issues, renamed): (Vec<_>, Vec<_>) =
        (respelled.into_iter().map(|key| (key.issue, key.right))).unzip();
    let known = Known {
        renamed: &renamed,
        partial: None,
    };
    let collected = collect::<T>(table, schema, &known);
    issues.extend(collected.issues);
    match collected.value {
        Some(value) if issues.is_empty() => Ok((value, sources)),
        _ => Err(sources.problems(issues, &moved)),
    }
}
