//! Everything that can be wrong with a config whose types are right, found before any
//! work starts. What had to be opened to check is kept for the run.

mod evals;
mod lengths;

use std::collections::HashSet;
use std::sync::Arc;

use couplet_data::loader::TokenOptions;
use couplet_data::shapes::MIN_IMAGE_SIZE;
use couplet_data::source::{PairDataset, SourceConfig};
use couplet_data::{Clean, Tokenizer, with_causes};
use couplet_eval::{find_model, open_tokenizer, token_options};
use couplet_model::{ModelSource, PreprocessSpec, inspect_as};

pub(crate) use evals::{EvalTarget, HELD_OUT, LoggedMetric, ResolvedEval};

use super::{
    Classes, ClassifyConfig, ConfigIssue, DataConfig, DeviceCheck, EvalWeights, ModelConfig,
    ResolvedData, RunConfig,
};
use crate::duration::{Sizes, Unit};
use crate::log::TRAIN_METRICS;
use crate::schedule::Schedule;

/// A sound config with what it names, opened.
pub struct ResolvedRun {
    pub config: RunConfig,
    pub(crate) data: ResolvedData,
    pub(crate) evals: Vec<ResolvedEval>,
    pub(crate) sizes: Sizes,
    pub(crate) schedule: Schedule,
}

impl ResolvedRun {
    /// Which weights the best checkpoint is the best by.
    pub(crate) fn eval_weights(&self) -> EvalWeights {
        let best = self.config.checkpoint.best.as_deref().unwrap_or_default();
        let is_best = |eval: &&ResolvedEval| {
            let of = format!("eval/{}/", eval.name());
            best.starts_with(&of)
        };
        let eval = (self.evals.iter().find(is_best)).or_else(|| self.evals.first());
        eval.map_or(EvalWeights::Ema, |eval| eval.weights)
    }

    /// All metrics that the run writes to `metrics.jsonl`.
    pub(crate) fn metrics(&self) -> Vec<LoggedMetric> {
        let train = TRAIN_METRICS.map(|info| LoggedMetric {
            name: info.name.into(),
            info,
            is_evaluation: false,
        });
        let evals = self.evals.iter().flat_map(ResolvedEval::metrics);
        train.into_iter().chain(evals).collect()
    }

    /// Steps between two lines of `metrics.jsonl`.
    pub fn log_steps(&self) -> u64 {
        self.config.log.every.steps(self.sizes).unwrap_or(1).max(1)
    }
}

impl std::fmt::Debug for ResolvedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResolvedRun")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Adds what is wrong to `problems`, leaving out keys that are listed already.
pub(super) fn check(
    config: RunConfig,
    machine: DeviceCheck,
    problems: &mut Vec<ConfigIssue>,
) -> Option<ResolvedRun> {
    let mut check = Check::new(problems);
    if config.name.trim_matches(['.', ' ']).is_empty() || config.name.contains(['/', '\\']) {
        check.fail(
            "name",
            "must be a plain name: the run's folder is called so",
        );
    }
    check.device(&config, machine);
    let weights = check.model(&config.model);
    let tokens = check.tokens(&config.model, weights.as_ref());
    check.loss(&config);
    check.ema_and_freeze(&config);
    check.classify(&config);
    let classify = config.classify.as_ref();
    let (set, classes) = check
        .data(config.seed, &config.model, &config.data, classify)
        .unzip();
    let epoch_len = set.as_ref().and_then(|set| check.epoch_len(&config, set));
    check.optimizer(&config);
    let sizes = check.batch(&config, epoch_len);
    let schedule = check.schedule(&config, sizes);
    let preprocess = Check::preprocess(&config.model, weights.as_ref());
    let evals = check.evals(&config, sizes, tokens.as_ref(), &preprocess);
    check.checkpoint(&config, evals.as_deref());
    check.every("log.every", config.log.every, sizes);
    let sizes = sizes?;
    Some(ResolvedRun {
        data: ResolvedData {
            classes: classes?,
            once: false,
            set: set?,
            tokens: tokens?,
            table: config.data.clone(),
            preprocess,
            epoch_len: epoch_len?,
            spec: config.model.spec(),
            seed: config.seed,
            batch_size: config.batch.global,
        },
        evals: evals?,
        sizes,
        schedule: schedule?,
        config,
    })
}

pub(super) struct Check<'a> {
    known: HashSet<String>,
    problems: &'a mut Vec<ConfigIssue>,
}

impl<'a> Check<'a> {
    /// Adds to `problems`, leaving out keys that are listed already.
    pub(super) fn new(problems: &'a mut Vec<ConfigIssue>) -> Self {
        let known = problems.iter().filter(|problem| !problem.is_unknown_key());
        Self {
            known: known.map(|problem| problem.key.clone()).collect(),
            problems,
        }
    }

    /// The config's own, or that of the weights it starts from.
    pub(super) fn preprocess(model: &ModelConfig, weights: Option<&ModelSource>) -> PreprocessSpec {
        (model.preprocess.clone())
            .or_else(|| weights.map(|source| source.preprocess.clone()))
            .unwrap_or_default()
    }

    pub(super) fn fail(&mut self, key: &str, message: impl std::fmt::Display) {
        // A key that did not read has a stand-in, of which nothing can be said.
        let covered = |known: &String| key == known || key.starts_with(&format!("{known}."));
        if !self.known.iter().any(covered) {
            self.problems.push(ConfigIssue::new(key, message));
        }
    }

    /// Whether a mistake is known at `key` or below it.
    fn broken(&self, key: &str) -> bool {
        let below = format!("{key}.");
        let hit = |known: &str| known == key || known.starts_with(&below);
        let mut problems = self
            .problems
            .iter()
            .filter(|problem| !problem.is_unknown_key());
        problems.any(|problem| hit(&problem.key))
    }

    fn device(&mut self, config: &RunConfig, machine: DeviceCheck) {
        let device = match config.device.open() {
            Ok(device) => device,
            Err(_) if machine == DeviceCheck::Skip => return,
            Err(error) => return self.fail("device", error),
        };
        if let Some(dtype) = config.precision.dtype()
            && !device.supports_dtype(dtype)
        {
            let message = format!("{} does not compute in {dtype:?}", config.device.resolved());
            self.fail("precision", message);
        }
    }

    fn ema_and_freeze(&mut self, config: &RunConfig) {
        if let Some(ema) = config.ema
            && !(ema.decay > 0.0 && ema.decay < 1.0)
        {
            self.fail("ema.decay", "must lie between 0 and 1");
        }
        if self.broken("model") {
            return;
        }
        for (key, message) in config.freeze.problems(&config.model.spec()) {
            self.fail(&format!("freeze.{key}"), message);
        }
    }

    /// Checks the model; what it starts from, if from given weights.
    pub(super) fn model(&mut self, model: &ModelConfig) -> Option<ModelSource> {
        let spec = model.spec();
        for problem in spec.problems() {
            self.fail(&format!("model.{}", problem.field), problem.message);
        }
        if let Some(preprocess) = &model.preprocess {
            for (key, message) in preprocess.problems() {
                self.fail(&format!("model.preprocess.{key}"), message);
            }
        }
        let weights = model.weights.as_ref()?;
        let source = find_model(weights)
            .and_then(|path| Ok(inspect_as(&path, &spec)?))
            .map_err(|error| with_causes(&error));
        match source {
            Ok(source) => Some(source),
            Err(message) => {
                self.fail("model.weights", message);
                None
            }
        }
    }

    /// How captions become ids.
    /// - weights: what the run starts from.
    pub(super) fn tokens(
        &mut self,
        model: &ModelConfig,
        weights: Option<&ModelSource>,
    ) -> Option<TokenOptions> {
        let opened = match (&model.tokenizer, weights) {
            (Some(path), _) => Tokenizer::from_file(path, Clean::Whitespace)
                .map(|tokenizer| Ok(Arc::new(tokenizer))),
            (None, Some(source)) => open_tokenizer(&source.tokenizer),
            (None, None) => Ok(Ok(Tokenizer::clip())),
        };
        let tokenizer = match opened {
            Ok(Ok(tokenizer)) => tokenizer,
            Ok(Err(missing)) => {
                self.fail("model.tokenizer", missing);
                return None;
            }
            Err(error) => {
                self.fail("model.tokenizer", with_causes(&error));
                return None;
            }
        };
        match token_options(&model.spec(), tokenizer) {
            Ok(options) => Some(options),
            Err(error) => {
                self.fail("model.text.vocab_size", with_causes(&error));
                None
            }
        }
    }

    fn loss(&mut self, config: &RunConfig) {
        for (key, message) in config.loss.problems() {
            self.fail(&format!("loss.{key}"), message);
        }
        if config.loss.needs_bias() && config.model.init_logit_bias.is_none() {
            self.fail(
                "loss.kind",
                "the sigmoid loss needs a bias: set model.init_logit_bias (SigLIP's is -10)",
            );
        }
    }

    /// The opened set, with its classes where the run learns to tell them.
    pub(super) fn data(
        &mut self,
        seed: u64,
        model: &ModelConfig,
        data: &DataConfig,
        classify: Option<&ClassifyConfig>,
    ) -> Option<(PairDataset, Option<Classes>)> {
        let train = &data.train;
        for (key, message) in train.source.problems() {
            self.fail(&format!("data.train.{key}"), message);
        }
        if train.samples_per_epoch == Some(0) {
            self.fail("data.train.samples_per_epoch", "must be at least 1");
        }
        for (key, message) in train.augment.problems() {
            self.fail(&format!("data.train.augment.{key}"), message);
        }
        if !(0.0..=1.0).contains(&data.max_skipped) {
            self.fail(
                "data.max_skipped",
                format!("{} is not a share in [0, 1]", data.max_skipped),
            );
        }
        if data.max_image_pixels == 0 {
            self.fail("data.max_image_pixels", "must be at least 1");
        }
        let image_size = u32::try_from(model.image.image_size()).unwrap_or(u32::MAX);
        if matches!(train.source, SourceConfig::Shapes(_))
            && image_size < MIN_IMAGE_SIZE
            && !self.broken("model.image.image_size")
        {
            self.fail(
                "model.image.image_size",
                format!("shapes cannot be told apart below {MIN_IMAGE_SIZE} pixels"),
            );
        }
        if self.broken("data.train") {
            return None;
        }
        if let Some(classify) = classify {
            let (set, classes) = self.classes(classify, data, image_size)?;
            return Some((set, Some(classes)));
        }
        let opened = train.source.open(seed, image_size);
        let set = opened
            .map_err(|error| self.fail("data.train", with_causes(&error)))
            .ok()?;
        Some((set, None))
    }

    /// How many samples an epoch takes.
    fn epoch_len(&mut self, config: &RunConfig, set: &PairDataset) -> Option<usize> {
        let epoch_len = config.data.train.samples_per_epoch.or(set.samples());
        if epoch_len.is_none() {
            self.fail(
                "data.train.samples_per_epoch",
                "is missing: nobody has counted the stream's samples; say how many make an epoch \
                 (of shards on a disk, `couplet data index` counts them)",
            );
        }
        epoch_len
    }

    fn batch(&mut self, config: &RunConfig, epoch_len: Option<usize>) -> Option<Sizes> {
        let global = config.batch.global;
        let least = if config.classify.is_some() { 1 } else { 2 };
        if global < least {
            let message = match least {
                1 => "must be at least 1",
                _ => "a contrastive batch needs at least 2 pairs",
            };
            self.fail("batch.global", message);
        }
        if let Some(micro) = config.batch.micro
            && (micro == 0 || !global.is_multiple_of(micro))
        {
            self.fail(
                "batch.micro",
                format!("{micro} does not divide batch.global = {global} into equal parts"),
            );
        }
        if config.batch.recompute_blocks && !config.model.image.has_blocks() {
            self.fail(
                "batch.recompute_blocks",
                "a ResNet's batch norms would see each batch twice: set batch.micro instead",
            );
        }
        if config.batch.logit_rows == Some(0) {
            self.fail("batch.logit_rows", "must be at least 1");
        }
        let epoch_len = epoch_len?;
        if global > epoch_len {
            self.fail(
                "batch.global",
                format!("{global} is more than the {epoch_len} samples of an epoch"),
            );
        }
        let sound = global >= least && global <= epoch_len && !self.broken("batch.global");
        sound.then(|| Sizes {
            steps_per_epoch: (epoch_len / global) as u64,
            batch_size: global as u64,
        })
    }

    fn optimizer(&mut self, config: &RunConfig) {
        let table = &config.optimizer;
        for (key, message) in table.problems() {
            self.fail(&format!("optimizer.{key}"), message);
        }
        let spec = config.model.spec();
        if self.broken("model") || !spec.problems().is_empty() {
            return;
        }
        let names = || {
            let mut names = spec.parameter_names();
            if config.classify.is_some() {
                names.extend(["head.weight".to_string(), "head.bias".to_string()]);
            }
            names
        };
        for (key, message) in table.idle_globs(names) {
            self.fail(&format!("optimizer.{key}"), message);
        }
    }

    fn checkpoint(&mut self, config: &RunConfig, evals: Option<&[ResolvedEval]>) {
        let table = &config.checkpoint;
        if table.keep == 0 {
            self.fail("checkpoint.keep", "must be at least 1");
        }
        if table.every.0.is_empty() {
            self.fail("checkpoint.every", "the list is empty");
        }
        for every in &table.every.0 {
            if every.unit == Unit::Percent || every.amount <= 0.0 {
                self.fail(
                    "checkpoint.every",
                    format!("`{every}`: a positive number of steps, epochs, samples or minutes"),
                );
            }
        }
        let (Some(best), Some(evals)) = (&table.best, evals) else {
            return;
        };
        let metrics = evals.iter().flat_map(ResolvedEval::metrics);
        let metrics: Vec<String> = metrics.map(|metric| metric.name).collect();
        if !metrics.contains(best) {
            let there_are = if metrics.is_empty() {
                "there is no [[eval]]".to_string()
            } else {
                format!("there are {}", metrics.join(", "))
            };
            self.fail(
                "checkpoint.best",
                format!("`{best}` is never measured; {there_are}"),
            );
        }
    }
}
