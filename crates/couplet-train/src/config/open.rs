//! From a TOML file to a run that is ready to start.

use std::path::{Path, PathBuf};

use couplet_eval::find_model;
use couplet_model::{ModelSource, inspect};
use toml::{Table, Value};

use super::check::{DeviceCheck, check};
use super::collect::{Known, collect, moved};
use super::edit;
use super::given::Given;
use super::issue::ConfigError;
use super::paths::{self, ConfigInput};
use super::resolved::ResolvedRun;
use super::schema::ConfigSchema;
use super::spans::Sources;
use super::tables::RunConfig;
use super::weights::{lacks_architecture, merge_weights};
use super::words::put_right;

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
        Self::open_input(&ConfigInput::new(path, set), device_check)
    }

    /// As [`Self::open`], with all that may be given with a config.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_input(input: &ConfigInput, device_check: DeviceCheck) -> Result<Self, ConfigError> {
        Self::open_from(
            Sources::read(input.path)?,
            input,
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
        input: &ConfigInput,
        device_check: DeviceCheck,
        folder: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let read = Sources::read(input.path)?;
        let checkpoint = Self::checkpoint_of(&read.0, input.set, folder);
        Self::open_from(read, input, device_check, checkpoint, Given::default())
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

    /// - read: what the file holds, and where.
    /// - given: what a program gives by value.
    pub(super) fn open_from(
        (mut table, sources): (Table, Sources),
        input: &ConfigInput,
        device_check: DeviceCheck,
        checkpoint: Option<ModelSource>,
        given: Given,
    ) -> Result<Self, ConfigError> {
        let sources = sources.with_set(input.set);
        let mut issues = edit::set_keys(&mut table, input.set);
        let partial = edit::has_preset(&table).then_some("model");
        let respelled = put_right(&mut table, partial);
        let moved = moved(&respelled);
        let (misspelt, renamed): (Vec<_>, Vec<_>) =
            (respelled.into_iter().map(|key| (key.issue, key.right))).unzip();
        issues.extend(misspelt);
        edit::default_source(&mut table);
        let recorded = paths::recorded(input.path).and_then(|run| run.data_root);
        let input = &ConfigInput {
            data_root: input.data_root.or(recorded.as_deref()),
            ..*input
        };
        let mut missing = paths::find(&mut table, input, checkpoint.is_some());
        if checkpoint.is_some() {
            // What the run began with may be gone.
            missing
                .retain(|issue| !issue.key.starts_with("model.") && issue.key != "adapt.weights");
        }
        let unknown = merge_weights(&mut table, checkpoint.as_ref());
        let unknown = unknown.or_else(|| edit::merge_preset(&mut table));
        let is_partial = edit::lacks_preset(&table) || lacks_architecture(&table);
        let known = Known {
            renamed: &renamed,
            partial: is_partial.then_some("model"),
        };
        let collected = collect::<RunConfig>(table, ConfigSchema::run(), &known);
        issues.extend(unknown);
        issues.extend(collected.issues);
        paths::leave_doubtful(&mut missing, &collected.doubtful);
        let run = collected.value.and_then(|config| {
            let not_there = missing.iter().map(|issue| issue.key.clone());
            let doubtful = collected.doubtful.into_iter().chain(not_there).collect();
            issues.append(&mut missing);
            let parts = (checkpoint, given);
            let root = input.data_root;
            check(config, device_check, parts, doubtful, root, &mut issues)
        });
        issues.append(&mut missing);
        match run {
            Some(run) if issues.is_empty() => Ok(run),
            _ => Err(sources.problems(issues, &moved)),
        }
    }
}
