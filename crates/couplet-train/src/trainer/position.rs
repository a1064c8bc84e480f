//! Where a run is in its schedule and its epoch.

use couplet_data::loader::{LoaderState, PartState};
use couplet_data::source::PairDataset;
use couplet_data::stream::StreamState;

use super::{TrainError, Trainer};
use crate::checkpoint::{Counted, TrainerState};
use crate::config::ResolvedRun;
use crate::duration::Unit;

/// Finds a checkpoint's place in batches and data that may be others than before.
/// - data: a digest of the training data's listing.
/// - returns what is said of it.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(super) fn recount(state: &mut TrainerState, run: &ResolvedRun, data: &str) -> Option<String> {
    let now = Counted {
        batch_size: run.sizes.batch_size,
        samples_per_epoch: run.data.epoch_len,
        data: data.to_string(),
        shift: 0,
    };
    // Runs of earlier versions had one batch size from the first step.
    let first = || Counted {
        batch_size: state
            .samples_seen
            .checked_div(state.step)
            .unwrap_or(now.batch_size),
        ..now.clone()
    };
    let before = state.counted.clone().unwrap_or_else(first);
    state.counted.get_or_insert_with(|| before.clone());
    let is_same_data = before.data == now.data;
    let is_same_size =
        before.batch_size == now.batch_size && before.samples_per_epoch == now.samples_per_epoch;
    if is_same_data && is_same_size {
        return None;
    }
    let position = &mut state.position;
    if !is_same_data {
        for part in &mut position.parts {
            // The order of a stream is that of its shards: another pass begins.
            part.stream = match &run.data.set {
                PairDataset::Indexed(_) => None,
                PairDataset::Stream(_) => Some(StreamState {
                    place: part.samples,
                    pass: part.stream.as_ref().map_or(0, |stream| stream.pass + 1),
                    ..StreamState::default()
                }),
            };
        }
    }
    let mut shift = before.shift;
    // Parts keep their places. In an indexed epoch, their rows of a batch that the former batches fill in part
    // are others than before: fewer than a batch of samples come again, and as many do not come.
    if !is_same_size {
        let per_epoch = run.sizes.steps_per_epoch;
        let trained = position.batches as u64 * before.batch_size;
        let batches = trained.div_ceil(now.batch_size);
        if batches >= per_epoch {
            state.epoch_loss = 0.0;
            *position = LoaderState::start_of(position.epoch + 1, position.parts.len());
        } else {
            // The mean stays, whatever the steps are.
            state.epoch_loss *= batches as f64 / position.batches.max(1) as f64;
            position.batches = usize::try_from(batches).unwrap_or(usize::MAX);
        }
        let counted = position.epoch * per_epoch + position.batches as u64;
        shift = counted.cast_signed() - state.step.cast_signed();
    }
    state.counted = Some(Counted { shift, ..now });
    let (epoch, samples) = (position.epoch + 1, position.samples());
    let what = match (is_same_data, samples) {
        (true, _) => "with batches of another size",
        (false, 0) => "with the changed data",
        (false, _) => "with the changed data; samples that the epoch had already may come again",
    };
    Some(format!(
        "continuing after {samples} samples of epoch {epoch} {what}"
    ))
}

/// Gives batches of another size, or an epoch that has not begun, other parts than the checkpoint has, if need be.
///
/// # Errors
/// If the config wants another number within an epoch.
pub(super) fn regroup(state: &mut TrainerState, run: &ResolvedRun) -> Result<(), TrainError> {
    let position = &mut state.position;
    let parts = position.parts.len();
    let batch = &run.config.batch;
    let fits = batch.global.is_multiple_of(parts.max(1));
    if parts == 0 || (fits && batch.parts.is_none_or(|set| set == parts)) {
        return Ok(());
    }
    if position.batches == 0 && position.samples() == 0 {
        position.parts.clear();
        return Ok(());
    }
    // The most neighbours that share the batch equally.
    let divides =
        |fewer: &usize| parts.is_multiple_of(*fewer) && batch.global.is_multiple_of(*fewer);
    let fewer = (1..=parts).rev().find(divides).unwrap_or(1);
    if let Some(set) = batch.parts
        && set != fewer
    {
        return Err(TrainError::OtherParts { set, run: parts });
    }
    position.parts = (position.parts.chunks(parts / fewer)).map(joined).collect();
    Ok(())
}

/// One part in place of neighbours. Where they were in a stream cannot be joined: another pass begins.
fn joined(parts: &[PartState]) -> PartState {
    let sum = |count: fn(&PartState) -> usize| parts.iter().map(count).sum();
    let samples = sum(|part| part.samples);
    let passes = parts
        .iter()
        .filter_map(|part| part.stream.as_ref())
        .map(|stream| stream.pass);
    let stream = passes.max().map(|pass| StreamState {
        place: samples,
        pass: pass + 1,
        ..StreamState::default()
    });
    PartState {
        samples,
        skipped: sum(|part| part.skipped),
        lost: sum(|part| part.lost),
        stream,
    }
}

fn counted_steps(state: &TrainerState) -> u64 {
    let shift = state.counted.as_ref().map_or(0, |counted| counted.shift);
    state.step.saturating_add_signed(shift)
}

fn scheduled_steps(state: &TrainerState, run: &ResolvedRun) -> u64 {
    match run.config.schedule.length().unit {
        Unit::Steps => state.step,
        _ => counted_steps(state),
    }
}

/// # Errors
/// If the run has trained for longer than its schedule is.
pub(super) fn check_length(state: &TrainerState, run: &ResolvedRun) -> Result<(), TrainError> {
    let (trained, total) = (scheduled_steps(state, run), run.schedule.total_steps);
    if trained <= total {
        return Ok(());
    }
    Err(TrainError::TooShort {
        length: run.config.schedule.length().to_string(),
        total,
        trained,
    })
}

impl Trainer<'_> {
    /// Steps so far, as if all had been of the present size.
    pub(super) fn counted_steps(&self) -> u64 {
        counted_steps(&self.state)
    }

    /// The place in the schedule: steps so far, counted as its length is.
    pub(super) fn scheduled_steps(&self) -> u64 {
        scheduled_steps(&self.state, self.run)
    }

    /// Whether the schedule, or the guard, has ended the run.
    pub(super) fn is_finished(&self) -> bool {
        self.state.guard_stop.is_some() || self.scheduled_steps() >= self.run.schedule.total_steps
    }

    /// Whether there is nothing left to do.
    pub(super) fn has_ended(&self) -> bool {
        self.is_finished() && !self.state.unevaluated
    }

    /// The step with which the run ends.
    pub(super) fn last_step(&self) -> u64 {
        let left = (self.run.schedule.total_steps).saturating_sub(self.scheduled_steps());
        self.state.step + left
    }

    /// The epoch of the last step, counted from 1.
    pub(super) fn epoch(&self) -> u64 {
        self.counted_steps().saturating_sub(1) / self.run.sizes.steps_per_epoch + 1
    }
}
