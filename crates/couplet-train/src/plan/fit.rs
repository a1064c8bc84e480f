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
        "batch.micro = \"auto\": memory ran out with {first} pairs in a pass, and with {second}; give a number, or set \
         batch.recompute_blocks = true"
    )]
    TooLarge { first: usize, second: usize },
    #[error("batch.micro = \"auto\": a step could not be tried out")]
    NotTried(#[source] Box<StepBenchError>),
}

/// Pairs in a pass if a batch is divided into that many.
fn pairs(batch: usize, passes: usize) -> usize {
    batch.div_ceil(passes)
}

/// The fewest passes of a batch for which a condition holds; as many as there are pairs if it never does.
fn fewest_passes(batch: usize, holds: impl Fn(usize) -> bool) -> usize {
    // The more pairs, the more memory: bisection.
    let (mut least, mut most) = (1, batch.max(1));
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
    /// The largest micro-batch that is expected to fit into the device's memory, if it says how much is free.
    /// - plan: of this run; its micro-batch is not read.
    pub(super) fn expected_micro_batch(&self, plan: &RunPlan, ranks: usize) -> usize {
        let Some(free) = plan.device.free_memory() else {
            return plan.batch;
        };
        #[expect(clippy::cast_precision_loss, reason = "roughly")]
        let room = SHARE * free as f64;
        let spec = self.config.model.spec();
        let fits = |micro_batch| {
            let mut plan = RunPlan {
                micro_batch,
                ..plan.clone()
            };
            self.count_memory(&spec, ranks, &mut plan);
            // A CPU's memory is the host's.
            let host = plan.bytes(true) * f64::from(plan.device == DeviceSetting::Flex);
            plan.bytes(false) + host <= room
        };
        pairs(plan.batch, fewest_passes(plan.batch, fits))
    }

    /// The micro-batch that `batch.micro` gives. For `"auto"` a step is tried out; if memory runs out, one with half as
    /// many pairs. Before anything else of the run is on the device.
    /// - ranks: share the batch.
    /// - notes: gets what was found.
    ///
    /// # Errors
    /// If even half of what was expected does not fit.
    pub(crate) fn fit_micro_batch(
        &self,
        ranks: usize,
        notes: &mut Vec<String>,
    ) -> Result<Option<usize>, FitError> {
        match self.config.batch.micro {
            None => return Ok(None),
            Some(MicroBatch::Pairs(pairs)) => return Ok(Some(pairs)),
            Some(MicroBatch::Auto) => {}
        }
        let cost = self.config.model.spec().cost();
        let plan = self.plan_of(cost, self.trained_parameters(), None, ranks);
        let expected = plan.micro_batch;
        let mut found = expected;
        if plan.device != DeviceSetting::Flex && !self.step_fits(&plan, found)? {
            found = found.div_ceil(2);
            if !self.step_fits(&plan, found)? {
                return Err(FitError::TooLarge {
                    first: expected,
                    second: found,
                });
            }
        }
        let how = match found {
            _ if found < expected => format!("; memory ran out with {expected}"),
            _ if found == plan.batch => ", all of the batch".to_string(),
            _ => format!(", {} passes", plan.batch.div_ceil(found)),
        };
        notes.push(format!("micro      {found} pairs in a pass{how}"));
        Ok(Some(found))
    }

    fn step_fits(&self, plan: &RunPlan, micro_batch: usize) -> Result<bool, FitError> {
        let plan = RunPlan {
            micro_batch,
            ..plan.clone()
        };
        let fits = fits(&StepBenchSettings {
            steps: 1,
            warm_up: 0,
            // No other optimizer needs more, and a GPU can say at the end of its step whether it had it.
            optimizer: OptimizerConfig::AdamW(OptimizerSettings::paper(0.0)),
            ..self.step_to_try(&plan)
        });
        fits.map_err(|error| FitError::NotTried(Box::new(error)))
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
}
