//! Estimates of what a run needs: parameters, floating-point operations, memory and time.

mod fit;
mod flops;
mod memory;
mod ranks;
mod sizes;
#[cfg(test)]
mod tests;

use couplet_model::{ModelCost, TrainableParameters};

pub use self::fit::FitError;
pub use self::ranks::{RanksError, RanksOptions, RanksPlan};
pub use self::sizes::{MemoryPart, RunPlan};
use crate::bench::{StepBenchError, StepBenchSettings, padded, step_seconds};
use crate::config::{MicroBatch, ResolvedRun};

impl ResolvedRun {
    /// Estimates what the run needs.
    /// - tokens: caption length, start and end tokens included; by default the context length.
    pub fn plan(&self, tokens: Option<usize>) -> RunPlan {
        let cost = self.config.model.spec().cost();
        self.plan_of(cost, self.trained_parameters(), tokens, 1)
    }

    fn trained_parameters(&self) -> TrainableParameters {
        let spec = self.config.model.spec();
        let mut trained = match &self.adaptation {
            Some(adaptation) => adaptation.trained_parameters(&spec),
            None => spec.trained_parameters(self.config.freeze),
        };
        if let Some(classes) = &self.data.classes {
            trained.text = 0;
            trained.joint = ((spec.embed_dim + 1) * classes.class_names.len()) as u64;
        }
        trained
    }

    /// - ranks: share the batch; the plan is one rank's.
    fn plan_of(
        &self,
        model: ModelCost,
        trained: TrainableParameters,
        tokens: Option<usize>,
        ranks: usize,
    ) -> RunPlan {
        let config = &self.config;
        let spec = config.model.spec();
        let context = spec.text.context_length;
        let batch = config.batch.global / ranks;
        let mut plan = RunPlan {
            device: config.device.resolved(),
            precision: config.precision,
            model,
            trained_parameters: trained.image + trained.text + trained.joint,
            tokens: padded(&spec, tokens.unwrap_or(context)),
            forward_flops: 0.0,
            step_flops: 0.0,
            late_backward_flops: 0.0,
            batch,
            micro_batch: batch,
            samples_per_epoch: self.data.epoch_len,
            steps_per_epoch: self.sizes.steps_per_epoch,
            total_steps: self.schedule.total_steps,
            memory: Vec::new(),
        };
        plan.micro_batch = match config.batch.micro {
            None => batch,
            Some(MicroBatch::Pairs(pairs)) => pairs.min(batch),
            Some(MicroBatch::Auto) => self.expected_micro_batch(&plan, ranks),
        };
        self.count_flops(&spec, trained, &mut plan);
        self.count_memory(&spec, ranks, &mut plan);
        plan
    }

    /// Measures the run's speed with a few steps on random data, of at most two micro-batches.
    /// - returns samples per second.
    ///
    /// # Errors
    /// With the config's key, if the device is not available or does not support the run's
    /// precision.
    ///
    /// # Panics
    /// If the device fails.
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
    pub fn measure_speed(&self, plan: &RunPlan) -> Result<f64, StepBenchError> {
        let settings = self.step_to_try(plan);
        let seconds = step_seconds(&settings).map_err(|error| StepBenchError {
            argument: match error.argument {
                "--device" => "device",
                "--precision" => "precision",
                "--micro" => "batch.micro",
                other => other,
            },
            ..error
        })?;
        Ok(settings.batch as f64 / seconds)
    }

    /// A step of the run, of at most two micro-batches.
    fn step_to_try(&self, plan: &RunPlan) -> StepBenchSettings {
        let passes = plan.batch.div_ceil(plan.micro_batch).min(2);
        // A rank may have a single pair of a contrastive batch.
        let least = if self.data.classes.is_some() { 1 } else { 2 };
        let batch = (passes * plan.micro_batch).max(least);
        let config = &self.config;
        StepBenchSettings {
            device: plan.device,
            micro: Some(plan.micro_batch),
            precision: plan.precision,
            freeze: config.freeze,
            adaptation: self.adaptation.clone(),
            recompute_blocks: config.batch.recompute_blocks,
            optimizer: config.optimizer.clone(),
            loss: self.loss.clone(),
            classes: self.data.classes.as_ref().map(|c| c.class_names.len()),
            logit_rows: config.batch.logit_rows,
            caption_tokens: Some(plan.tokens),
            ..StepBenchSettings::new(config.model.spec(), batch)
        }
    }
}
