//! What a step needs in addition to model, optimiser and batch.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use couplet_loss::PairLoss;
use couplet_model::{Freeze, FreezeConfig, ModelSpec, PreprocessSpec};

use super::encode::Encoding;
use super::pools::StepPools;
use crate::comm::Comm;
use crate::device::{DeviceSetting, default_logit_rows};

/// What is the same in every step.
pub(crate) struct StepContext {
    pub encoding: Encoding,
    pub pools: StepPools,
    pub objective: Objective,
    /// Rows of the logits matrix in memory at once.
    pub logit_rows: usize,
    /// Pairs in a pass with a graph.
    pub micro_batch: usize,
    pub comm: Comm,
}

/// What a [`StepContext`] is built from.
pub(crate) struct StepOptions<'a> {
    pub spec: &'a ModelSpec,
    pub preprocess: PreprocessSpec,
    pub device: DeviceSetting,
    /// The device itself, with autodiff.
    pub autodiff: Device,
    pub freeze: FreezeConfig,
    pub recompute_blocks: bool,
    pub objective: Objective,
    /// Pairs in a step, over all ranks.
    pub batch: usize,
    /// Pairs in a pass with a graph; by default the whole batch.
    pub micro_batch: Option<usize>,
    /// Rows of the logits matrix in memory at once; by default [`default_logit_rows`].
    pub logit_rows: Option<usize>,
    pub comm: Comm,
}

impl StepContext {
    /// # Errors
    /// If the system cannot start threads.
    pub fn new(options: StepOptions) -> std::io::Result<Self> {
        let own = options.batch / options.comm.ranks();
        let micro_batch = options.micro_batch.unwrap_or(own).min(own);
        Ok(Self {
            pools: StepPools::for_device(options.device, options.spec, micro_batch)?,
            encoding: Encoding {
                device: options.autodiff,
                recompute_blocks: options.recompute_blocks,
                freeze: options.freeze,
                image_size: options.spec.image.image_size(),
                preprocess: options.preprocess,
                sorts_tokens: options.device.resolved() != DeviceSetting::Flex,
            },
            objective: options.objective,
            logit_rows: (options.logit_rows)
                .unwrap_or_else(|| default_logit_rows(options.device, options.batch)),
            micro_batch,
            comm: options.comm,
        })
    }

    /// Whether any part of the image tower is trained.
    pub fn trains_image(&self) -> bool {
        self.encoding.freeze.image != Freeze::All
    }

    /// Whether any part of the text tower is trained.
    pub fn trains_text(&self) -> bool {
        let reads_texts = matches!(self.objective, Objective::Contrast(_));
        reads_texts && self.encoding.freeze.text != Freeze::All
    }
}

/// The training objective.
#[derive(Debug, Clone)]
pub(crate) enum Objective {
    /// A loss over pairs.
    Contrast(Arc<dyn PairLoss>),
    /// Cross-entropy of the model's classifier on labelled images.
    Classify { label_smoothing: f32 },
}

/// What differs from step to step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepSettings {
    pub lr: f64,
    /// The factor that keeps f16 gradients from underflow; 1 in other precisions.
    pub loss_scale: f64,
    /// Whether the step's numbers may be read later: a GPU then goes on to the next step by itself.
    pub may_run_ahead: bool,
}

/// The numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepReport {
    pub loss: f64,
    /// The global norm before clipping, without the loss scale.
    pub grad_norm: f64,
    /// Whether the parameters were updated: false if the loss or the norm is not finite.
    pub updated: bool,
}

/// The numbers of a step, which a GPU may not have computed yet.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one in a step")]
pub(crate) enum StepNumbers {
    Known(StepReport),
    /// The loss and the norm: `[2]`. The device has updated the parameters if both are finite.
    OnDevice(Tensor<1>),
}

impl StepNumbers {
    /// Waits for the devices, once for all.
    ///
    /// # Panics
    /// If a device fails.
    pub fn read(all: Vec<Self>) -> Vec<StepReport> {
        let on_device = |numbers: &Self| match numbers {
            Self::Known(_) => None,
            Self::OnDevice(numbers) => Some(numbers.clone()),
        };
        let waited_for: Vec<_> = all.iter().filter_map(on_device).collect();
        let mut values = Vec::new();
        if !waited_for.is_empty() {
            let read = Tensor::cat(waited_for, 0).into_data().convert::<f64>();
            values = read.try_to_vec::<f64>().expect("they were converted");
        }
        let mut values = values.into_iter();
        let mut next = || values.next().expect("two for each step");
        let report = |numbers| match numbers {
            Self::Known(report) => report,
            Self::OnDevice(_) => StepReport::new(next(), next()),
        };
        all.into_iter().map(report).collect()
    }
}

impl StepReport {
    pub fn new(loss: f64, grad_norm: f64) -> Self {
        Self {
            loss,
            grad_norm,
            updated: loss.is_finite() && grad_norm.is_finite(),
        }
    }
}
