//! Warnings about common training problems, with advice.

use std::collections::HashMap;

use couplet_data::StageTimes;
use couplet_data::loader::HostBatch;
use couplet_model::MAX_LOGIT_SCALE;

/// Steps at the chance-level loss after which the run counts as stuck.
const PATIENCE: u64 = 200;
/// Relative distance from the chance-level loss within which the loss counts as stuck.
const STUCK: f64 = 0.02;
/// Steps at the clamp before `logit_scale` is reported.
const CLAMPED_STEPS: u64 = 100;
/// A gradient norm this many times its running mean counts as an explosion.
const EXPLOSION: f64 = 20.0;
/// Steps before that mean is used.
const SETTLED: u64 = 20;
/// The largest share of duplicate captions in a batch without a warning.
const DUPLICATES: f64 = 0.1;
/// The largest share of the time spent waiting for data without a warning.
const STARVING: f64 = 0.1;
/// Consecutive log lines above it before a warning.
const STARVED_LINES: u64 = 3;
/// Steps before a warning may be repeated.
const REPEAT_STEPS: u64 = 1000;

/// Watches a run's numbers and warns of each symptom at most once per [`REPEAT_STEPS`].
#[derive(Debug, Default)]
pub(crate) struct Diagnosis {
    stuck_steps: u64,
    clamped_steps: u64,
    /// Consecutive log lines with too much waiting for data.
    starved_lines: u64,
    /// Running mean of the gradient norm over about 50 steps.
    mean_norm: Option<f64>,
    steps: u64,
    /// The step of each symptom's last warning.
    last_warned: HashMap<Symptom, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Symptom {
    Stuck,
    Clamped,
    Exploding,
    Duplicates,
    Starved,
}

/// The numbers of one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepStats {
    pub loss: f64,
    /// The loss of a model that guesses, ln(choices); `None` for the sigmoid loss, which has no
    /// such value.
    pub chance_loss: Option<f64>,
    pub grad_norm: f64,
    /// The factor on cosine similarities, not its log.
    pub logit_scale: f64,
    /// The share of captions that repeat an earlier one of the batch.
    pub duplicate_captions: f64,
    /// At steps that are logged: the share of the time since the last log line that was spent
    /// waiting for data, and the loader's times over the same period.
    pub data_wait: Option<(f64, StageTimes)>,
}

impl Diagnosis {
    /// The warnings that are due after a step.
    pub fn observe(&mut self, stats: &StepStats) -> Vec<String> {
        self.steps += 1;
        let found = [
            self.stuck(stats),
            self.clamped(stats),
            self.exploding(stats),
            duplicates(stats),
            self.starved(stats),
        ];
        let mut warnings = Vec::new();
        for (symptom, text) in found.into_iter().flatten() {
            let last = self.last_warned.get(&symptom).copied();
            if last.is_none_or(|last| self.steps >= last + REPEAT_STEPS) {
                self.last_warned.insert(symptom, self.steps);
                warnings.push(text);
            }
        }
        warnings
    }

    fn stuck(&mut self, stats: &StepStats) -> Option<(Symptom, String)> {
        let chance = stats.chance_loss?;
        let stuck = (stats.loss - chance).abs() < STUCK * chance;
        self.stuck_steps = if stuck { self.stuck_steps + 1 } else { 0 };
        let text = || {
            format!(
                "the loss has stayed at {:.3} for {} steps, close to chance ({chance:.3}); the features \
                 may have collapsed. Try a lower `optimizer.lr` or a longer `schedule.warmup`, and \
                 check that captions match their images",
                stats.loss, self.stuck_steps
            )
        };
        (self.stuck_steps >= PATIENCE).then(|| (Symptom::Stuck, text()))
    }

    fn clamped(&mut self, stats: &StepStats) -> Option<(Symptom, String)> {
        let clamped = stats.logit_scale >= f64::from(MAX_LOGIT_SCALE) * 0.999;
        self.clamped_steps = if clamped { self.clamped_steps + 1 } else { 0 };
        let text = || {
            format!(
                "`logit_scale` has been at its maximum of {MAX_LOGIT_SCALE} for {} steps: the model is \
                 memorising the data, or the learning rate of `logit_scale` is too high. Try more \
                 data, augmentation, or an `[[optimizer.group]]` for `logit_scale` with a low \
                 `lr_scale`",
                self.clamped_steps
            )
        };
        (self.clamped_steps >= CLAMPED_STEPS).then(|| (Symptom::Clamped, text()))
    }

    fn starved(&mut self, stats: &StepStats) -> Option<(Symptom, String)> {
        let (waited, loading) = stats.data_wait?;
        let starved = waited > STARVING;
        self.starved_lines = if starved { self.starved_lines + 1 } else { 0 };
        let text = || {
            let slowest = loading.slowest();
            format!(
                "the device waits for data {:.0}% of the time; {slowest} takes {:.0}% of the loader's \
                 time. Try more `data.threads`, smaller images on disk or faster storage; \
                 `couplet data bench` measures each stage",
                100.0 * waited,
                percentage(loading.get(slowest), loading.total())
            )
        };
        (self.starved_lines >= STARVED_LINES).then(|| (Symptom::Starved, text()))
    }

    fn exploding(&mut self, stats: &StepStats) -> Option<(Symptom, String)> {
        let mean = self.mean_norm.unwrap_or(stats.grad_norm);
        let most = EXPLOSION * mean;
        self.mean_norm = Some(0.98 * mean + 0.02 * stats.grad_norm.min(most));
        let text = || {
            format!(
                "the gradient norm jumped to {:.3e}, {:.0} times its running mean. Try \
                 `optimizer.clip_norm = 1.0`, a lower `optimizer.lr` or \
                 `optimizer.betas = [0.9, 0.95]`",
                stats.grad_norm,
                stats.grad_norm / mean
            )
        };
        let exploding = self.steps > SETTLED && stats.grad_norm > most;
        exploding.then(|| (Symptom::Exploding, text()))
    }
}

/// `part` as a percentage of `whole`.
#[expect(clippy::cast_precision_loss, reason = "a rounded number for display")]
fn percentage(part: std::time::Duration, whole: std::time::Duration) -> f64 {
    100.0 * part.as_nanos() as f64 / whole.as_nanos().max(1) as f64
}

fn duplicates(stats: &StepStats) -> Option<(Symptom, String)> {
    let text = || {
        format!(
            "{:.0}% of the batch's captions are duplicates, so matching images and captions count as \
             negatives. Try a smaller `batch.global` or more varied captions",
            100.0 * stats.duplicate_captions
        )
    };
    (stats.duplicate_captions > DUPLICATES).then(|| (Symptom::Duplicates, text()))
}

/// The share of a batch's captions that repeat an earlier one, from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
pub(crate) fn duplicate_captions(batch: &HostBatch) -> f64 {
    let mut captions: Vec<&[i32]> = batch
        .tokens
        .chunks_exact(batch.token_length.max(1))
        .collect();
    let all = captions.len().max(1);
    captions.sort_unstable();
    captions.dedup();
    (all - captions.len().min(all)) as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: StepStats = StepStats {
        loss: 2.0,
        chance_loss: Some(5.545),
        grad_norm: 1.0,
        logit_scale: 14.3,
        duplicate_captions: 0.0,
        data_wait: None,
    };

    /// The warnings over `steps` steps of the same numbers.
    fn warnings(stats: StepStats, steps: usize) -> Vec<String> {
        let mut diagnosis = Diagnosis::default();
        (0..steps).flat_map(|_| diagnosis.observe(&stats)).collect()
    }

    #[test]
    fn a_healthy_run_gets_no_warnings() {
        assert_eq!(warnings(HEALTHY, 500), Vec::<String>::new());
    }

    #[test]
    fn a_chance_level_loss_and_a_clamped_logit_scale_are_reported_once() {
        let stuck = warnings(
            StepStats {
                loss: 5.54,
                ..HEALTHY
            },
            900,
        );
        assert_eq!(stuck.len(), 1, "{stuck:?}");
        assert!(stuck[0].contains("close to chance (5.545)"), "{stuck:?}");
        let clamped = warnings(
            StepStats {
                logit_scale: 100.0,
                ..HEALTHY
            },
            500,
        );
        assert_eq!(clamped.len(), 1, "{clamped:?}");
        assert!(
            clamped[0].starts_with("`logit_scale` has been at its maximum"),
            "{clamped:?}"
        );
    }

    #[test]
    fn a_gradient_norm_far_above_its_mean_is_reported() {
        let mut diagnosis = Diagnosis::default();
        for _ in 0..50 {
            assert!(diagnosis.observe(&HEALTHY).is_empty());
        }
        let warnings = diagnosis.observe(&StepStats {
            grad_norm: 30.0,
            ..HEALTHY
        });
        assert!(
            warnings[0].contains("30 times its running mean"),
            "{warnings:?}"
        );
    }

    #[test]
    fn waiting_for_data_is_reported_with_the_slowest_stage() {
        let stats = StepStats {
            data_wait: Some((0.4, StageTimes::default())),
            ..HEALTHY
        };
        assert!(warnings(stats, 2).is_empty());
        let warnings = warnings(stats, 4);
        assert!(
            warnings[0].contains("waits for data 40% of the time"),
            "{warnings:?}"
        );
    }

    #[test]
    fn the_first_of_several_equal_captions_is_not_a_duplicate() {
        let batch = HostBatch::from_host(&[], vec![1, 2, 3, 4, 1, 2, 1, 2], 2, vec![2; 4]);
        assert_eq!(duplicate_captions(&batch), 0.5);
        let warnings = warnings(
            StepStats {
                duplicate_captions: 0.5,
                ..HEALTHY
            },
            10,
        );
        assert!(
            warnings[0].starts_with("50% of the batch's captions"),
            "{warnings:?}"
        );
    }
}
