//! The gradients of a classification batch. Rows do not read each other, so every
//! micro-batch goes forward and back once.

use burn::tensor::{Tensor, TensorData};
use couplet_data::loader::HostBatch;
use couplet_loss::class_cross_entropy;
use couplet_model::{Clip, TrainPass};

use super::encode::{GradientSum, Passes};
use super::{BatchGradients, StepContext, micro_batches};
use crate::optimizer::exchange;

/// - host: this rank's images with their classes.
/// - label_smoothing: the share of each target that all classes have an equal part of.
///
/// # Panics
/// If the model has no head, or an image no class.
pub(super) fn gradients(
    model: &Clip,
    mut host: HostBatch,
    pass: &TrainPass,
    loss_scale: f64,
    label_smoothing: f32,
    context: &StepContext,
) -> BatchGradients {
    let head = model.head().expect("a model that tells classes has a head");
    assert_eq!(host.labels.len(), host.len(), "every image has a class");
    let without_graph = context.device_without_graph();
    let batch = host.len() * context.comm.ranks();
    let passes = Passes::new(model, pass, context);
    let mut sum = GradientSum::new(model);
    let (mut loss, mut statistics) = (Tensor::zeros([1], &without_graph), Vec::new());
    for rows in micro_batches(host.len(), context.micro_batch) {
        let labels = host.labels[rows.clone()].to_vec();
        let labels = TensorData::new(labels, [rows.len()]);
        let labels = Tensor::from_data(labels, &without_graph);
        let images = context
            .trains_image
            .then(|| passes.encode_images(&host, &rows));
        let features = match &images {
            Some(images) => Tensor::from_inner(images.features.clone()).require_grad(),
            None => Tensor::from_inner(passes.image_features(&host, &rows)),
        };
        host.release_pixels(rows.end);
        let logits = head.forward(features.clone());
        let part = class_cross_entropy(logits.clone().inner(), labels, label_smoothing, batch);
        loss = loss + part.loss;
        let grads = sum.add(logits, part.logits.mul_scalar(loss_scale));
        if let Some(images) = images {
            let gradient = grads.and_then(|grads| features.grad(&grads));
            statistics.push(images.seen.clone());
            images.backward(gradient.expect("the head reads the features"), &mut sum);
        }
    }
    BatchGradients {
        loss: f64::from(context.comm.sum(loss).into_scalar::<f32>()),
        params: exchange(model, sum.into_params(), context.comm.as_ref()),
        statistics,
    }
}
