//! From a TOML file to a run that is ready to start.

use std::path::Path;

use toml::Table;

use super::check::{DeviceCheck, check};
use super::collect::{Known, collect, set_right};
use super::edit;
use super::issue::{ConfigError, issues_of};
use super::resolved::ResolvedRun;
use super::schema::ConfigSchema;
use super::tables::RunConfig;

pub(super) fn read_table(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    text.parse().map_err(|source| ConfigError::Syntax {
        path: path.to_path_buf(),
        source: Box::new(source),
    })
}

impl ResolvedRun {
    /// Opens a run: reads its config, applies `--set key=value` pairs, and checks everything that
    /// can be checked before work starts.
    ///
    /// # Errors
    /// With every mistake at once, each with its key.
    pub fn open(
        path: &Path,
        set: &[String],
        device_check: DeviceCheck,
    ) -> Result<Self, ConfigError> {
        let mut table = read_table(path)?;
        let mut issues = edit::set_keys(&mut table, set);
        let partial = edit::has_preset(&table).then_some("model");
        let respelled = set_right(ConfigSchema::run(), &mut table, partial);
        let (misspelt, renamed): (Vec<_>, Vec<_>) =
            (respelled.into_iter().map(|key| (key.issue, key.right))).unzip();
        issues.extend(misspelt);
        edit::default_source(&mut table);
        let unknown_preset = edit::merge_preset(&mut table);
        let is_partial = edit::lacks_preset(&table);
        let known = Known {
            renamed: &renamed,
            partial: is_partial.then_some("model"),
        };
        let collected = collect::<RunConfig>(table, ConfigSchema::run(), &known);
        issues.extend(unknown_preset);
        issues.extend(collected.issues);
        let run = (collected.value)
            .and_then(|config| check(config, device_check, collected.doubtful, &mut issues));
        match run {
            Some(run) if issues.is_empty() => Ok(run),
            _ => Err(issues_of(path, issues)),
        }
    }
}
