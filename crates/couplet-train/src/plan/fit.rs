//! `batch.micro = "auto"`: the fewest passes whose activations fit into the device's memory.

use super::RunPlan;
use crate::bench::{StepBenchError, StepBenchSettings, fits};
use crate::config::{MicroBatch, ResolvedRun};
use crate::device::DeviceSetting;
use crate::optimizer::{OptimizerConfig, OptimizerSettings};

/// The part of the free memory that a run is planned for: allocators leave gaps.
const SHARE: f64 = 0.92;

/// Why no micro-batch was found.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error(
        "batch.micro = \"auto\": not even a pass of one pair fits into the device's memory; set \
         batch.recompute_blocks = true, or take a smaller model ({cause})"
    )]
    TooLarge {
        /// What the device said.
        cause: String,
    },
    #[error("batch.micro = \"auto\": a step could not be tried out")]
    NotTried(#[source] Box<StepBenchError>),
}

/// Pairs in a pass if a batch is divided into that many.
fn pairs(batch: usize, passes: usize) -> usize {
    batch.div_ceil(passes)
}

/// The fewest passes of a batch for which a condition holds; as many as there are pairs if it never does.
fn fewest_passes(batch: usize, holds: impl Fn(usize) -> bool) -> usize {
    // A single pass has no sum of gradients beside those of a micro-batch, so it may fit where two do not.
    if batch < 2 || holds(batch) {
        return 1;
    }
    // From two on, the more pairs, the more memory: bisection.
    let (mut least, mut most) = (2, batch);
    while least < most {
        let middle = least.midpoint(most);
        if holds(pairs(batch, middle)) {
            most = middle;
        } else {
            least = middle + 1;
        }
    }
    least
}

impl ResolvedRun {
    /// The largest micro-batch that is expected to fit into the device's memory, if it says how much is free; else the
    /// whole batch.
    /// - plan: of this run; its micro-batch is not read.
    pub(super) fn expected_micro_batch(&self, plan: &RunPlan, ranks: usize) -> usize {
        let Some(free) = plan.device.free_memory() else {
            return plan.batch;
        };
        // Ranks on CPUs are taken to share one machine.
        let sharing = if plan.device == DeviceSetting::Flex {
            ranks
        } else {
            1
        };
        #[expect(clippy::cast_precision_loss, reason = "roughly")]
        let room = SHARE * free as f64 / sharing as f64;
        let fits = |micro_batch| {
            let plan = self.with_micro_batch(plan, micro_batch, ranks);
            // A CPU's memory is the host's.
            let host = plan.bytes(true) * f64::from(plan.device == DeviceSetting::Flex);
            plan.bytes(false) + host <= room
        };
        pairs(plan.batch, fewest_passes(plan.batch, fits))
    }

    fn with_micro_batch(&self, plan: &RunPlan, micro_batch: usize, ranks: usize) -> RunPlan {
        let mut plan = RunPlan {
            micro_batch,
            ..plan.clone()
        };
        self.count_memory(&self.config.model.spec(), ranks, &mut plan);
        plan
    }

    /// The micro-batch that `batch.micro` gives. For `"auto"`, a GPU tries a step; as long as memory runs out, one with half
    /// as many pairs. Before anything else of the run is on the device.
    /// - ranks: share the batch.
    /// - before: what a run that goes on had; it keeps that if it is expected to fit, so that its numbers repeat.
    /// - notes: gets what was found.
    ///
    /// # Errors
    /// If not even one pair fits.
    pub(crate) fn fit_micro_batch(
        &self,
        ranks: usize,
        before: impl FnOnce() -> Option<usize>,
        notes: &mut Vec<String>,
    ) -> Result<Option<usize>, FitError> {
        match self.config.batch.micro {
            None => return Ok(None),
            Some(MicroBatch::Pairs(pairs)) => return Ok(Some(pairs)),
            Some(MicroBatch::Auto) => {}
        }
        // Fewer pairs than ranks are refused elsewhere.
        if self.config.batch.global < ranks {
            return Ok(None);
        }
        let cost = self.config.model.spec().cost();
        let plan = self.plan_of(cost, self.trained_parameters(), None, ranks);
        let expected = plan.micro_batch;
        if let Some(before) = before().filter(|before| (1..=expected).contains(before)) {
            notes.push(format!("micro      {before} pairs in a pass, as before"));
            return Ok(Some(before));
        }
        let mut found = expected;
        while let Some(cause) = self.misfit(&plan, found, ranks)? {
            if found == 1 {
                return Err(FitError::TooLarge { cause });
            }
            found = found.div_ceil(2);
        }
        let how = match found {
            _ if found < expected => format!("; memory ran out with {expected}"),
            _ if found == plan.batch => ", all of the batch".to_string(),
            _ => format!(", {} passes", plan.batch.div_ceil(found)),
        };
        notes.push(format!("micro      {found} pairs in a pass{how}"));
        Ok(Some(found))
    }

    /// Tries a step on a GPU; returns what the device said if it failed.
    fn misfit(
        &self,
        plan: &RunPlan,
        micro_batch: usize,
        ranks: usize,
    ) -> Result<Option<String>, FitError> {
        if plan.device == DeviceSetting::Flex {
            return Ok(None);
        }
        let plan = self.with_micro_batch(plan, micro_batch, ranks);
        let settings = StepBenchSettings {
            steps: 1,
            warm_up: 0,
            // No other optimizer needs more, and a GPU can say at the end of its step whether it had it.
            optimizer: OptimizerConfig::AdamW(OptimizerSettings::paper(0.0)),
            ..self.step_to_try(&plan)
        };
        // What the run has in addition.
        let tried = RunPlan {
            batch: settings.batch,
            ..plan.clone()
        };
        let tried = self.with_micro_batch(&tried, micro_batch, 1);
        let average = if self.config.ema.is_some() {
            plan.part(super::memory::AVERAGE)
        } else {
            0.0
        };
        let reserve = (plan.bytes(false) - tried.bytes(false)).max(0.0) + average;
        fits(&settings, reserve).map_err(|error| FitError::NotTried(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_as_few_as_memory_allows() {
        let found = |batch, most| pairs(batch, fewest_passes(batch, |pairs| pairs <= most));
        assert_eq!(found(256, 1000), 256);
        assert_eq!(found(256, 255), 128);
        assert_eq!(found(256, 100), 86);
        assert_eq!(found(257, 128), 86);
        // Nothing fits: what is tried out is the least.
        assert_eq!(found(7, 0), 1);
        assert_eq!(found(1, 0), 1);
    }

    #[test]
    fn one_pass_needs_no_second_gradients() {
        // Two passes have gradients of 100 pairs' size more.
        let needed = |batch, pairs| pairs + if pairs < batch { 100 } else { 0 };
        let found = |batch, most| pairs(batch, fewest_passes(batch, |p| needed(batch, p) <= most));
        assert_eq!(found(64, 80), 64);
        assert_eq!(found(64, 63), 1);
        assert_eq!(found(256, 200), 86);
    }
}
