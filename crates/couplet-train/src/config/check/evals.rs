//! The evaluations of a run, each with what it reads opened.

use std::collections::HashSet;

use couplet_data::Augment;
use couplet_data::loader::TokenOptions;
use couplet_eval::{Dataset, DatasetConfig, Task};
use couplet_model::PreprocessSpec;

use super::super::evals::{EvalConfig, EvalWeights};
use super::super::resolved::{EvalTarget, ResolvedData, ResolvedEval, ResolvedGuard};
use super::super::tables::{DataConfig, RunConfig, TrainDataConfig, ValDataConfig};
use super::context::{Check, Noted};
use crate::duration::Sizes;

/// Number of held-out pairs unless the config sets one.
const DEFAULT_PAIRS: usize = 10_000;

impl Check<'_> {
    /// - returns the evaluations if all are right, and the metrics that are measured if all datasets are:
    ///   these need no length of the training data.
    pub(super) fn evals(
        &mut self,
        config: &RunConfig,
        sizes: Option<Sizes>,
        tokens: Option<&TokenOptions>,
        preprocess: &PreprocessSpec,
    ) -> (Option<Vec<ResolvedEval>>, Option<Vec<String>>) {
        if self.is_doubtful("eval") && config.eval.is_empty() {
            return (None, None);
        }
        let entries = config.evals();
        let mut names = HashSet::new();
        let (mut evals, mut opened) = (Vec::new(), Vec::new());
        for (at, entry) in entries.iter().enumerate() {
            let key = |of: &str| format!("eval[{at}].{of}");
            let every = self.every(&key("every"), entry.every(), sizes);
            let weights = entry.weights().unwrap_or(if config.ema.is_some() {
                EvalWeights::Ema
            } else {
                EvalWeights::Raw
            });
            if weights == EvalWeights::Ema && config.ema.is_none() && !self.is_broken("ema") {
                let message = "the run has no averaged weights: add an [ema] table with a decay";
                self.fail(&key("weights"), message);
            }
            let target = match entry {
                _ if self.is_doubtful(&key("kind")) => None,
                EvalConfig::HeldOut(_) => self.held_out(config, tokens, preprocess, &key("kind")),
                EvalConfig::Classification(_) => self.head_classes(config, &key("kind")),
                EvalConfig::ZeroShot(table) => {
                    let dataset = self.dataset(config, &table.dataset, &key("dataset"), false);
                    dataset.map(EvalTarget::ZeroShot)
                }
                EvalConfig::Retrieval(table) => {
                    let dataset = self.dataset(config, &table.dataset, &key("dataset"), true);
                    dataset.map(EvalTarget::Retrieval)
                }
            };
            opened.push(target.as_ref().map(|target| {
                let metrics = target.metrics().into_iter();
                metrics.map(|metric| metric.name).collect::<Vec<_>>()
            }));
            let eval = target.zip(every).map(|(target, every_steps)| ResolvedEval {
                target,
                every_steps,
                weights,
            });
            if let Some(eval) = &eval
                && !names.insert(eval.name().to_string())
            {
                let message = format!(
                    "two evaluations are named `{}`; give the second dataset's file another `name`",
                    eval.name()
                );
                self.fail(&key("dataset"), message);
            }
            evals.extend(eval);
        }
        let metrics: Option<Vec<_>> = opened.into_iter().collect();
        let are_all = evals.len() == entries.len();
        (are_all.then_some(evals), metrics.map(|all| all.concat()))
    }

    /// Adds the evaluations of `[guard]` to the others.
    ///
    /// # Errors
    /// If something is wrong with it.
    pub(super) fn guard(
        &mut self,
        config: &RunConfig,
        sizes: Option<Sizes>,
        evals: Option<&mut Vec<ResolvedEval>>,
    ) -> Result<Option<ResolvedGuard>, Noted> {
        let Some(table) = &config.guard else {
            return Ok(None);
        };
        for (key, message) in table.problems() {
            self.fail(&format!("guard.{key}"), message);
        }
        let every = self.every("guard.every", table.every, sizes);
        let mut opened = Vec::new();
        for path in &table.datasets {
            let dataset = self.any_dataset(config, path, "guard.datasets");
            opened.extend(dataset.map(|dataset| match dataset.task {
                Task::Classify { .. } => EvalTarget::ZeroShot(dataset),
                Task::Retrieve => EvalTarget::Retrieval(dataset),
            }));
        }
        let (Some(evals), Some(every_steps)) = (evals, every) else {
            return Err(Noted);
        };
        if opened.len() < table.datasets.len() || self.is_broken("guard") {
            return Err(Noted);
        }
        let names = opened.iter().map(|target| target.name().to_string());
        let guard = ResolvedGuard {
            datasets: names.collect(),
            max_drop: table.max_drop,
            on_drop: table.on_drop,
        };
        for target in opened {
            if evals.iter().any(|eval| eval.name() == target.name()) {
                let name = target.name();
                let message =
                    format!("`{name}` is evaluated twice: what is guarded needs no [[eval]]");
                self.fail("guard.datasets", message);
                return Err(Noted);
            }
            evals.push(ResolvedEval {
                target,
                every_steps,
                weights: if config.ema.is_some() {
                    EvalWeights::Ema
                } else {
                    EvalWeights::Raw
                },
            });
        }
        Ok(Some(guard))
    }

    /// - retrieves: whether the evaluation needs captions rather than classes.
    fn dataset(
        &mut self,
        config: &RunConfig,
        path: &std::path::Path,
        key: &str,
        retrieves: bool,
    ) -> Option<Dataset> {
        let dataset = self.any_dataset(config, path, key)?;
        let (has_captions, wanted) = match (&dataset.task, retrieves) {
            (Task::Retrieve, true) | (Task::Classify { .. }, false) => return Some(dataset),
            (Task::Retrieve, false) => ("captions", "kind = \"retrieval\""),
            (Task::Classify { .. }, true) => ("classes", "kind = \"zero-shot\""),
        };
        let name = &dataset.name;
        self.fail(
            key,
            format!("`{name}` has {has_captions}: it needs {wanted}"),
        );
        None
    }

    /// A dataset with classes or captions.
    fn any_dataset(
        &mut self,
        config: &RunConfig,
        path: &std::path::Path,
        key: &str,
    ) -> Option<Dataset> {
        if self.is_broken("model.image.image_size") || self.is_doubtful(key) {
            return None;
        }
        let image_size = u32::try_from(config.model.image.image_size()).unwrap_or(u32::MAX);
        let opened =
            DatasetConfig::read_in(path, self.data_root).and_then(|table| table.open(image_size));
        opened.map_err(|error| self.fail_dataset(key, &error)).ok()
    }

    /// The test images of `[classify]`'s dataset.
    fn head_classes(&mut self, config: &RunConfig, key: &str) -> Option<EvalTarget> {
        if self.is_doubtful("classify") {
            return None;
        }
        let Some(classify) = &config.classify else {
            self.fail(key, "evaluates the head of [classify], which is missing");
            return None;
        };
        if self.is_broken("classify") {
            return None;
        }
        let dataset = self.dataset(config, &classify.dataset, "classify.dataset", false);
        dataset.map(EvalTarget::Classification)
    }

    /// The pairs of `[data.val]`.
    fn held_out(
        &mut self,
        config: &RunConfig,
        tokens: Option<&TokenOptions>,
        preprocess: &PreprocessSpec,
        key: &str,
    ) -> Option<EvalTarget> {
        if config.data.val.is_none() && self.is_doubtful("data.val") {
            return None;
        }
        let Some(val) = &config.data.val else {
            let message = "evaluates the pairs of [data.val], which is missing";
            self.fail(key, message);
            return None;
        };
        for (key, message) in val.source.problems() {
            self.fail(&format!("data.val.{key}"), message);
        }
        if val.max_samples.is_some_and(|most| most < 2) {
            self.fail("data.val.max_samples", "must be at least 2");
        }
        if self.any_broken(&["data.val", "model.image.image_size"]) {
            return None;
        }
        // Another seed: shapes would show the pictures that are trained on.
        let seed = config.seed.wrapping_add(1);
        let image_size = u32::try_from(config.model.image.image_size()).unwrap_or(u32::MAX);
        let given = self.given.val.clone();
        let set = self.open_source("data.val", &val.source, given, (seed, image_size))?;
        let Some(known) = set.samples().or(val.max_samples) else {
            let message = "is required: the stream's length is unknown; set the number of pairs to \
                           evaluate";
            self.fail("data.val.max_samples", message);
            return None;
        };
        let epoch_len = val.max_samples.unwrap_or(DEFAULT_PAIRS).min(known);
        if epoch_len < 2 {
            self.fail(
                "data.val",
                format!("has only {epoch_len} pairs; at least 2 are needed"),
            );
            return None;
        }
        Some(EvalTarget::HeldOut(Box::new(ResolvedData {
            set,
            tokens: tokens?.clone(),
            table: as_training(&config.data, val),
            preprocess: preprocess.clone(),
            epoch_len,
            spec: config.model.spec(),
            seed,
            batch_size: config.batch.global.clamp(1, epoch_len),
            classes: None,
            parts: 1,
            once: true,
        })))
    }
}

/// The pairs as the loader takes them: without augmentation.
fn as_training(data: &DataConfig, val: &ValDataConfig) -> DataConfig {
    DataConfig {
        train: TrainDataConfig {
            source: val.source.clone(),
            samples_per_epoch: None,
            resample: false,
            dct_scaling: false,
            augment: Augment::default(),
        },
        val: None,
        // Nothing that is wrong with them ends a run.
        max_skipped: 1.0,
        ..data.clone()
    }
}
