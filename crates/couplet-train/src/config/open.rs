//! From a TOML file to a run that is ready to start.

use std::path::{Path, PathBuf};

use couplet_eval::find_model;
use couplet_model::{ModelSource, inspect};
use toml::{Table, Value};

use super::check::{DeviceCheck, check};
use super::collect::{Known, collect, set_right};
use super::edit;
use super::given::Given;
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
        Self::open_from(
            read_table(path)?,
            path,
            set,
            device_check,
            None,
            Given::default(),
        )
    }

    /// As [`Self::open`], for a run that continues from its own checkpoint: the weights and the tokenizer
    /// that it began with may be gone.
    /// - folder: the run's folder; by default [`RunConfig::folder_of`] the config's name.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_to_resume(
        path: &Path,
        set: &[String],
        device_check: DeviceCheck,
        folder: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let table = read_table(path)?;
        let checkpoint = Self::checkpoint_of(&table, set, folder);
        Self::open_from(table, path, set, device_check, checkpoint, Given::default())
    }

    /// What a run continues from, if it has a checkpoint.
    /// - folder: the run's folder; by default [`RunConfig::folder_of`] the config's name.
    pub(super) fn checkpoint_of(
        table: &Table,
        set: &[String],
        folder: Option<&Path>,
    ) -> Option<ModelSource> {
        let mut named = table.clone();
        // What is wrong with it is reported later.
        edit::set_keys(&mut named, set);
        let name = named.get("name").and_then(Value::as_str);
        let folder = folder
            .map(Path::to_path_buf)
            .or_else(|| name.map(RunConfig::folder_of));
        let has_checkpoint = |folder: &PathBuf| folder.join("checkpoints").is_dir();
        folder.filter(has_checkpoint).and_then(|folder| {
            let weights = find_model(&folder).ok()?;
            inspect(&weights, None).ok()
        })
    }

    /// - table: what the file at `path` holds.
    /// - given: what a program gives by value.
    pub(super) fn open_from(
        mut table: Table,
        path: &Path,
        set: &[String],
        device_check: DeviceCheck,
        checkpoint: Option<ModelSource>,
        given: Given,
    ) -> Result<Self, ConfigError> {
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
        let run = collected.value.and_then(|config| {
            let doubtful = collected.doubtful;
            let parts = (checkpoint, given);
            check(config, device_check, parts, doubtful, &mut issues)
        });
        match run {
            Some(run) if issues.is_empty() => Ok(run),
            _ => Err(issues_of(path, issues)),
        }
    }
}
