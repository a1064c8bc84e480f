//! The part of a config that says what is read and how: all that `couplet data` needs.

use std::path::Path;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Table, Value};

use super::check::Check;
use super::classify::ClassifyConfig;
use super::collect::{Known, collect, moved};
use super::edit;
use super::issue::ConfigError;
use super::paths::{self, ConfigInput};
use super::resolved::{ResolvedData, parts_of};
use super::schema::{ConfigSchema, Shape};
use super::spans::Sources;
use super::tables::{DataConfig, ModelConfig};
use super::weights::{lacks_architecture, merge_weights};
use super::words::put_right;

/// Batches of a config that has none.
const DEFAULT_BATCH: usize = 64;
/// The model of a config that has none: what images are resized to and captions cut at.
const DEFAULT_PRESET: &str = "ViT-B-32";
/// An epoch's length where a stream's is unknown.
const UNCOUNTED: usize = 1 << 40;

/// `[data]`, and what else it depends on.
#[derive(Deserialize, JsonSchema)]
struct DataOnlyConfig {
    #[serde(default)]
    seed: u64,
    model: ModelConfig,
    data: DataConfig,
    classify: Option<ClassifyConfig>,
}

impl ResolvedData {
    /// Reads of a config what its data needs, applies `--set key=value` pairs and opens the
    /// set. Whatever else a run would need may be missing or wrong.
    ///
    /// # Errors
    /// With every problem at once, each with its key.
    pub fn read(path: &Path, set: &[String]) -> Result<Self, ConfigError> {
        Self::read_input(&ConfigInput::new(path, set))
    }

    /// As [`Self::read`], with all that may be given with a config.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_input(input: &ConfigInput) -> Result<Self, ConfigError> {
        let (mut table, sources) = Sources::read(input.path)?;
        let sources = sources.with_set(input.set);
        let mut issues = edit::set_keys(&mut table, input.set);
        let partial = edit::has_preset(&table).then_some("model");
        let respelled = put_right(&mut table, partial).into_iter();
        let is_read = |key: &str| key.split(['.', '[']).next().is_some_and(is_data_key);
        let respelled = respelled.filter(|key| is_read(&key.right));
        let respelled: Vec<_> = respelled.collect();
        let moved = moved(&respelled);
        let (misspelt, renamed): (Vec<_>, Vec<_>) =
            (respelled.into_iter().map(|key| (key.issue, key.right))).unzip();
        issues.extend(misspelt);
        let of_batch = |key: &str| {
            let value = table.get("batch")?.get(key)?.as_integer()?;
            usize::try_from(value).ok().filter(|value| *value > 0)
        };
        let batch = (
            of_batch("global").unwrap_or(DEFAULT_BATCH),
            of_batch("parts"),
        );
        table.retain(|key, _| is_data_key(key));
        if !table.contains_key("model") {
            let model = Table::from_iter([("preset".to_string(), DEFAULT_PRESET.into())]);
            table.insert("model".into(), Value::Table(model));
        }
        edit::default_source(&mut table);
        let recorded = paths::recorded(input.path).and_then(|run| run.data_root);
        let input = &ConfigInput {
            data_root: input.data_root.or(recorded.as_deref()),
            ..*input
        };
        let mut missing = paths::find(&mut table, input, false);
        let unknown = merge_weights(&mut table, None);
        let unknown = unknown.or_else(|| edit::merge_preset(&mut table));
        let is_partial = edit::lacks_preset(&table) || lacks_architecture(&table);
        let known = Known {
            renamed: &renamed,
            partial: is_partial.then_some("model"),
        };
        let collected = collect::<DataOnlyConfig>(table, schema(), &known);
        issues.extend(unknown);
        issues.extend(collected.issues);
        paths::leave_doubtful(&mut missing, &collected.doubtful);
        let not_there = missing.iter().map(|issue| issue.key.clone());
        let doubtful = collected.doubtful.into_iter().chain(not_there).collect();
        issues.extend(missing);
        let opened = (collected.value).and_then(|config| {
            let mut check = Check::new(doubtful, input.data_root, &mut issues);
            resolve(config, batch, &mut check)
        });
        opened
            .filter(|_| issues.is_empty())
            .ok_or_else(|| sources.problems(issues, &moved))
    }
}

fn schema() -> &'static ConfigSchema {
    static DATA: LazyLock<ConfigSchema> = LazyLock::new(ConfigSchema::of::<DataOnlyConfig>);
    &DATA
}

fn is_data_key(key: &str) -> bool {
    match &schema().root {
        Shape::Table(keys) => keys.iter().any(|own| own.name == key),
        _ => false,
    }
}

/// Opens what the config names.
/// - batch: its size, and the number of its parts if it is set, neither of them checked.
fn resolve(
    config: DataOnlyConfig,
    (batch_size, parts): (usize, Option<usize>),
    check: &mut Check,
) -> Option<ResolvedData> {
    let weights = check.model(&config.model, None);
    let tokens = check.tokens(&config.model, weights.as_ref(), false);
    let classify = config.classify.as_ref();
    let (set, classes) = check.data(config.seed, &config.model, &config.data, classify)?;
    let known = config.data.train.samples_per_epoch.or(set.samples());
    let epoch_len = known.unwrap_or(UNCOUNTED);
    let batch_size = batch_size.min(epoch_len);
    let parts = parts.filter(|parts| batch_size.is_multiple_of(*parts));
    Some(ResolvedData {
        parts: parts_of(parts, batch_size, &set),
        set,
        tokens: tokens?,
        preprocess: Check::preprocess(&config.model, weights.as_ref()),
        epoch_len,
        spec: config.model.spec(),
        seed: config.seed,
        batch_size,
        table: config.data,
        classes,
        once: false,
    })
}
