//! What a step needs besides the model, the optimiser and the batch.

use burn::tensor::Device;
use couplet_loss::{Loss, default_chunk};
use couplet_model::{Freeze, FreezeConfig, ModelSpec, PreprocessSpec};

use super::encode::Encoding;
use super::pools::LanePools;
use crate::DeviceSetting;
use crate::comm::{Comm, Solo};

/// What does not change from step to step.
pub(crate) struct StepContext {
    pub encoding: Encoding,
    pub lanes: LanePools,
    pub objective: Objective,
    /// Rows of the logits matrix that exist at once.
    pub logit_rows: usize,
    /// Pairs in one pass with a graph.
    pub micro_batch: usize,
    pub comm: Box<dyn Comm>,
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
    pub loss: Loss,
    /// Whether the step trains a classifier, with labels in place of captions.
    pub classifies: bool,
    /// Pairs in a step, of all ranks.
    pub batch: usize,
    /// Pairs in one pass with a graph; by default the whole batch.
    pub micro_batch: Option<usize>,
    /// Rows of the logits matrix that exist at once; by default [`default_chunk`].
    pub logit_rows: Option<usize>,
}

impl StepContext {
    /// # Errors
    /// If the system cannot start threads.
    ///
    /// # Panics
    /// If a classifier has the sigmoid loss, which the config rejects.
    pub fn new(options: StepOptions) -> std::io::Result<Self> {
        let micro_batch = options.micro_batch.unwrap_or(options.batch);
        Ok(Self {
            lanes: LanePools::for_device(options.device, options.spec, micro_batch)?,
            encoding: Encoding {
                device: options.autodiff,
                recompute_blocks: options.recompute_blocks,
                freeze: options.freeze,
                image_size: options.spec.image.image_size(),
                preprocess: options.preprocess,
            },
            objective: Objective::new(options.loss, options.classifies),
            logit_rows: (options.logit_rows).unwrap_or_else(|| default_chunk(options.batch)),
            micro_batch,
            comm: Box::new(Solo),
        })
    }

    /// Whether anything in the image tower is trained.
    pub fn trains_image(&self) -> bool {
        self.encoding.freeze.image != Freeze::All
    }

    /// Whether anything in the text tower is trained.
    pub fn trains_text(&self) -> bool {
        let reads_texts = matches!(self.objective, Objective::Contrast(_));
        reads_texts && self.encoding.freeze.text != Freeze::All
    }
}

/// What a run trains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Objective {
    /// Image and text features that match in pairs.
    Contrast(Loss),
    /// The model's classifier, on labelled images.
    Classify { label_smoothing: f32 },
}

impl Objective {
    fn new(loss: Loss, classifies: bool) -> Self {
        match loss {
            loss if !classifies => Self::Contrast(loss),
            Loss::Softmax(softmax) => Self::Classify {
                label_smoothing: softmax.label_smoothing,
            },
            Loss::Sigmoid(_) => unreachable!("a classifier has the softmax loss"),
        }
    }
}

/// What changes from step to step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepSettings {
    pub lr: f64,
    /// The factor that keeps f16 gradients away from 0; 1 in other precisions.
    pub loss_scale: f64,
}

/// The numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepReport {
    pub loss: f64,
    /// Before clipping, without the loss scale.
    pub grad_norm: f64,
    /// Whether the parameters were updated: not if a number above is infinite or NaN.
    pub updated: bool,
}
