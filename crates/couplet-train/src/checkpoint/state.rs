//! The trainer's state in a checkpoint.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use couplet_data::loader::{LoaderState, PartState};
use serde::{Deserialize, Serialize};

use crate::loss_scale::LossScale;

/// A longer file is no trainer state: each parameter takes some fifty bytes.
const MAX_BYTES: u64 = 64 << 20;
/// Counters are far below this.
const MAX_COUNT: u64 = 1 << 53;
/// A century in seconds.
const MAX_SECONDS: f64 = 3.2e9;

/// The trainer's state in a checkpoint, without the optimiser's moments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainerState {
    pub step: u64,
    pub samples_seen: u64,
    /// The loader's state at the next batch.
    pub position: LoaderState,
    /// Seconds of training so far, over all resumes.
    pub time: f64,
    /// Sum of the losses of this epoch's steps so far.
    pub epoch_loss: f64,
    pub best: Option<BestState>,
    /// The loss scale; only f16 uses it.
    pub loss_scale: LossScale,
    /// Length of `metrics.jsonl` at this step, in bytes.
    pub metrics_len: u64,
    /// Length of `skipped.jsonl` at this step, in bytes.
    pub skipped_len: u64,
    /// Whether the evaluations that are due after this step were not done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unevaluated: bool,
    /// The micro-batch that was found to fit, where `batch.micro` is `"auto"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// What the steps are counted by; runs of earlier versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    /// What `[guard]` measured before the first step, by dataset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub guarded: BTreeMap<String, f64>,
    /// Why `[guard]` has ended the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard_stop: Option<GuardStop>,
    /// The optimiser's number of updates of each parameter.
    pub optimizer_times: HashMap<String, usize>,
}

/// What the steps of a run are counted by. A run that goes on with another batch or other data has
/// other steps from there on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counted {
    pub batch_size: u64,
    pub samples_per_epoch: usize,
    /// A digest of the training data's listing.
    pub data: String,
    /// What is added to `step` to count it in steps of the present size: a run of 10 steps of 8 samples
    /// that goes on with 16 has -5.
    pub shift: i64,
}

/// An ability that fell too far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuardStop {
    pub step: u64,
    pub dataset: String,
    pub drop: f64,
}

/// The best checkpoint so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BestState {
    pub metric: String,
    pub value: f64,
    pub step: u64,
}

/// Why a trainer's state cannot be read.
#[derive(Debug)]
pub(super) struct StateError(pub String);

impl TrainerState {
    /// Reads `state.json`.
    pub(super) fn read(path: &Path) -> Result<Self, StateError> {
        let mut bytes = Vec::new();
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(StateError("is no regular file".into()));
        }
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
            .map_err(|error| StateError(format!("cannot be read: {error}")))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| StateError(format!("not a trainer state of this version: {error}")))
    }

    /// Values that no run can have saved.
    /// - step: the checkpoint's, by its name.
    pub(super) fn problems(&self, step: u64) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        check(self.step == step, format!("has step {}", self.step));
        let position = &self.position;
        let counts = [
            ("step", self.step),
            ("samples_seen", self.samples_seen),
            ("epoch", position.epoch),
            ("batches", position.batches as u64),
            ("samples", position.samples() as u64),
            ("lost", position.lost() as u64),
            ("metrics_len", self.metrics_len),
            ("skipped_len", self.skipped_len),
        ];
        for (name, count) in counts {
            check(
                count < MAX_COUNT,
                format!("{name} = {count} is out of range"),
            );
        }
        let (seen, step) = (self.samples_seen, self.step);
        check(
            seen >= step && (seen == 0) == (step == 0),
            format!("{seen} samples cannot be those of {step} steps"),
        );
        let batches = position.batches;
        for part in &position.parts {
            let PartState {
                samples, skipped, ..
            } = *part;
            check(
                samples >= skipped && samples - skipped >= batches,
                format!(
                    "{samples} samples, {skipped} of them skipped, do not fill {batches} batches"
                ),
            );
            let Some(stream) = &part.stream else {
                continue;
            };
            let lanes = stream.lanes.len();
            check(
                lanes <= 64 && stream.turn <= 64,
                format!("a stream does not read {lanes} shards at once"),
            );
            let place = stream.place;
            check(
                place <= samples,
                format!("a block that begins at sample {place} does not hold sample {samples}"),
            );
        }
        let (time, loss) = (self.time, self.epoch_loss);
        check(
            (0.0..MAX_SECONDS).contains(&time),
            format!("time = {time} is out of range"),
        );
        check(
            loss.is_finite(),
            format!("epoch_loss = {loss} is not finite"),
        );
        let scale = self.loss_scale.scale;
        check(
            scale > 0.0 && scale.is_finite(),
            format!("the loss scale {scale} is not a positive number"),
        );
        if let Some(best) = &self.best {
            let best = best.step;
            check(
                best <= step,
                format!("the best step, {best}, comes after step {step}"),
            );
        }
        let most = self.optimizer_times.iter().max_by_key(|(_, times)| **times);
        if let Some((name, times)) = most {
            check(
                *times as u64 <= step,
                format!("{name} was not updated {times} times in {step} steps"),
            );
        }
        problems
    }

    /// What does not agree with a batch size that was the same from the first step.
    /// - batch: the config's, for runs of earlier versions, whose state does not have it.
    pub(super) fn problem_of_batch(&self, batch: u64) -> Option<String> {
        let batch = match &self.counted {
            // Earlier steps had other sizes.
            Some(counted) if counted.shift != 0 => return None,
            Some(counted) => counted.batch_size,
            None => batch,
        };
        let (seen, step) = (self.samples_seen, self.step);
        if Some(seen) != step.checked_mul(batch) {
            return Some(format!("{seen} samples are not {step} steps of {batch}"));
        }
        let LoaderState { batches, parts, .. } = &self.position;
        let count = parts.len() as u64;
        if count == 0 {
            return (*batches > 0).then(|| format!("{batches} batches of no parts"));
        }
        if !batch.is_multiple_of(count) {
            return Some(format!("a batch of {batch} has no {count} equal parts"));
        }
        let rows = batch / count;
        let epoch = self.counted.as_ref().map(|counted| {
            let batches = counted.samples_per_epoch as u64 / batch.max(1);
            batches.saturating_mul(rows)
        });
        let batches = *batches as u64;
        parts.iter().find_map(|part| {
            let used = part.samples.saturating_sub(part.skipped) as u64;
            // A part that went beyond its samples of the epoch does not count bad ones again.
            let is_beyond = epoch.is_some_and(|epoch| part.samples as u64 > epoch);
            let wanted = batches.checked_mul(rows);
            let is_right = Some(used) == wanted || (is_beyond && wanted < Some(used));
            (!is_right || wanted.is_none()).then(|| {
                format!("{used} samples of this epoch are not {batches} batches of {rows}")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> TrainerState {
        TrainerState {
            step: 12,
            samples_seen: 96,
            position: LoaderState {
                epoch: 1,
                batches: 2,
                parts: vec![PartState {
                    samples: 17,
                    skipped: 1,
                    ..PartState::default()
                }],
            },
            optimizer_times: HashMap::from([("visual.proj".to_string(), 12)]),
            ..TrainerState::default()
        }
    }

    /// A problem, and the change that causes it.
    type Change = (&'static str, fn(&mut TrainerState));

    #[test]
    fn impossible_numbers_are_reported() {
        assert_eq!(state().problems(12), [""; 0]);
        assert_eq!(state().problem_of_batch(8), None);
        let changes: [Change; 10] = [
            ("has step 13", |state| state.step = 13),
            ("cannot be those of", |state| state.samples_seen = 3),
            ("samples_seen = ", |state| state.samples_seen = u64::MAX),
            ("do not fill 18 batches", |state| {
                state.position.batches = 18;
            }),
            ("epoch = ", |state| state.position.epoch = u64::MAX),
            ("time = -1 ", |state| state.time = -1.0),
            ("time = NaN", |state| state.time = f64::NAN),
            ("loss scale 0 ", |state| state.loss_scale.scale = 0.0),
            ("the best step, 13", |state| {
                state.best = Some(BestState {
                    metric: "m".into(),
                    value: 1.0,
                    step: 13,
                });
            }),
            ("not updated 13 times", |state| {
                state.optimizer_times.insert("visual.proj".into(), 13);
            }),
        ];
        for (problem, change) in changes {
            let mut state = state();
            change(&mut state);
            let found = state.problems(12).join("; ");
            assert!(found.contains(problem), "{problem}: {found}");
        }
        assert!(state().problem_of_batch(4).is_some());
        let with = |batch_size, shift| {
            let mut state = state();
            state.counted = Some(Counted {
                batch_size,
                samples_per_epoch: 100,
                data: String::new(),
                shift,
            });
            state
        };
        assert_eq!(with(8, 0).problem_of_batch(4), None);
        assert!(with(4, 0).problem_of_batch(8).is_some());
        assert_eq!(with(16, -5).problem_of_batch(16), None);
        let mut moved = state();
        moved.position.parts[0].samples += 8;
        assert!(moved.problem_of_batch(8).is_some());
    }

    #[test]
    fn the_positions_of_all_parts_agree_with_the_batches() {
        let of = |parts: &[(usize, usize)]| {
            let parts = parts.iter().map(|(samples, skipped)| PartState {
                samples: *samples,
                skipped: *skipped,
                ..PartState::default()
            });
            let mut state = state();
            state.position.parts = parts.collect();
            state.counted = Some(Counted {
                batch_size: 8,
                samples_per_epoch: 20,
                data: String::new(),
                shift: 0,
            });
            (state.problems(12), state.problem_of_batch(8))
        };
        assert_eq!(of(&[(8, 0), (9, 1)]), (Vec::new(), None));
        assert!(
            of(&[(8, 0), (9, 0)]).1.is_none(),
            "a bad sample that came again"
        );
        assert!(of(&[(7, 0), (9, 1)]).1.is_some());
        assert!(of(&[(8, 1), (9, 1)]).1.is_some());
        assert!(of(&[(6, 0), (6, 0), (6, 0)]).1.is_some());
        assert!(!of(&[(8, 0), (1, 0)]).0.is_empty());
    }
}
