//! What a run will take, before it runs.

mod flops;
mod memory;
#[cfg(test)]
mod tests;

use couplet_model::{ModelCost, Precision, TrainableParameters};

pub use self::memory::MemoryPart;
use crate::bench::{StepBenchError, StepBenchSettings, padded, step_seconds};
use crate::config::ResolvedRun;
use crate::device::DeviceSetting;

/// Sizes, arithmetic and memory of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPlan {
    pub device: DeviceSetting,
    pub precision: Precision,
    pub model: ModelCost,
    /// Parameters that the run trains, the temperature and a classifier included.
    pub trained_parameters: u64,
    /// Tokens that the text tower runs on, which all below is for.
    pub tokens: usize,
    /// Floating-point operations of one forward pass over one pair.
    pub forward_flops: f64,
    /// Of a training step, for each of its pairs: its forward passes, and two more for the
    /// way back through what is trained, three where blocks are computed again. Without
    /// patches that training leaves out, captions with `tokens`, nothing else saved.
    pub step_flops: f64,
    pub batch: usize,
    pub micro_batch: usize,
    pub samples_per_epoch: usize,
    pub steps_per_epoch: u64,
    pub total_steps: u64,
    pub memory: Vec<MemoryPart>,
}
impl RunPlan {
    /// All samples of the run, repetitions included.
    pub fn samples(&self) -> u64 {
        self.total_steps * self.batch as u64
    }

    /// Bytes on the device, or beside it.
    pub fn bytes(&self, on_host: bool) -> f64 {
        let parts = self.memory.iter().filter(|part| part.on_host == on_host);
        parts.map(|part| part.bytes).sum()
    }
}

impl ResolvedRun {
    /// What the run will take.
    /// - tokens: of its longest captions, start and end included; by default the whole context.
    pub fn plan(&self, tokens: Option<usize>) -> RunPlan {
        let spec = self.config.model.spec();
        let mut trained = spec.trained_parameters(self.config.freeze);
        if let Some(classes) = &self.data.classes {
            trained.text = 0;
            trained.joint = ((spec.embed_dim + 1) * classes.class_names.len()) as u64;
        }
        self.plan_of(spec.cost(), trained, tokens)
    }

    fn plan_of(
        &self,
        model: ModelCost,
        trained: TrainableParameters,
        tokens: Option<usize>,
    ) -> RunPlan {
        let config = &self.config;
        let spec = config.model.spec();
        let context = spec.text.context_length;
        let batch = config.batch.global;
        let mut plan = RunPlan {
            device: config.device.resolved(),
            precision: config.precision,
            model,
            trained_parameters: trained.image + trained.text + trained.joint,
            tokens: padded(&spec, tokens.unwrap_or(context)),
            forward_flops: 0.0,
            step_flops: 0.0,
            batch,
            micro_batch: config.batch.micro.unwrap_or(batch),
            samples_per_epoch: self.data.epoch_len,
            steps_per_epoch: self.sizes.steps_per_epoch,
            total_steps: self.schedule.total_steps,
            memory: Vec::new(),
        };
        self.count_flops(&spec, trained, &mut plan);
        self.count_memory(&spec, &mut plan);
        plan
    }

    /// Takes some of the run's steps on random data, of two micro-batches at most.
    /// - returns samples a second.
    ///
    /// # Errors
    /// With the config's key, if the device is not on this machine or does not compute in
    /// the run's precision.
    ///
    /// # Panics
    /// If the device fails.
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
    pub fn measure_speed(&self, plan: &RunPlan) -> Result<f64, StepBenchError> {
        let batch = plan.batch.min(2 * plan.micro_batch);
        let config = &self.config;
        let seconds = step_seconds(&StepBenchSettings {
            device: plan.device,
            micro: Some(plan.micro_batch),
            precision: plan.precision,
            freeze: config.freeze,
            recompute_blocks: config.batch.recompute_blocks,
            optimizer: config.optimizer.clone(),
            loss: config.loss,
            classes: self.data.classes.as_ref().map(|c| c.class_names.len()),
            logit_rows: config.batch.logit_rows,
            caption_tokens: Some(plan.tokens),
            ..StepBenchSettings::new(config.model.spec(), batch)
        })
        .map_err(|error| StepBenchError {
            argument: match error.argument {
                "--device" => "device",
                "--precision" => "precision",
                other => other,
            },
            ..error
        })?;
        Ok(batch as f64 / seconds)
    }
}
