//! The settings of a benchmark of training steps.

use std::error::Error;
use std::sync::Arc;

use burn::tensor::Device;
use couplet_loss::{PairLoss, SoftmaxLoss};
use couplet_model::{FreezeConfig, ModelSpec, Precision};

use crate::adapt::Adaptation;
use crate::device::DeviceSetting;
use crate::optimizer::{OptimizerConfig, OptimizerSettings};

pub(super) const LEARNING_RATE: f64 = 1e-5;

/// The step to measure.
#[derive(Debug, Clone)]
pub struct StepBenchSettings {
    pub spec: ModelSpec,
    /// Pairs per step.
    pub batch: usize,
    /// Pairs per micro-batch; by default the whole batch.
    pub micro: Option<usize>,
    pub precision: Precision,
    pub device: DeviceSetting,
    pub freeze: FreezeConfig,
    /// Low-rank updates that are trained in place of the parameters.
    pub adaptation: Option<Adaptation>,
    pub recompute_blocks: bool,
    pub optimizer: OptimizerConfig,
    pub loss: Arc<dyn PairLoss>,
    /// Trains a classification head with this many classes in place of the contrastive loss.
    pub classes: Option<usize>,
    /// Rows of the logits matrix in memory at once; by default as in a run.
    pub logit_rows: Option<usize>,
    /// Tokens per caption, start and end tokens included; by default the context length.
    pub caption_tokens: Option<usize>,
    /// Timed steps, after `warm_up` untimed ones.
    pub steps: usize,
    pub warm_up: usize,
}

impl StepBenchSettings {
    /// Three steps on the CPU in f32, with the AdamW settings that the CLIP paper uses for ViTs.
    pub fn new(spec: ModelSpec, batch: usize) -> Self {
        Self {
            spec,
            batch,
            micro: None,
            precision: Precision::F32,
            device: DeviceSetting::Flex,
            freeze: FreezeConfig::default(),
            adaptation: None,
            recompute_blocks: false,
            optimizer: OptimizerConfig::AdamW(OptimizerSettings::paper(LEARNING_RATE)),
            loss: Arc::new(SoftmaxLoss::default()),
            classes: None,
            logit_rows: None,
            caption_tokens: None,
            steps: 3,
            warm_up: 1,
        }
    }

    /// Tokens per caption.
    pub(super) fn tokens(&self) -> usize {
        (self.caption_tokens).unwrap_or(self.spec.text.context_length)
    }
}

/// An invalid setting: the command-line argument, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{argument}: {message}")]
pub struct StepBenchError {
    pub argument: &'static str,
    pub message: String,
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// Checks the settings and opens the device.
pub(super) fn check(settings: &StepBenchSettings) -> Result<Device, StepBenchError> {
    let fail = |argument, message: String| {
        Err(StepBenchError {
            argument,
            message,
            source: None,
        })
    };
    let spec = &settings.spec;
    let device = match settings.device.open() {
        Ok(device) => device,
        Err(error) => {
            return Err(StepBenchError {
                argument: "--device",
                message: format!("cannot use {}", settings.device),
                source: Some(error.into()),
            });
        }
    };
    if !settings.precision.is_supported(&device) {
        let name = settings.device.resolved();
        let precision = settings.precision;
        return fail(
            "--precision",
            format!("{name} does not support {precision}"),
        );
    }
    if settings.batch < 2 && settings.classes.is_none() {
        return fail(
            "--batch",
            "must be at least 2 for a contrastive loss".into(),
        );
    }
    if let Some(micro) = settings.micro
        && (micro == 0 || !settings.batch.is_multiple_of(micro))
    {
        let batch = settings.batch;
        return fail(
            "--micro",
            format!("{micro} does not divide the batch of {batch} pairs"),
        );
    }
    let context = spec.text.context_length;
    if let Some(tokens) = settings.caption_tokens
        && !(2..=context).contains(&tokens)
    {
        return fail(
            "--caption-tokens",
            format!("must be from 2 to {context}, not {tokens}"),
        );
    }
    Ok(device)
}
