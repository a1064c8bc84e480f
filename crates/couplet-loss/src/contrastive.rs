//! The losses over pairs, as functions.

use std::ops::Range;

use burn::tensor::{Tensor, activation};
use couplet_kernels::matmul;

use crate::features::{Features, size};

/// Over the pairs `rows`, the mean of both directions' cross-entropies, where row i's
/// class is column i, divided by the size of the whole batch.
/// - label_smoothing: the share of the target that is spread evenly over all columns.
/// - returns `[1]`.
///
/// Source: Radford et al. 2021, figure 3; open_clip `ClipLoss`;
/// `torch.nn.functional.cross_entropy` for the smoothing.
pub fn symmetric_info_nce(
    rows: Range<usize>,
    features: Features,
    label_smoothing: f32,
) -> Tensor<1> {
    // A bias that all logits share cancels in a softmax.
    let Features {
        image,
        text,
        logit_scale,
        ..
    } = features;
    let batch = image.dims()[0];
    let scale = logit_scale.exp().unsqueeze();
    let images_r = image.clone().slice([rows.clone()]) * scale.clone();
    let texts_r = text.clone().slice([rows]);
    let matching = (images_r.clone() * texts_r.clone()).sum_dim(1);
    let half = |own: Tensor<2>, others: Tensor<2>| {
        let logits = matmul(own, others.transpose());
        let mean = (label_smoothing > 0.0).then(|| logits.clone().mean_dim(1));
        let over_others = log_sum_exp(logits, 1);
        match mean {
            Some(mean) => over_others - mean.mul_scalar(label_smoothing),
            None => over_others,
        }
    };
    let both = half(images_r, text) + half(texts_r * scale, image);
    let parts = both.div_scalar(2.0) - matching.mul_scalar(1.0 - label_smoothing);
    parts.sum().div_scalar(size(batch))
}

/// Over the pairs of the images `rows` with every text, the sum of `-ln σ(±logit)`,
/// divided by the size of the whole batch: plus where image and text match, minus
/// elsewhere.
/// - returns `[1]`.
///
/// Source: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training"; open_clip
/// `SigLipLoss`.
pub fn pairwise_sigmoid(rows: Range<usize>, features: Features) -> Tensor<1> {
    let Features {
        image,
        text,
        logit_scale,
        logit_bias,
    } = features;
    let batch = image.dims()[0];
    let images_r = image.slice([rows.clone()]) * logit_scale.exp().unsqueeze();
    let mut matching = (images_r.clone() * text.clone().slice([rows.clone()])).sum();
    let mut logits = matmul(images_r, text.transpose());
    if let Some(bias) = logit_bias {
        logits = logits + bias.clone().unsqueeze();
        matching = matching + bias.mul_scalar(size(rows.len()));
    }
    // -ln σ(x) = softplus(x) - x and -ln σ(-x) = softplus(x): subtracting the matching logits
    // replaces a mask. Rows are summed first, since a plain sum of a large matrix adds in an
    // order that depends on scheduling.
    let apart = activation::softplus(logits, 1.0).sum_dim(1).sum();
    (apart - matching).div_scalar(size(batch))
}

/// `ln(Σ exp(x))` along `dim`, which stays with size 1; safe for large `x`.
fn log_sum_exp(x: Tensor<2>, dim: usize) -> Tensor<2> {
    let max = x.clone().detach().max_dim(dim);
    (x - max.clone()).exp().sum_dim(dim).log() + max
}
