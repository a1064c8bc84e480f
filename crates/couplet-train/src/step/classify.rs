//! The gradients of a classification batch. Its loss does not couple the rows, so each
//! micro-batch needs one forward and one backward pass.

use burn::tensor::{Tensor, TensorData};
use couplet_loss::class_cross_entropy;
use couplet_model::Clip;
use couplet_ranks::Lost;

use super::batch::StepBatch;
use super::context::StepContext;
use super::gradients::{BatchGradients, GradientsOfRanks, finish};
use super::lanes::StepLanes;

/// The settings of the cross-entropy over classes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassLoss {
    /// The share of each target that is spread evenly over all classes.
    pub label_smoothing: f32,
    /// The factor on all gradients.
    pub scale: f64,
}

/// The gradients of the loss of the whole batch, which includes all ranks' images.
/// - batch: this rank's images with their labels.
///
/// # Errors
/// If a rank is lost.
///
/// # Panics
/// If the model has no classifier, or an image has no label.
pub(super) fn gradients(
    mut lanes: StepLanes,
    model: &Clip,
    mut batch: StepBatch,
    loss: ClassLoss,
    context: &StepContext,
) -> Result<BatchGradients, Lost> {
    assert!(model.head().is_some(), "the model has a classifier");
    assert_eq!(batch.labels.len(), batch.len(), "every image has a label");
    let without_graph = context.encoding.device_without_graph();
    let batch_size = batch.len() * context.comm.ranks();
    let trains_image = context.trains_image();
    let (mut sum, mut statistics) = (Tensor::zeros([1], &without_graph), Vec::new());
    for rows in lanes.micro_batches() {
        let parts = lanes.run(&rows, |lane, rows| {
            let labels = TensorData::new(batch.labels[rows.clone()].to_vec(), [rows.len()]);
            let labels = Tensor::from_data(labels, &without_graph);
            let images = trains_image.then(|| lane.passes.encode_images(&batch, &rows));
            let features = match &images {
                Some(images) => Tensor::from_inner(images.features.clone()).require_grad(),
                None => Tensor::from_inner(lane.passes.image_features(&batch, &rows)),
            };
            let logits = lane.passes.logits(features.clone());
            let smoothing = loss.label_smoothing;
            let part = class_cross_entropy(logits.clone().inner(), labels, smoothing, batch_size);
            let grads = (lane.images).backward(logits, part.logits.mul_scalar(loss.scale));
            let batch_statistics = images.map(|images| {
                let gradient = grads.and_then(|grads| features.grad(&grads));
                let batch_statistics = images.statistics.clone();
                let gradient = gradient.expect("the classifier reads the features");
                images.backward(gradient, &mut lane.images);
                batch_statistics
            });
            (part.loss, batch_statistics)
        });
        batch.release_pixels(rows.end);
        for (part, batch_statistics) in parts {
            sum = sum + part;
            statistics.extend(batch_statistics);
        }
    }
    let comm = &context.comm;
    let sums = GradientsOfRanks::start(model, lanes.into_params(model), None, vec![sum], comm);
    finish(model, vec![sums], statistics, comm)
}
