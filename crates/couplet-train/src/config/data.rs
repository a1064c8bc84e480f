//! The part of a config that says what is read and how: all that `couplet data` needs.

use std::path::Path;

use couplet_data::loader::{Loader, LoaderOptions, LoaderState, TokenOptions};
use couplet_data::order::{Order, Share};
use couplet_data::source::PairDataset;
use couplet_eval::eval_transform;
use couplet_model::{ModelSpec, PreprocessSpec};
use serde::Deserialize;
use toml::{Table, Value};

use super::check::Check;
use super::{
    Classes, ClassifyConfig, ConfigError, DataConfig, ModelConfig, classify, collect, edit,
    problems_of, read_table,
};

/// Batches of a config that has none.
const DEFAULT_BATCH: usize = 64;
/// The model of a config that has none: what images are resized to and captions cut at.
const DEFAULT_PRESET: &str = "ViT-B-32";
/// An epoch's length where nobody has counted a stream.
const UNCOUNTED: usize = 1 << 40;
const KEYS: [&str; 4] = ["seed", "model", "data", "classify"];

/// A training set, opened.
pub struct ResolvedData {
    /// The training set.
    pub set: PairDataset,
    /// How captions become ids.
    pub tokens: TokenOptions,
    pub table: DataConfig,
    pub(crate) preprocess: PreprocessSpec,
    /// Samples of an epoch.
    pub(crate) epoch_len: usize,
    pub(super) spec: ModelSpec,
    pub(super) seed: u64,
    pub(crate) batch_size: usize,
    /// Of `[classify]`.
    pub(crate) classes: Option<Classes>,
    /// Whether each sample is read once and no more: as those that are held out.
    pub(super) once: bool,
}

/// `[data]`, and what else it depends on.
#[derive(Deserialize)]
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
        let mut table = read_table(path)?;
        let mut problems = edit::set_keys(&mut table, set);
        let batch_size = table
            .get("batch")
            .and_then(|batch| batch.get("global"))
            .and_then(Value::as_integer)
            .and_then(|global| usize::try_from(global).ok())
            .filter(|global| *global > 0)
            .unwrap_or(DEFAULT_BATCH);
        table.retain(|key, _| KEYS.contains(&key));
        if !table.contains_key("model") {
            let model = Table::from_iter([("preset".to_string(), DEFAULT_PRESET.into())]);
            table.insert("model".into(), Value::Table(model));
        }
        classify::default_source(&mut table);
        problems.extend(edit::merge_preset(&mut table));
        let collected = collect::collect::<DataOnlyConfig>(table);
        problems.extend(collected.problems);
        let opened = collected.value.and_then(|config| {
            let mut check = Check::new(&mut problems);
            let weights = check.model(&config.model);
            let tokens = check.tokens(&config.model, weights.as_ref());
            let classify = config.classify.as_ref();
            let opened = check.data(config.seed, &config.model, &config.data, classify)?;
            let (set, classes) = opened;
            let known = config.data.train.samples_per_epoch.or(set.samples());
            let epoch_len = known.unwrap_or(UNCOUNTED);
            Some(Self {
                set,
                tokens: tokens?,
                preprocess: Check::preprocess(&config.model, weights.as_ref()),
                epoch_len,
                spec: config.model.spec(),
                seed: config.seed,
                batch_size: batch_size.min(epoch_len),
                table: config.data,
                classes,
                once: false,
            })
        });
        opened
            .filter(|_| problems.is_empty())
            .ok_or_else(|| problems_of(path, problems))
    }

    /// Starts loading batches as the run does.
    ///
    /// # Errors
    /// If the system gives no threads.
    pub fn start_loader(&self, position: LoaderState) -> std::io::Result<Loader> {
        let options = LoaderOptions {
            order: Order {
                len: self.set.samples().unwrap_or(self.epoch_len),
                epoch_len: self.epoch_len,
                resample: self.table.train.resample,
                seed: self.seed,
                share: Share::ALL,
            },
            batch_size: self.batch_size,
            transform: eval_transform(&self.spec, &self.preprocess)
                .augmented(&self.table.train.augment),
            tokens: self.tokens.clone(),
            max_image_pixels: self.table.max_image_pixels,
            dct_scaling: self.table.train.dct_scaling,
            max_skipped: self.table.max_skipped,
            threads: self.table.threads,
            once: self.once,
        };
        Loader::start(self.set.clone(), options, position)
    }
}
