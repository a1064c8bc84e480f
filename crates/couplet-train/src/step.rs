//! One optimiser step over one contrastive batch.

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use couplet_data::batch;
use couplet_data::loader::HostBatch;
use couplet_loss::Loss;
use couplet_model::{Clip, PreprocessSpec, TrainPass, l2_normalize};

use crate::optimizer::ModelOptimizer;

/// What does not change from step to step.
pub(crate) struct StepContext {
    pub device: Device,
    pub loss: Loss,
    pub preprocess: PreprocessSpec,
    pub image_size: usize,
}

/// What a step says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepReport {
    pub loss: f64,
    /// Before clipping.
    pub grad_norm: f64,
}

impl StepReport {
    /// Whether the numbers allow to go on.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.grad_norm.is_finite()
    }
}

/// Forward, loss, backward, clip, update.
pub(crate) fn step(
    model: Clip,
    optimizer: &mut ModelOptimizer,
    host: HostBatch,
    pass: &TrainPass,
    lr: f64,
    context: &StepContext,
) -> (Clip, StepReport) {
    let images = batch::images(
        host.pixels,
        context.image_size,
        context.preprocess.mean,
        context.preprocess.std,
        &context.device,
    );
    let tokens = batch::tokens(host.tokens, host.token_length, &context.device);
    let (image_features, statistics) = model.encode_image_train(images, pass);
    let text_features = l2_normalize(model.encode_text(tokens));
    let loss = context.loss.forward(
        l2_normalize(image_features),
        text_features,
        model.logit_scale.val(),
        model.logit_bias.as_ref().map(Param::val),
    );
    let grads = GradientsParams::from_grads(loss.backward(), &model);
    let loss: f32 = loss.into_scalar();
    let model = model.update_statistics(statistics);
    let (model, grad_norm) = optimizer.step(model, grads, lr);
    let report = StepReport {
        loss: f64::from(loss),
        grad_norm,
    };
    (model, report)
}
