//! One optimiser step over one contrastive batch, in as much memory as one micro-batch
//! needs.
//!
//! Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
//! Limited Setup".

mod classify;
mod encode;
mod lanes;

use std::ops::Range;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use couplet_data::loader::HostBatch;
use couplet_loss::{FeatureGradients, Features, Loss};
use couplet_model::{BatchStatistics, Clip, ForwardContext, Freeze};

pub(crate) use self::encode::Encoding;
use self::lanes::Lanes;
pub(crate) use self::lanes::{LanePools, lane_count, lanes};
use crate::comm::Comm;
use crate::optimizer::{ModelOptimizer, exchange, global_norm};

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

/// What a run trains for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Objective {
    /// Matching pairs.
    Contrast(Loss),
    /// The classes of images, by the model's head.
    Classify { label_smoothing: f32 },
}

impl Objective {
    /// # Panics
    /// If classes are to be told by the sigmoid loss, which the config refuses.
    pub fn new(loss: Loss, tells_classes: bool) -> Self {
        match loss {
            loss if !tells_classes => Self::Contrast(loss),
            Loss::Softmax(softmax) => Self::Classify {
                label_smoothing: softmax.label_smoothing,
            },
            Loss::Sigmoid(_) => unreachable!("classes are told by the softmax loss"),
        }
    }
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
    pass: &ForwardContext,
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
    pass: &ForwardContext,
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
    let mut lanes = Lanes::new(model, pass, &context.encoding, &context.lanes);
    let is_kept = micro_batches.len() == 1;
    let mut features = Vec::new();
    for rows in &micro_batches {
        features.extend(lanes.run(rows, |lane, rows| {
            if !is_kept {
                let images = lane.passes.image_features(&host, &rows);
                return (images, lane.passes.text_features(&host, &rows));
            }
            let images = lane.passes.encode_images(&host, &rows);
            let texts = lane.passes.encode_texts(&host, &rows);
            let features = (images.features.clone(), texts.features.clone());
            lane.kept = Some((images, texts));
            features
        }));
    }
    if is_kept {
        host.release_pixels(host.len());
    }
    let (images, texts): (Vec<_>, Vec<_>) = features.into_iter().unzip();
    let own = (Tensor::cat(images, 0), Tensor::cat(texts, 0));
    let mut gradients = context.feature_gradients(loss, model, own, loss_scale);
    let loss = context.comm.sum(gradients.loss).into_scalar::<f32>();
    let mut statistics = Vec::new();
    let (trains_image, trains_text) = (context.trains_image(), context.trains_text());
    for rows in &micro_batches {
        let seen = lanes.run(rows, |lane, rows| {
            let part = |all: &Tensor<2>| all.clone().slice([rows.clone()]);
            let (images, texts) = lane.kept.take().unzip();
            let mut seen = None;
            // One tower's graph at a time.
            if trains_image {
                let images = images.unwrap_or_else(|| lane.passes.encode_images(&host, &rows));
                seen = Some(images.seen.clone());
                images.backward(part(&gradients.image), &mut lane.sum);
            }
            if trains_text {
                let texts = texts.unwrap_or_else(|| lane.passes.encode_texts(&host, &rows));
                texts.backward(part(&gradients.text), &mut lane.sum);
            }
            seen
        });
        statistics.extend(seen.into_iter().flatten());
        host.release_pixels(rows.end);
    }
    let mut params = lanes.into_params(model);
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
    /// Whether the image tower has anything to train.
    pub fn trains_image(&self) -> bool {
        self.encoding.freeze.image != Freeze::All
    }

    /// Whether the text tower has anything to train.
    pub fn trains_text(&self) -> bool {
        let reads_texts = matches!(self.objective, Objective::Contrast(_));
        reads_texts && self.encoding.freeze.text != Freeze::All
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
