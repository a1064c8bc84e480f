//! One optimiser step over one contrastive batch, in as much memory as one micro-batch
//! needs.
//!
//! Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
//! Limited Setup".

mod classify;
mod encode;

use std::ops::Range;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use couplet_data::loader::HostBatch;
use couplet_loss::{FeatureGradients, Features, Loss};
use couplet_model::{BatchStatistics, Clip, PreprocessSpec, TrainPass};

use self::encode::{GradientSum, Passes};
use crate::comm::Comm;
use crate::optimizer::{ModelOptimizer, exchange, global_norm};

/// What does not change from step to step.
pub(crate) struct StepContext {
    pub device: Device,
    pub objective: Objective,
    /// Rows of the logits matrix that exist at once.
    pub logit_rows: usize,
    /// Pairs in one pass with a graph.
    pub micro_batch: usize,
    /// Whether a pass keeps only what each block reads, and computes the rest again.
    pub recompute_blocks: bool,
    pub preprocess: PreprocessSpec,
    pub image_size: usize,
    /// Whether a tower has anything to train.
    pub trains_image: bool,
    pub trains_text: bool,
    pub comm: Box<dyn Comm>,
}

/// What a run trains for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Objective {
    /// Matching pairs.
    Contrast(Loss),
    /// The classes of images, by the model's head.
    Classify { label_smoothing: f32 },
}

/// What a step says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepReport {
    pub loss: f64,
    /// Before clipping, without the loss scale.
    pub grad_norm: f64,
    /// Whether the parameters were updated: not if a number above is infinite or NaN.
    pub updated: bool,
}

/// The gradients of one batch.
pub(crate) struct BatchGradients {
    pub loss: f64,
    /// Times the loss scale.
    pub params: GradientsParams,
    /// What the batch norms saw, pass by pass.
    statistics: Vec<BatchStatistics>,
}

/// Forward, loss, backward, clip, update.
/// - host: this rank's pairs.
/// - pass: of the batch's first pair.
/// - loss_scale: keeps f16 gradients away from 0; 1 elsewhere.
pub(crate) fn step(
    model: Clip,
    optimizer: &mut ModelOptimizer,
    host: HostBatch,
    pass: &TrainPass,
    lr: f64,
    loss_scale: f64,
    context: &StepContext,
) -> (Clip, StepReport) {
    let batch = gradients(&model, host, pass, loss_scale, context);
    let norm = global_norm(&model, &batch.params) / loss_scale;
    let report = StepReport {
        loss: batch.loss,
        grad_norm: norm,
        updated: batch.loss.is_finite() && norm.is_finite(),
    };
    if !report.updated {
        return (model, report);
    }
    let model = (batch.statistics.into_iter()).fold(model, Clip::update_statistics);
    let model = optimizer.step(model, batch.params, lr, norm, loss_scale);
    (model, report)
}

/// The gradients of the loss of the whole batch, all ranks' pairs included: features of
/// every micro-batch without a graph, the loss and its gradient with respect to the
/// features, then every micro-batch again, with a graph. A single micro-batch keeps its
/// graph and is encoded once.
pub(crate) fn gradients(
    model: &Clip,
    mut host: HostBatch,
    pass: &TrainPass,
    loss_scale: f64,
    context: &StepContext,
) -> BatchGradients {
    let loss = match context.objective {
        Objective::Contrast(loss) => loss,
        Objective::Classify { label_smoothing } => {
            return classify::gradients(model, host, pass, loss_scale, label_smoothing, context);
        }
    };
    let micro_batches = micro_batches(host.len(), context.micro_batch);
    let passes = Passes::new(model, pass, context);
    let mut kept = None;
    let own = if let [all] = &micro_batches[..] {
        let images = passes.encode_images(&host, all);
        let texts = passes.encode_texts(&host, all);
        host.release_pixels(all.end);
        let features = (images.features.clone(), texts.features.clone());
        kept = Some((images, texts));
        features
    } else {
        let features = micro_batches.iter().map(|rows| {
            let images = passes.image_features(&host, rows);
            (images, passes.text_features(&host, rows))
        });
        let (images, texts): (Vec<_>, Vec<_>) = features.unzip();
        (Tensor::cat(images, 0), Tensor::cat(texts, 0))
    };
    let mut gradients = context.feature_gradients(loss, model, own, loss_scale);
    let loss = context.comm.sum(gradients.loss).into_scalar::<f32>();
    let mut sum = GradientSum::new(model);
    let mut statistics = Vec::new();
    for rows in &micro_batches {
        let part = |all: &Tensor<2>| all.clone().slice([rows.clone()]);
        let (images, texts) = kept.take().unzip();
        // One tower's graph at a time.
        if context.trains_image {
            let images = images.unwrap_or_else(|| passes.encode_images(&host, rows));
            statistics.push(images.seen.clone());
            images.backward(part(&gradients.image), &mut sum);
        }
        host.release_pixels(rows.end);
        if context.trains_text {
            let texts = texts.unwrap_or_else(|| passes.encode_texts(&host, rows));
            texts.backward(part(&gradients.text), &mut sum);
        }
    }
    let mut params = sum.into_params();
    params.register(model.logit_scale.id, gradients.logit_scale);
    if let (Some(param), Some(gradient)) = (&model.logit_bias, gradients.logit_bias.take()) {
        params.register(param.id, gradient);
    }
    BatchGradients {
        loss: f64::from(loss),
        params: exchange(model, params, context.comm.as_ref()),
        statistics,
    }
}

impl StepContext {
    fn device_without_graph(&self) -> Device {
        self.device.clone().without_autodiff()
    }

    /// The gradients of the whole batch's loss with respect to this rank's features,
    /// times the loss scale; the loss is this rank's part of it.
    fn feature_gradients(
        &self,
        loss: Loss,
        model: &Clip,
        (image, text): (Tensor<2>, Tensor<2>),
        loss_scale: f64,
    ) -> FeatureGradients {
        let own = image.dims()[0];
        let first = self.comm.rank() * own;
        let rows = first..first + own;
        let features = Features {
            image: self.comm.gather_rows(image),
            text: self.comm.gather_rows(text),
            logit_scale: model.logit_scale.val().inner(),
            logit_bias: model.logit_bias.as_ref().map(Param::val).map(Tensor::inner),
        };
        let gradients = loss.gradients(rows.clone(), &features, self.logit_rows);
        // Every rank's part of the loss reads the features of all.
        let sum_own = |all: Tensor<2>| {
            let shape = all.dims();
            let sum = self.comm.sum(all.flatten(0, 1)).reshape(shape);
            sum.slice([rows.clone()]).mul_scalar(loss_scale)
        };
        FeatureGradients {
            image: sum_own(gradients.image),
            text: sum_own(gradients.text),
            logit_scale: gradients.logit_scale.mul_scalar(loss_scale),
            logit_bias: gradients.logit_bias.map(|bias| bias.mul_scalar(loss_scale)),
            loss: gradients.loss,
        }
    }
}

/// The rows of each micro-batch.
fn micro_batches(rows: usize, micro: usize) -> Vec<Range<usize>> {
    (0..rows)
        .step_by(micro)
        .map(|start| start..rows.min(start + micro))
        .collect()
}

#[cfg(test)]
mod tests;
