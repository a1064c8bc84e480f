//! Everything that can be wrong with the values of a config, found before any work starts. What had
//! to be opened to check is kept for the run.

mod data;
mod evals;
mod lengths;
mod model;

pub(crate) use evals::{EvalTarget, HELD_OUT, LoggedMetric, ResolvedEval};

use super::collect::is_within;
use super::{ConfigIssue, DeviceCheck, EvalWeights, ResolvedData, RunConfig};
use crate::duration::{Sizes, Unit};
use crate::log::TRAIN_METRICS;
use crate::nearest::nearest;
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

/// Checks a config and opens what it names.
/// - doubtful: keys whose values are not those of the file.
/// - issues: what is known to be wrong, to which this adds.
pub(super) fn check(
    config: RunConfig,
    device_check: DeviceCheck,
    doubtful: Vec<String>,
    issues: &mut Vec<ConfigIssue>,
) -> Option<ResolvedRun> {
    let mut check = Check::new(doubtful, issues);
    if config.name.trim_matches(['.', ' ']).is_empty() || config.name.contains(['/', '\\']) {
        check.fail(
            "name",
            "must be a plain name: the run's folder is called so",
        );
    }
    check.device(&config, device_check);
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

/// Checks of values, each of which leaves out what hangs on a key that is wrong already.
pub(super) struct Check<'a> {
    /// Keys that are wrong, or are not as the file has them.
    broken: Vec<String>,
    /// Those of them of which nothing can be said.
    doubtful: usize,
    issues: &'a mut Vec<ConfigIssue>,
}

impl<'a> Check<'a> {
    /// - doubtful: keys whose values are not those of the file.
    pub(super) fn new(doubtful: Vec<String>, issues: &'a mut Vec<ConfigIssue>) -> Self {
        Self {
            doubtful: doubtful.len(),
            broken: doubtful,
            issues,
        }
    }

    pub(super) fn fail(&mut self, key: &str, message: impl std::fmt::Display) {
        let mut doubtful = self.broken[..self.doubtful].iter();
        let issue = ConfigIssue::new(key, message);
        if !doubtful.any(|known| is_within(key, known)) && !self.issues.contains(&issue) {
            self.broken.push(key.to_string());
            self.issues.push(issue);
        }
    }

    /// Whether something is wrong with a key, in it, or with a table that it is in.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        let mut broken = self.broken.iter();
        broken.any(|known| is_within(key, known) || is_within(known, key))
    }

    /// Whether nothing can be said of a key.
    pub(super) fn is_doubtful(&self, key: &str) -> bool {
        let mut doubtful = self.broken[..self.doubtful].iter();
        doubtful.any(|known| is_within(key, known) || is_within(known, key))
    }

    pub(super) fn any_broken(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.is_broken(key))
    }

    fn device(&mut self, config: &RunConfig, device_check: DeviceCheck) {
        let device = match config.device.open() {
            Ok(device) => device,
            Err(_) if device_check == DeviceCheck::Skip => return,
            Err(error) => return self.fail("device", error),
        };
        if self.is_broken("device") {
            return;
        }
        if let Some(dtype) = config.precision.dtype()
            && !device.supports_dtype(dtype)
        {
            let message = format!("{} does not compute in {dtype:?}", config.device.resolved());
            self.fail("precision", message);
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
            let meant = nearest(best, metrics.iter().map(String::as_str));
            let advice = match meant {
                Some(metric) => format!("did you mean `{metric}`?"),
                None if metrics.is_empty() => "there is no [[eval]]".to_string(),
                None => format!("there are {}", metrics.join(", ")),
            };
            let message = format!("`{best}` is never measured; {advice}");
            self.fail("checkpoint.best", message);
        }
    }
}
