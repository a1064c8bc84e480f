//! What goes wrong in training, told in words while it happens.

use std::collections::HashMap;

use couplet_data::StageTimes;
use couplet_data::loader::HostBatch;
use couplet_model::MAX_LOGIT_SCALE;

/// Steps before the loss is expected to have left its start.
const PATIENCE: u64 = 200;
/// The loss counts as stuck within this share of ln(batch).
const STUCK: f64 = 0.02;
/// Steps at the clamp before the temperature is spoken of.
const CLAMPED_STEPS: u64 = 100;
/// A gradient norm this many times its running mean is an explosion.
const EXPLOSION: f64 = 20.0;
/// Steps until that mean means something.
const SETTLED: u64 = 20;
/// The share of a batch's captions that may be copies of another.
const COPIES: f64 = 0.1;
/// The share of the time that may be spent waiting for data.
const STARVING: f64 = 0.1;
/// Lines of the log before that is spoken of.
const STARVED_LINES: u64 = 3;
/// Steps until something may be said again.
const SILENCE: u64 = 1000;

/// Watches a run's numbers; says each thing once in a while.
#[derive(Debug, Default)]
pub(crate) struct Diagnosis {
    stuck_steps: u64,
    clamped_steps: u64,
    /// Lines one after the other that tell of waiting for data.
    starved_lines: u64,
    /// Of the gradient norm, over about 50 steps.
    mean_norm: Option<f64>,
    steps: u64,
    said: HashMap<Symptom, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Symptom {
    Stuck,
    Clamped,
    Exploding,
    Copies,
    Starved,
}

/// One step's numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vitals {
    pub loss: f64,
    /// Of the whole contrastive batch, whose loss starts at ln(batch); `None` if the
    /// loss is of another kind.
    pub chance_loss: Option<f64>,
    pub grad_norm: f64,
    /// The factor on cosine similarities.
    pub logit_scale: f64,
    /// The share of captions that stand in the batch more than once.
    pub copied_captions: f64,
    /// Where a line is written: the share of the time since the one before that was spent
    /// waiting for data, and what the loader did meanwhile.
    pub data_wait: Option<(f64, StageTimes)>,
}

impl Diagnosis {
    /// What is worth saying after a step.
    pub fn observe(&mut self, vitals: &Vitals) -> Vec<String> {
        self.steps += 1;
        let found = [
            self.stuck(vitals),
            self.clamped(vitals),
            self.exploding(vitals),
            copies(vitals),
            self.starved(vitals),
        ];
        let mut words = Vec::new();
        for (symptom, text) in found.into_iter().flatten() {
            let last = self.said.get(&symptom).copied();
            if last.is_none_or(|last| self.steps >= last + SILENCE) {
                self.said.insert(symptom, self.steps);
                words.push(text);
            }
        }
        words
    }

    fn stuck(&mut self, vitals: &Vitals) -> Option<(Symptom, String)> {
        let chance = vitals.chance_loss?;
        let stuck = (vitals.loss - chance).abs() < STUCK * chance;
        self.stuck_steps = if stuck { self.stuck_steps + 1 } else { 0 };
        let text = || {
            format!(
                "the loss has stayed at {:.3}, the {chance:.3} of guessing, for {} steps: features \
                 may have collapsed; try a lower optimizer.lr or a longer schedule.warmup, and \
                 look whether captions belong to their images",
                vitals.loss, self.stuck_steps
            )
        };
        (self.stuck_steps >= PATIENCE).then(|| (Symptom::Stuck, text()))
    }

    fn clamped(&mut self, vitals: &Vitals) -> Option<(Symptom, String)> {
        let clamped = vitals.logit_scale >= f64::from(MAX_LOGIT_SCALE) * 0.999;
        self.clamped_steps = if clamped { self.clamped_steps + 1 } else { 0 };
        let text = || {
            format!(
                "logit_scale has stood at its clamp of {MAX_LOGIT_SCALE} for {} steps: the batch is \
                 learnt by heart or its learning rate is too high; try more data, augmentation, \
                 or an [[optimizer.group]] for logit_scale with a low lr_scale",
                self.clamped_steps
            )
        };
        (self.clamped_steps >= CLAMPED_STEPS).then(|| (Symptom::Clamped, text()))
    }

    fn starved(&mut self, vitals: &Vitals) -> Option<(Symptom, String)> {
        let (waited, loading) = vitals.data_wait?;
        let starved = waited > STARVING;
        self.starved_lines = if starved { self.starved_lines + 1 } else { 0 };
        let text = || {
            let slowest = loading.slowest();
            format!(
                "the device waits for data {:.0}% of the time; of the loader's time {slowest} takes \
                 {:.0}%: more data.threads, smaller images on disk or faster storage would help \
                 (`couplet data bench` tells more)",
                100.0 * waited,
                share(loading.get(slowest), loading.total())
            )
        };
        (self.starved_lines >= STARVED_LINES).then(|| (Symptom::Starved, text()))
    }

    fn exploding(&mut self, vitals: &Vitals) -> Option<(Symptom, String)> {
        let mean = self.mean_norm.unwrap_or(vitals.grad_norm);
        let most = EXPLOSION * mean;
        self.mean_norm = Some(0.98 * mean + 0.02 * vitals.grad_norm.min(most));
        let text = || {
            format!(
                "the gradient norm jumped to {:.3e}, {:.0} times its mean: try \
                 optimizer.clip_norm = 1.0, a lower optimizer.lr or betas = [0.9, 0.95]",
                vitals.grad_norm,
                vitals.grad_norm / mean
            )
        };
        let exploding = self.steps > SETTLED && vitals.grad_norm > most;
        exploding.then(|| (Symptom::Exploding, text()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn share(part: std::time::Duration, whole: std::time::Duration) -> f64 {
    100.0 * part.as_nanos() as f64 / whole.as_nanos().max(1) as f64
}

fn copies(vitals: &Vitals) -> Option<(Symptom, String)> {
    let text = || {
        format!(
            "{:.0}% of a batch's captions are copies of another in it: their images count as each \
             other's negatives; a smaller batch.global or more varied captions would help",
            100.0 * vitals.copied_captions
        )
    };
    (vitals.copied_captions > COPIES).then(|| (Symptom::Copies, text()))
}

/// The share of captions that are copies of an earlier one in the batch.
#[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
pub(crate) fn copied_captions(batch: &HostBatch) -> f64 {
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

    const FINE: Vitals = Vitals {
        loss: 2.0,
        chance_loss: Some(5.545),
        grad_norm: 1.0,
        logit_scale: 14.3,
        copied_captions: 0.0,
        data_wait: None,
    };

    /// What is said over `steps` steps of the same numbers.
    fn said(vitals: Vitals, steps: usize) -> Vec<String> {
        let mut diagnosis = Diagnosis::default();
        (0..steps)
            .flat_map(|_| diagnosis.observe(&vitals))
            .collect()
    }

    #[test]
    fn a_sound_run_hears_nothing() {
        assert_eq!(said(FINE, 500), Vec::<String>::new());
    }

    #[test]
    fn a_loss_of_guessing_and_a_clamped_temperature_are_named_once() {
        let stuck = said(Vitals { loss: 5.54, ..FINE }, 900);
        assert_eq!(stuck.len(), 1, "{stuck:?}");
        assert!(stuck[0].contains("the 5.545 of guessing"), "{stuck:?}");
        let clamped = said(
            Vitals {
                logit_scale: 100.0,
                ..FINE
            },
            500,
        );
        assert_eq!(clamped.len(), 1, "{clamped:?}");
        assert!(
            clamped[0].starts_with("logit_scale has stood"),
            "{clamped:?}"
        );
    }

    #[test]
    fn an_explosion_is_measured_against_what_went_before() {
        let mut diagnosis = Diagnosis::default();
        for _ in 0..50 {
            assert!(diagnosis.observe(&FINE).is_empty());
        }
        let words = diagnosis.observe(&Vitals {
            grad_norm: 30.0,
            ..FINE
        });
        assert!(words[0].contains("30 times its mean"), "{words:?}");
    }

    #[test]
    fn waiting_for_data_is_said_with_the_slowest_stage() {
        let vitals = Vitals {
            data_wait: Some((0.4, StageTimes::default())),
            ..FINE
        };
        assert!(said(vitals, 2).is_empty());
        let words = said(vitals, 4);
        assert!(
            words[0].contains("waits for data 40% of the time"),
            "{words:?}"
        );
    }

    #[test]
    fn copies_are_counted_beyond_the_first() {
        let batch = HostBatch::from_host(&[], vec![1, 2, 3, 4, 1, 2, 1, 2], 2, vec![2; 4]);
        assert_eq!(copied_captions(&batch), 0.5);
        let words = said(
            Vitals {
                copied_captions: 0.5,
                ..FINE
            },
            10,
        );
        assert!(
            words[0].starts_with("50% of a batch's captions"),
            "{words:?}"
        );
    }
}
