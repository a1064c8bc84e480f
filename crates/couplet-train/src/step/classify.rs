//! The gradients of a classification batch. Rows do not read each other, so every
//! micro-batch goes forward and back once.

use burn::tensor::{Tensor, TensorData};
use couplet_data::loader::HostBatch;
use couplet_loss::class_cross_entropy;
use couplet_model::{Clip, ForwardContext};

use super::lanes::Lanes;
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
    pass: &ForwardContext,
    loss_scale: f64,
    label_smoothing: f32,
    context: &StepContext,
) -> BatchGradients {
    assert!(
        model.head().is_some(),
        "a model that tells classes has a head"
    );
    assert_eq!(host.labels.len(), host.len(), "every image has a class");
    let without_graph = context.encoding.device_without_graph();
    let batch = host.len() * context.comm.ranks();
    let trains_image = context.trains_image();
    let mut lanes = Lanes::new(model, pass, &context.encoding, &context.lanes);
    let (mut loss, mut statistics) = (Tensor::zeros([1], &without_graph), Vec::new());
    for rows in micro_batches(host.len(), context.micro_batch) {
        let parts = lanes.run(&rows, |lane, rows| {
            let labels = TensorData::new(host.labels[rows.clone()].to_vec(), [rows.len()]);
            let labels = Tensor::from_data(labels, &without_graph);
            let images = trains_image.then(|| lane.passes.encode_images(&host, &rows));
            let features = match &images {
                Some(images) => Tensor::from_inner(images.features.clone()).require_grad(),
                None => Tensor::from_inner(lane.passes.image_features(&host, &rows)),
            };
            let logits = lane.passes.logits(features.clone());
            let part = class_cross_entropy(logits.clone().inner(), labels, label_smoothing, batch);
            let grads = lane.sum.add(logits, part.logits.mul_scalar(loss_scale));
            let seen = images.map(|images| {
                let gradient = grads.and_then(|grads| features.grad(&grads));
                let seen = images.seen.clone();
                let gradient = gradient.expect("the head reads the features");
                images.backward(gradient, &mut lane.sum);
                seen
            });
            (part.loss, seen)
        });
        host.release_pixels(rows.end);
        for (part, seen) in parts {
            loss = loss + part;
            statistics.extend(seen);
        }
    }
    BatchGradients {
        loss: f64::from(context.comm.sum(loss).into_scalar::<f32>()),
        params: exchange(model, lanes.into_params(model), context.comm.as_ref()),
        statistics,
    }
}
