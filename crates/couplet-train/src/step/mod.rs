//! One optimiser step over a batch, with activations of only one micro-batch in memory.
//!
//! The phases of a contrastive step, in the order of [`step`] and [`gradients`]:
//!
//! 1. [`encode`]: the features of every micro-batch, without a graph.
//! 2. [`exchange_features`]: the features of all ranks.
//! 3. [`loss_gradients`]: the loss of the whole batch and its gradients with respect to the
//!    features.
//! 4. [`backward`]: encodes every micro-batch again with a graph and propagates the features'
//!    gradients to the parameters; then sums over ranks.
//! 5. [`ModelOptimizer::clip_factor`]: clipping by the global norm.
//! 6. [`update`]: running statistics, parameters and moments.
//!
//! Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
//! Limited Setup" (gradient caching).

mod classify;
mod context;
mod encode;
#[cfg(test)]
mod fixtures;
mod gradients;
mod lanes;
mod pools;

use burn::module::Param;
use burn::tensor::Tensor;
use couplet_data::loader::HostBatch;
use couplet_loss::{FeatureGradients, Features, PairLoss};
use couplet_model::{Clip, ForwardContext};

use self::lanes::StepLanes;
use crate::comm::Comm;
use crate::optimizer::{ModelOptimizer, OptimizerStep, exchange, global_norm};

pub(crate) use self::context::{Objective, StepContext, StepOptions, StepReport, StepSettings};
pub(crate) use self::gradients::BatchGradients;
pub(crate) use self::pools::lane_count;

/// Computes gradients, clips them and updates the model. A step whose loss or gradient is not
/// finite changes nothing.
/// - batch: this rank's pairs.
/// - forward: context of this rank's first pair.
pub(crate) fn step(
    model: Clip,
    optimizer: &mut ModelOptimizer,
    batch: HostBatch,
    forward: &ForwardContext,
    settings: StepSettings,
    context: &StepContext,
) -> (Clip, StepReport) {
    let gradients = gradients(&model, batch, forward, settings.loss_scale, context);
    let grad_norm = global_norm(&model, &gradients.params) / settings.loss_scale;
    let report = StepReport {
        loss: gradients.loss,
        grad_norm,
        updated: gradients.loss.is_finite() && grad_norm.is_finite(),
    };
    if !report.updated {
        return (model, report);
    }
    let clip_factor = optimizer.clip_factor(grad_norm);
    let optimizer_step = OptimizerStep {
        lr: settings.lr,
        grad_scale: clip_factor / settings.loss_scale,
    };
    (update(model, optimizer, gradients, optimizer_step), report)
}

/// The gradients of the loss of the whole batch, which includes all ranks' pairs.
/// - batch, forward: as [`step`] takes them.
pub(crate) fn gradients(
    model: &Clip,
    mut batch: HostBatch,
    forward: &ForwardContext,
    loss_scale: f64,
    context: &StepContext,
) -> BatchGradients {
    let mut lanes = StepLanes::new(model, forward, batch.len(), context);
    let comm = context.comm.as_ref();
    match &context.objective {
        Objective::Contrast(loss) => {
            let own = encode(&mut lanes, &mut batch);
            let features = exchange_features(model, own, comm);
            let of_features = loss_gradients(loss.as_ref(), &features, loss_scale, context);
            backward(lanes, model, batch, of_features, comm)
        }
        Objective::Classify { label_smoothing } => {
            let loss = classify::ClassLoss {
                label_smoothing: *label_smoothing,
                scale: loss_scale,
            };
            classify::gradients(lanes, model, batch, loss, context)
        }
    }
}

/// Features of this rank's images and of its texts, `[rows, embed_dim]`, normalised, without a
/// graph.
fn encode(lanes: &mut StepLanes, batch: &mut HostBatch) -> (Tensor<2>, Tensor<2>) {
    let mut features = Vec::new();
    for rows in lanes.micro_batches() {
        features.extend(lanes.encode(batch, &rows));
    }
    let (images, texts): (Vec<_>, Vec<_>) = features.into_iter().unzip();
    (Tensor::cat(images, 0), Tensor::cat(texts, 0))
}

/// The inputs of the loss, gathered from all ranks.
fn exchange_features(
    model: &Clip,
    (image, text): (Tensor<2>, Tensor<2>),
    comm: &dyn Comm,
) -> Features {
    Features {
        image: comm.gather_rows(image),
        text: comm.gather_rows(text),
        logit_scale: model.logit_scale.val().inner(),
        logit_bias: model.logit_bias.as_ref().map(Param::val).map(Tensor::inner),
    }
}

/// The loss of the whole batch, and its gradients, times the loss scale, with respect to this
/// rank's features. The gradients of `logit_scale` and `logit_bias` are this rank's parts of a
/// sum.
fn loss_gradients(
    loss: &dyn PairLoss,
    features: &Features,
    loss_scale: f64,
    context: &StepContext,
) -> FeatureGradients {
    let comm = context.comm.as_ref();
    let own = features.image.dims()[0] / comm.ranks();
    let rows = comm.rank() * own..(comm.rank() + 1) * own;
    let gradients = couplet_loss::gradients(loss, rows.clone(), features, context.logit_rows);
    // Every rank's part of the loss reads the features of all.
    let sum_own = |all: Tensor<2>| {
        let shape = all.dims();
        let sum = comm.sum(all.flatten(0, 1)).reshape(shape);
        sum.slice([rows.clone()]).mul_scalar(loss_scale)
    };
    FeatureGradients {
        image: sum_own(gradients.image),
        text: sum_own(gradients.text),
        logit_scale: gradients.logit_scale.mul_scalar(loss_scale),
        logit_bias: gradients.logit_bias.map(|bias| bias.mul_scalar(loss_scale)),
        loss: comm.sum(gradients.loss),
    }
}

/// Propagates the gradients of the features to all parameters and sums them over ranks.
fn backward(
    mut lanes: StepLanes,
    model: &Clip,
    mut batch: HostBatch,
    of_features: FeatureGradients,
    comm: &dyn Comm,
) -> BatchGradients {
    let loss = of_features.loss.clone().into_scalar::<f32>();
    let mut statistics = Vec::new();
    for rows in lanes.micro_batches() {
        statistics.extend(lanes.backward(&mut batch, &rows, &of_features));
    }
    let mut params = lanes.into_params(model);
    params.register(model.logit_scale.id, of_features.logit_scale);
    if let (Some(param), Some(gradient)) = (&model.logit_bias, of_features.logit_bias) {
        params.register(param.id, gradient);
    }
    BatchGradients {
        loss: f64::from(loss),
        params: exchange(model, params, comm),
        statistics,
    }
}

/// Updates running statistics and parameters.
fn update(
    model: Clip,
    optimizer: &mut ModelOptimizer,
    gradients: BatchGradients,
    step: OptimizerStep,
) -> Clip {
    let model = (gradients.statistics.into_iter()).fold(model, Clip::update_statistics);
    optimizer.step(model, gradients.params, step)
}

#[cfg(test)]
mod tests;
