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

mod batch;
mod classify;
mod context;
mod encode;
#[cfg(test)]
mod fixtures;
mod gradients;
mod lanes;
mod pools;
mod token_rows;

use std::ops::Range;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use couplet_loss::{FeatureGradients, Features, PairLoss};
use couplet_model::{Clip, ForwardContext, ParameterVisitor, narrow_weights, visit_parameters};
use couplet_ranks::Lost;

use self::gradients::{GradientsOfRanks, finish};
use self::lanes::StepLanes;
use self::token_rows::PendingTokenRows;
use crate::comm::Comm;
use crate::optimizer::{ModelOptimizer, OptimizerStep, global_norm};

pub(crate) use self::batch::StepBatch;
pub(crate) use self::context::{
    Objective, StepContext, StepNumbers, StepOptions, StepReport, StepSettings,
};
pub(crate) use self::gradients::BatchGradients;
pub(crate) use self::pools::lane_count;

/// Computes gradients, clips them and updates the model. A step whose loss or gradient is not
/// finite changes nothing, nor does one in which a rank was lost.
/// - batch: this rank's pairs.
/// - forward: context of this rank's first pair.
pub(crate) fn step(
    model: Clip,
    optimizer: &mut ModelOptimizer,
    batch: impl Into<StepBatch>,
    forward: &ForwardContext,
    settings: StepSettings,
    context: &StepContext,
) -> (Clip, Result<StepNumbers, Lost>) {
    let batch = batch.into();
    context.pools.run(|| {
        let gradients = gradients(&model, batch, forward, settings.loss_scale, context);
        let gradients = match gradients {
            Ok(gradients) => gradients,
            Err(lost) => return (model, Err(lost)),
        };
        let clipped = (context.comm.is_alone())
            .then(|| optimizer.clip_on_device(&model, &gradients, settings.loss_scale));
        if let Some(clipped) = clipped.flatten() {
            let mut numbers = StepNumbers::OnDevice(clipped.numbers.clone());
            if !settings.may_run_ahead {
                let report = StepNumbers::read(vec![numbers])[0];
                numbers = StepNumbers::Known(report);
                if !report.updated {
                    return (model, Ok(numbers));
                }
            }
            let model = update(model, gradients, |model, params| {
                optimizer.step_on_device(model, params, settings.lr, &clipped)
            });
            return (model, Ok(numbers));
        }
        let report = match report(&model, &gradients, settings, context) {
            Ok(report) => report,
            Err(lost) => return (model, Err(lost)),
        };
        if !report.updated {
            return (model, Ok(StepNumbers::Known(report)));
        }
        let step = OptimizerStep {
            lr: settings.lr,
            grad_scale: optimizer.clip_factor(report.grad_norm) / settings.loss_scale,
        };
        let model = update(model, gradients, |model, params| {
            optimizer.step(model, params, step)
        });
        (model, Ok(StepNumbers::Known(report)))
    })
}

/// Waits for the step's numbers, which are those of rank 0.
fn report(
    model: &Clip,
    gradients: &BatchGradients,
    settings: StepSettings,
    context: &StepContext,
) -> Result<StepReport, Lost> {
    let grad_norm = global_norm(model, &gradients.params) / settings.loss_scale;
    // A norm whose last bit differed between devices would make the ranks' models differ.
    let numbers = [gradients.loss(), grad_norm];
    let numbers = context
        .comm
        .numbers_of_first("the gradient norm", &numbers)?;
    let [loss, grad_norm] = numbers[..] else {
        unreachable!("two numbers were sent");
    };
    Ok(StepReport::new(loss, grad_norm))
}

/// The gradients of the loss of the whole batch, which includes all ranks' pairs.
/// - batch, forward: as [`step`] takes them.
///
/// # Errors
/// If a rank is lost.
pub(crate) fn gradients(
    model: &Clip,
    batch: impl Into<StepBatch>,
    forward: &ForwardContext,
    loss_scale: f64,
    context: &StepContext,
) -> Result<BatchGradients, Lost> {
    let mut batch = batch.into();
    // Until the parameters are updated.
    let _narrow = narrow_weights(model);
    let mut lanes = StepLanes::new(model, forward, batch.len(), context);
    let comm = &context.comm;
    match &context.objective {
        Objective::Contrast(loss) => {
            let rows = PendingTokenRows::start(model, &batch, comm);
            let own = encode(&mut lanes, &mut batch);
            let features = exchange_features(model, own, comm)?;
            let of_features = loss_gradients(loss.as_ref(), &features, loss_scale, context)?;
            backward(lanes, model, batch, of_features, rows, comm)
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
fn encode(lanes: &mut StepLanes, batch: &mut StepBatch) -> (Tensor<2>, Tensor<2>) {
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
    comm: &Comm,
) -> Result<Features, Lost> {
    let width = image.dims()[1];
    // One exchange for both.
    let both = comm.gather_rows("the features", Tensor::cat(vec![image, text], 1))?;
    Ok(Features {
        image: both.clone().narrow(1, 0, width),
        text: both.narrow(1, width, width),
        logit_scale: model.logit_scale.val().inner(),
        logit_bias: model.logit_bias.as_ref().map(Param::val).map(Tensor::inner),
    })
}

/// The loss of the whole batch, and its gradients, times the loss scale, with respect to this
/// rank's features. The loss and the gradients of `logit_scale` and `logit_bias` are this rank's
/// parts of sums.
fn loss_gradients(
    loss: &dyn PairLoss,
    features: &Features,
    loss_scale: f64,
    context: &StepContext,
) -> Result<FeatureGradients, Lost> {
    let comm = &context.comm;
    let own = features.image.dims()[0] / comm.ranks();
    let rows = comm.rank() * own..(comm.rank() + 1) * own;
    let chunk = context.logit_rows;
    let gradients = match loss.local() {
        Some(local) => {
            let normalizers = local.normalizers(rows.clone(), features, chunk);
            let gather = |own| comm.gather_rows("the normalizers of the loss", own);
            let normalizers = normalizers.map(gather).transpose()?;
            local.gradients(rows, features, normalizers, chunk)
        }
        None => summed_gradients(loss, rows, features, context)?,
    };
    Ok(FeatureGradients {
        image: gradients.image.mul_scalar(loss_scale),
        text: gradients.text.mul_scalar(loss_scale),
        logit_scale: gradients.logit_scale.mul_scalar(loss_scale),
        logit_bias: gradients.logit_bias.map(|bias| bias.mul_scalar(loss_scale)),
        loss: gradients.loss,
    })
}

/// The gradients of a loss that is differentiated: every rank's part reads the features of all, so their
/// gradients are sums over ranks.
fn summed_gradients(
    loss: &dyn PairLoss,
    rows: Range<usize>,
    features: &Features,
    context: &StepContext,
) -> Result<FeatureGradients, Lost> {
    let gradients = couplet_loss::gradients(loss, rows.clone(), features, context.logit_rows);
    let shape = gradients.image.dims();
    let all = [gradients.image, gradients.text].map(|all| all.flatten(0, 1));
    let sums = context
        .comm
        .start_sum("the features' gradients", all.to_vec());
    let sums = sums.wait()?.into_iter();
    let mut own = sums.map(|all| all.reshape(shape).slice([rows.clone()]));
    let mut next = || own.next().expect("two tensors were summed");
    Ok(FeatureGradients {
        image: next(),
        text: next(),
        ..gradients
    })
}

/// Propagates the gradients of the features to all parameters and sums them over ranks.
fn backward(
    mut lanes: StepLanes,
    model: &Clip,
    mut batch: StepBatch,
    of_features: FeatureGradients,
    rows: Option<PendingTokenRows>,
    comm: &Comm,
) -> Result<BatchGradients, Lost> {
    let mut token_rows = rows.map(PendingTokenRows::wait).transpose()?.flatten();
    let mut statistics = Vec::new();
    let micro_batches = lanes.micro_batches();
    let (last, others) = micro_batches.split_last().expect("a batch has pairs");
    for rows in others {
        statistics.extend(lanes.backward(&mut batch, rows, &of_features));
    }
    let mut sums = Vec::new();
    if comm.is_alone() {
        statistics.extend(lanes.backward(&mut batch, last, &of_features));
    } else {
        // The gradients of the larger tower travel while those of the other are computed.
        let [images, texts] = tower_sizes(model);
        let is_text_first = texts > images;
        let first = if is_text_first {
            lanes.backward_texts(&batch, last, &of_features);
            lanes.take_text_gradients(model)
        } else {
            statistics.extend(lanes.backward_images(&batch, last, &of_features));
            lanes.take_image_gradients(model)
        };
        let rows = token_rows.take_if(|_| is_text_first);
        sums.push(GradientsOfRanks::start(
            model,
            first,
            rows,
            Vec::new(),
            comm,
        ));
        if is_text_first {
            statistics.extend(lanes.backward_images(&batch, last, &of_features));
        } else {
            lanes.backward_texts(&batch, last, &of_features);
        }
        batch.release_pixels(last.end);
    }
    let mut params = lanes.into_params(model);
    let scalars = [
        (Some(&model.logit_scale), Some(of_features.logit_scale)),
        (model.logit_bias.as_ref(), of_features.logit_bias),
    ];
    for (param, gradient) in scalars {
        if let (Some(param), Some(gradient)) = (param.filter(|own| own.is_require_grad()), gradient)
        {
            params.register(param.id, gradient);
        }
    }
    sums.push(GradientsOfRanks::start(
        model,
        params,
        token_rows,
        vec![of_features.loss],
        comm,
    ));
    finish(model, sums, statistics, comm)
}

/// The trained parameters of the image tower and of the text tower.
fn tower_sizes(model: &Clip) -> [usize; 2] {
    struct Count([usize; 2]);
    impl ParameterVisitor for Count {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0[usize::from(!name.starts_with("visual."))] += param.shape().num_elements();
            }
        }
    }
    let mut count = Count([0; 2]);
    visit_parameters(model, &mut count);
    count.0
}

/// Updates running statistics and, by `optimize`, parameters.
fn update(
    model: Clip,
    gradients: BatchGradients,
    optimize: impl FnOnce(Clip, GradientsParams) -> Clip,
) -> Clip {
    let model = (gradients.statistics.into_iter()).fold(model, Clip::update_statistics);
    optimize(model, gradients.params)
}

#[cfg(test)]
mod tests;
