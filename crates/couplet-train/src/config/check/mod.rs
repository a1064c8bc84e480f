//! Everything that can be wrong with the values of a config, found before any work starts. What had
//! to be opened to check is kept for the run.

mod adapt;
mod classify;
mod context;
mod data;
mod evals;
mod lengths;
mod model;

pub(super) use context::Check;
pub use context::DeviceCheck;

use std::path::Path;

use couplet_loss::{CustomLoss, Loss};
use couplet_model::ModelSource;

use super::given::Given;
use super::issue::ConfigIssue;
use super::ranks::DataPlane;
use super::resolved::{ResolvedData, ResolvedRun, parts_of};
use super::tables::RunConfig;
use crate::device::obstacle_to_nccl;
use crate::duration::Unit;
use crate::nearest::nearest;

/// Checks a config and opens what it names.
/// - checkpoint: what a resumed run continues from; given: what a program gives by value.
/// - doubtful: keys whose values are not those of the file.
/// - data_root: replaces the folders of dataset files as the start of the paths in them.
/// - issues: what is known to be wrong, to which this adds.
pub(super) fn check(
    mut config: RunConfig,
    device_check: DeviceCheck,
    (checkpoint, given): (Option<ModelSource>, Given),
    doubtful: Vec<String>,
    data_root: Option<&Path>,
    issues: &mut Vec<ConfigIssue>,
) -> Option<ResolvedRun> {
    if let Some(loss) = &given.loss {
        let name = loss.name().to_string();
        config.loss = Loss::Custom(CustomLoss { name });
    }
    let mut check = Check::new(doubtful, data_root, issues);
    check.given = given;
    if config.name.trim_matches(['.', ' ']).is_empty() || config.name.contains(['/', '\\']) {
        check.fail(
            "name",
            "must not be empty or contain slashes: it names the run's folder",
        );
    }
    check.device(&config, device_check);
    check.ranks(&config, device_check);
    let resumes = checkpoint.is_some();
    let weights = check.model(&config.model, checkpoint);
    let tokens = check.tokens(&config.model, weights.as_ref(), resumes);
    let loss = check.loss(&config);
    check.ema_and_freeze(&config);
    let own = weights.as_ref().filter(|_| resumes);
    let adaptation = check.adaptation(&config, own.map(|source| source.weights.as_path()));
    check.classify(&config);
    let classify = config.classify.as_ref();
    let (set, classes) = check
        .data(config.seed, &config.model, &config.data, classify)
        .unzip();
    let epoch_len = set.as_ref().and_then(|set| check.epoch_len(&config, set));
    check.optimizer(&config, adaptation.as_ref().ok().and_then(Option::as_ref));
    let sizes = check.batch(&config, set.as_ref(), epoch_len);
    let schedule = check.schedule(&config, sizes);
    let preprocess = Check::preprocess(&config.model, weights.as_ref());
    let (mut evals, metrics) = check.evals(&config, sizes, tokens.as_ref(), &preprocess);
    let guard = check.guard(&config, sizes, evals.as_mut());
    check.checkpoint(&config, metrics.as_deref());
    check.every("log.every", config.log.every, sizes);
    let (sizes, set) = (sizes?, set?);
    let run = ResolvedRun {
        data: ResolvedData {
            classes: classes?,
            once: false,
            parts: parts_of(config.batch.parts, config.batch.global, &set),
            set,
            tokens: tokens?,
            table: config.data.clone(),
            preprocess,
            epoch_len: epoch_len?,
            spec: config.model.spec(),
            seed: config.seed,
            batch_size: config.batch.global,
        },
        guard: guard.ok()?,
        adaptation: adaptation.ok()?,
        evals: evals?,
        loss: loss?,
        sizes,
        schedule: schedule?,
        data_root: data_root.and_then(|root| std::path::absolute(root).ok()),
        config,
    };
    Some(run.settle_guard())
}

impl Check<'_> {
    fn device(&mut self, config: &RunConfig, device_check: DeviceCheck) {
        let device = match config.device.open() {
            Ok(device) => device,
            Err(_) if device_check == DeviceCheck::Skip => return,
            Err(error) => return self.fail("device", error),
        };
        if self.is_broken("device") {
            return;
        }
        if !config.precision.is_supported(&device) {
            let device = config.device.resolved();
            let message = format!("{device} does not support {}", config.precision);
            self.fail("precision", message);
        }
    }

    fn ranks(&mut self, config: &RunConfig, device_check: DeviceCheck) {
        if config.ranks.data != DataPlane::Nccl || device_check == DeviceCheck::Skip {
            return;
        }
        if let Some(obstacle) = obstacle_to_nccl(config.device) {
            let advice = "use \"auto\" or \"host\" to do without NCCL";
            self.fail("ranks.data", format!("`nccl`: {obstacle}; {advice}"));
        }
    }

    fn checkpoint(&mut self, config: &RunConfig, metrics: Option<&[String]>) {
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
                    format!(
                        "`{every}`: must be a positive number of steps, epochs, samples or minutes"
                    ),
                );
            }
        }
        let (Some(best), Some(metrics)) = (&table.best, metrics) else {
            return;
        };
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
