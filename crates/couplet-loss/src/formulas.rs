//! The gradients of the built-in losses as formulas.

use std::ops::Range;

use burn::tensor::{Tensor, activation};

use crate::config::{SigmoidLoss, SoftmaxLoss};
use crate::factors::{Factors, WeightedSums};
use crate::features::{FeatureGradients, Features, size};
use crate::pair_loss::LocalGradients;

/// With `r_i` and `c_j` the log-sum-exps of the logits of image i and of text j:
///
/// - `L = Σ_i (½(r_i + c_i) − Σ_j y_ij s_ij) / B` with the targets `y_ij = (1−ε)δ_ij + ε/B`,
/// - `∂L/∂s_ij = (½(e^{s_ij − r_i} + e^{s_ij − c_j}) − y_ij) / B`.
impl LocalGradients for SoftmaxLoss {
    /// The greatest logit and the sum of the exponentials of the differences to it, of the image and of the text.
    /// Their sum in one number, a log-sum-exp, would cost digits: near 100, an f32 has steps of 8e-6.
    fn normalizers(
        &self,
        rows: Range<usize>,
        features: &Features,
        chunk: usize,
    ) -> Option<Tensor<2>> {
        let factors = Factors::new(features);
        let of_rows = |logits: Tensor<2>| {
            let max = logits.clone().max_dim(1);
            let sum = (logits - max.clone()).exp().sum_dim(1);
            Tensor::cat(vec![max, sum], 1)
        };
        let of_images = factors.by_images(rows.clone(), chunk, |_, logits| of_rows(logits));
        let of_texts = factors.by_texts(rows, chunk, |_, logits| of_rows(logits));
        let sides = vec![Tensor::cat(of_images, 0), Tensor::cat(of_texts, 0)];
        Some(Tensor::cat(sides, 1))
    }

    fn gradients(
        &self,
        rows: Range<usize>,
        features: &Features,
        normalizers: Option<Tensor<2>>,
        chunk: usize,
    ) -> FeatureGradients {
        let normalizers = normalizers.expect("the softmax loss has normalizers");
        let [of_images, of_texts] = [0, 2].map(|at| SideNormalizers {
            max: normalizers.clone().narrow(1, at, 1),
            sum: normalizers.clone().narrow(1, at + 1, 1),
        });
        let factors = Factors::new(features);
        // Twice the weights, whose halves are taken of the sums.
        let sums = factors.weighted_sums(
            rows.clone(),
            chunk,
            |logits| activation::softmax(logits.clone(), 1) + of_texts.shares(logits),
            |logits| activation::softmax(logits.clone(), 1) + of_images.shares(logits),
        );
        let texts = self.targets(&factors.texts, &rows);
        let images = self.targets(&factors.images, &rows);
        let own = factors.images.slice([rows.clone()]);
        let log_sum_exps = of_images.log_sum_exps(&rows) + of_texts.log_sum_exps(&rows);
        let losses = log_sum_exps.div_scalar(2.0) - (own * texts.clone()).sum_dim(1);
        let of_logits = WeightedSums {
            texts: sums.texts.div_scalar(2.0) - texts,
            images: sums.images.div_scalar(2.0) - images,
        };
        FeatureGradients {
            logit_bias: features.logit_bias.as_ref().map(Tensor::zeros_like),
            ..of_features(features, rows, losses, of_logits)
        }
    }
}

impl SoftmaxLoss {
    /// `Σ_j y_ij · all_j` for each i of `rows`, `[rows, embed_dim]`.
    fn targets(self, all: &Tensor<2>, rows: &Range<usize>) -> Tensor<2> {
        let own = all.clone().slice([rows.clone()]);
        if self.label_smoothing == 0.0 {
            return own;
        }
        let mean = all.clone().mean_dim(0);
        own.mul_scalar(1.0 - self.label_smoothing) + mean.mul_scalar(self.label_smoothing)
    }
}

/// The normalizers of all images or of all texts, `[batch, 1]` each.
struct SideNormalizers {
    max: Tensor<2>,
    sum: Tensor<2>,
}

impl SideNormalizers {
    /// The exponentials of logits of other rows with all of this side, by the sums of this side: `[rows, batch]`.
    fn shares(&self, logits: Tensor<2>) -> Tensor<2> {
        let below_max = logits - self.max.clone().transpose();
        below_max.exp() / self.sum.clone().transpose()
    }

    /// `[rows, 1]`
    fn log_sum_exps(&self, rows: &Range<usize>) -> Tensor<2> {
        let own = |all: &Tensor<2>| all.clone().slice([rows.clone()]);
        own(&self.max) + own(&self.sum).log()
    }
}

/// `L = Σ_ij (ln(1 + e^{s_ij}) − δ_ij s_ij) / B`, `∂L/∂s_ij = (σ(s_ij) − δ_ij) / B`.
impl LocalGradients for SigmoidLoss {
    fn normalizers(&self, _: Range<usize>, _: &Features, _: usize) -> Option<Tensor<2>> {
        None
    }

    fn gradients(
        &self,
        rows: Range<usize>,
        features: &Features,
        _: Option<Tensor<2>>,
        chunk: usize,
    ) -> FeatureGradients {
        let bias = features.logit_bias.clone().map(Tensor::unsqueeze::<2>);
        let biased = |logits: Tensor<2>| match &bias {
            Some(bias) => logits + bias.clone(),
            None => logits,
        };
        let factors = Factors::new(features);
        let (mut losses, mut likely) = (Vec::new(), Vec::new());
        let sums = factors.weighted_sums(
            rows.clone(),
            chunk,
            |logits| {
                let logits = biased(logits);
                losses.push(activation::softplus(logits.clone(), 1.0).sum_dim(1));
                let weights = activation::sigmoid(logits);
                likely.push(weights.clone().sum_dim(1));
                weights
            },
            |logits| activation::sigmoid(biased(logits)),
        );
        let texts = factors.texts.slice([rows.clone()]);
        let images = factors.images.slice([rows.clone()]);
        let matching = biased((images.clone() * texts.clone()).sum_dim(1));
        let losses = Tensor::cat(losses, 0) - matching;
        let batch = size(features.image.dims()[0]);
        let of_bias = |_: &Tensor<1>| {
            let excess = Tensor::cat(likely, 0).sub_scalar(1.0);
            excess.sum().div_scalar(batch)
        };
        FeatureGradients {
            logit_bias: features.logit_bias.as_ref().map(of_bias),
            ..of_features(
                features,
                rows,
                losses,
                WeightedSums {
                    texts: sums.texts - texts,
                    images: sums.images - images,
                },
            )
        }
    }
}

/// The gradients without that of the bias.
/// - losses: of each pair of `rows`, `[rows, 1]`; of_logits: the sums of `∂L/∂s_ij`; both times the batch.
fn of_features(
    features: &Features,
    rows: Range<usize>,
    losses: Tensor<2>,
    of_logits: WeightedSums,
) -> FeatureGradients {
    let batch = size(features.image.dims()[0]);
    let scale = features.logit_scale.clone().exp().div_scalar(batch);
    let image = of_logits.texts * scale.unsqueeze();
    // Σ_ij ∂L/∂s_ij · a · image_i · text_j, over the images of these rows.
    let along = (features.image.clone().slice([rows]) * image.clone()).sum_dim(1);
    FeatureGradients {
        loss: losses.sum().div_scalar(batch),
        image,
        text: of_logits.images.div_scalar(batch),
        logit_scale: along.sum(),
        logit_bias: None,
    }
}
