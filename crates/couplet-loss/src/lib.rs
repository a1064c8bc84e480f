//! Contrastive losses: pure functions of feature matrices, never of a model.

use std::ops::Range;

use burn::tensor::{Gradients, Int, Tensor, activation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[loss]`: the loss over the features of the whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Loss {
    /// Symmetric InfoNCE over the batch, CLIP's loss.
    Softmax(SoftmaxLoss),
    /// Binary classification of each pair, SigLIP's loss. Needs `model.init_logit_bias`.
    Sigmoid(SigmoidLoss),
}

/// `kind = "softmax"`: symmetric InfoNCE, CLIP's loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxLoss {
    /// Share of each target that is spread evenly over the whole batch.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub label_smoothing: f32,
}

/// `kind = "sigmoid"`: SigLIP's loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigmoidLoss {}

impl Default for Loss {
    fn default() -> Self {
        Self::Softmax(SoftmaxLoss::default())
    }
}

/// The inputs of a loss: features whose rows match, and how similarities become logits.
#[derive(Debug, Clone)]
pub struct Features {
    /// `[batch, embed_dim]`, L2-normalised.
    pub image: Tensor<2>,
    /// `[batch, embed_dim]`, L2-normalised.
    pub text: Tensor<2>,
    /// `[1]`, the log of the factor on cosine similarities.
    pub logit_scale: Tensor<1>,
    /// `[1]`, added to the scaled similarities; 0 without one.
    pub logit_bias: Option<Tensor<1>>,
}

/// A loss and its gradients with respect to its inputs, without a graph.
#[derive(Debug, Clone)]
pub struct FeatureGradients {
    /// `[1]`
    pub loss: Tensor<1>,
    /// Shapes as in [`Features`].
    pub image: Tensor<2>,
    pub text: Tensor<2>,
    pub logit_scale: Tensor<1>,
    pub logit_bias: Option<Tensor<1>>,
}

impl Loss {
    /// The loss of a whole batch, `[1]`.
    pub fn forward(&self, features: Features) -> Tensor<1> {
        let batch = features.image.dims()[0];
        self.forward_rows(0..batch, features)
    }

    /// The part of the pairs `rows` in the loss of the whole batch, `[1]`. The parts of disjoint rows
    /// that cover the batch sum to its loss. No matrix has more rows than these.
    pub fn forward_rows(&self, rows: Range<usize>, features: Features) -> Tensor<1> {
        match self {
            Self::Softmax(softmax) => symmetric_info_nce(rows, features, softmax.label_smoothing),
            Self::Sigmoid(_) => pairwise_sigmoid(rows, features),
        }
    }

    /// [`Self::forward_rows`] and its gradients, `chunk` rows of logits at a time.
    /// - features: without a graph.
    pub fn gradients(
        &self,
        rows: Range<usize>,
        features: &Features,
        chunk: usize,
    ) -> FeatureGradients {
        let mut sum: Option<FeatureGradients> = None;
        for start in rows.clone().step_by(chunk) {
            let part = self.chunk_gradients(start..rows.end.min(start + chunk), features);
            sum = Some(match sum {
                Some(sum) => sum.plus(part),
                None => part,
            });
        }
        sum.expect("there is at least one row")
    }

    fn chunk_gradients(self, rows: Range<usize>, features: &Features) -> FeatureGradients {
        let leaves = Features {
            image: leaf(&features.image),
            text: leaf(&features.text),
            logit_scale: leaf(&features.logit_scale),
            logit_bias: features.logit_bias.as_ref().map(leaf),
        };
        let loss = self.forward_rows(rows, leaves.clone());
        let grads = loss.backward();
        FeatureGradients {
            loss: loss.inner(),
            image: grad(&leaves.image, &grads),
            text: grad(&leaves.text, &grads),
            logit_scale: grad(&leaves.logit_scale, &grads),
            logit_bias: leaves.logit_bias.map(|bias| grad(&bias, &grads)),
        }
    }

    /// Whether the loss needs a model with a `logit_bias`.
    pub fn needs_bias(&self) -> bool {
        matches!(self, Self::Sigmoid(_))
    }

    /// Every invalid setting, with its key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Softmax(softmax) if !(0.0..1.0).contains(&softmax.label_smoothing) => {
                let message = format!("{} must be at least 0 and below 1", softmax.label_smoothing);
                vec![("label_smoothing", message)]
            }
            _ => Vec::new(),
        }
    }
}

impl FeatureGradients {
    /// The sum of two parts of one batch.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            loss: self.loss + other.loss,
            image: self.image + other.image,
            text: self.text + other.text,
            logit_scale: self.logit_scale + other.logit_scale,
            logit_bias: (self.logit_bias.zip(other.logit_bias)).map(|(a, b)| a + b),
        }
    }
}

fn leaf<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    Tensor::from_inner(x.clone()).require_grad()
}

/// The gradient of a leaf; 0 if the loss does not read it.
fn grad<const D: usize>(leaf: &Tensor<D>, grads: &Gradients) -> Tensor<D> {
    let zeros = || leaf.clone().inner().zeros_like();
    leaf.grad(grads).unwrap_or_else(zeros)
}

/// The default number of rows of a logits matrix that exist at once: few enough to take little
/// memory next to a tower's activations, enough to keep a device busy.
pub fn default_chunk(batch: usize) -> usize {
    const LOGITS: usize = 1 << 16;
    const LEAST_ROWS: usize = 64;
    (LOGITS / batch.max(1)).max(LEAST_ROWS)
}

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
        let logits = own.matmul(others.transpose());
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

/// A classifier's loss and its gradient, without a graph.
#[derive(Debug, Clone)]
pub struct LogitGradients {
    /// `[1]`
    pub loss: Tensor<1>,
    /// `[rows, classes]`
    pub logits: Tensor<2>,
}

/// The cross-entropy of some rows of a batch, divided by the size of the whole batch.
/// - logits: `[rows, classes]`, without a graph; labels: `[rows]`.
/// - label_smoothing: the share of each target that is spread evenly over all classes.
///
/// Source: `torch.nn.functional.cross_entropy`.
pub fn class_cross_entropy(
    logits: Tensor<2>,
    labels: Tensor<1, Int>,
    label_smoothing: f32,
    batch: usize,
) -> LogitGradients {
    let classes = logits.dims()[1];
    let targets = labels.one_hot::<2>(classes).float();
    let targets = targets
        .mul_scalar(1.0 - label_smoothing)
        .add_scalar(label_smoothing / size(classes));
    let log_shares = activation::log_softmax(logits, 1);
    let loss = (targets.clone() * log_shares.clone()).sum();
    LogitGradients {
        loss: loss.div_scalar(-size(batch)),
        logits: (log_shares.exp() - targets).div_scalar(size(batch)),
    }
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
    let mut logits = images_r.matmul(text.transpose());
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

#[expect(clippy::cast_precision_loss, reason = "batches are far below 2^24")]
fn size(rows: usize) -> f32 {
    rows as f32
}

/// `ln(Σ exp(x))` along `dim`, which stays with size 1; safe for large `x`.
fn log_sum_exp(x: Tensor<2>, dim: usize) -> Tensor<2> {
    let max = x.clone().detach().max_dim(dim);
    (x - max.clone()).exp().sum_dim(dim).log() + max
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn scalar(tensor: Tensor<1>) -> f32 {
        tensor.into_scalar()
    }

    fn features(image: Tensor<2>, text: Tensor<2>, factor: f32, bias: Option<f32>) -> Features {
        let device = image.device();
        Features {
            image,
            text,
            logit_scale: Tensor::from_floats([factor.ln()], &device),
            logit_bias: bias.map(|bias| Tensor::from_floats([bias], &device)),
        }
    }

    /// With scale 2 the logits are [[1.2, 0.0], [1.6, 2.0]].
    fn two_pairs(bias: Option<f32>) -> Features {
        let device = Device::flex();
        let images = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        let texts = Tensor::<2>::from_floats([[0.6, 0.8], [0.0, 1.0]], &device);
        features(images, texts, 2.0, bias)
    }

    #[test]
    fn identical_features_cost_the_log_of_the_batch() {
        let same = Tensor::<2>::from_floats([[1.0, 0.0]; 4], &Device::flex());
        let loss = scalar(Loss::default().forward(features(same.clone(), same, 20.0, None)));
        assert!((loss - 4f32.ln()).abs() < 1e-5, "{loss}");
    }

    #[test]
    fn a_pair_worked_out_by_hand() {
        let nll = |own: f32, other: f32| (own.exp() + other.exp()).ln() - own;
        let per_image = f32::midpoint(nll(1.2, 0.0), nll(2.0, 1.6));
        let per_text = f32::midpoint(nll(1.2, 1.6), nll(2.0, 0.0));
        let loss = scalar(Loss::default().forward(two_pairs(None)));
        assert!(
            (loss - f32::midpoint(per_image, per_text)).abs() < 1e-6,
            "{loss}"
        );
    }

    #[test]
    fn smoothed_targets_worked_out_by_hand() {
        // 0.9 + 0.05 on the own class, 0.05 on the other.
        let nll = |own: f32, other: f32| (own.exp() + other.exp()).ln() - 0.95 * own - 0.05 * other;
        let all = nll(1.2, 0.0) + nll(2.0, 1.6) + nll(1.2, 1.6) + nll(2.0, 0.0);
        let smooth = Loss::Softmax(SoftmaxLoss {
            label_smoothing: 0.1,
        });
        let loss = scalar(smooth.forward(two_pairs(None)));
        assert!((loss - all / 4.0).abs() < 1e-6, "{loss}");
        let too_much = Loss::Softmax(SoftmaxLoss {
            label_smoothing: 1.0,
        });
        assert_eq!(too_much.problems()[0].0, "label_smoothing");
    }

    #[test]
    fn every_pair_counts_by_itself_in_the_sigmoid_loss() {
        // With bias -1 the logits are [[0.2, -1.0], [0.6, 1.0]].
        let nll = |signed: f32| (1.0 + (-signed).exp()).ln();
        let expected = (nll(0.2) + nll(1.0) + nll(-0.6) + nll(1.0)) / 2.0;
        let loss = scalar(Loss::Sigmoid(SigmoidLoss {}).forward(two_pairs(Some(-1.0))));
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    }

    #[test]
    fn large_scales_stay_finite() {
        let images = Tensor::<2>::from_floats([[1.0, 0.0], [-1.0, 0.0]], &Device::flex());
        let far = features(images.clone(), images, 10f32.exp(), None);
        let loss = scalar(Loss::default().forward(far));
        assert!(loss.abs() < 1e-6, "{loss}");
    }

    /// Distinct rows without a pattern.
    fn scattered(rows: usize, phase: f32) -> Tensor<2> {
        let angles = Tensor::<1, Int>::arange(0..i64::try_from(rows).unwrap(), &Device::flex());
        let angles = angles.float().mul_scalar(2.4) + phase;
        Tensor::stack(vec![angles.clone().cos(), angles.sin()], 1)
    }

    fn close<const D: usize>(ours: Tensor<D>, theirs: Tensor<D>) {
        let gap: f32 = (ours - theirs.clone()).square().sum().sqrt().into_scalar();
        let norm: f32 = theirs.square().sum().sqrt().into_scalar();
        assert!(gap <= 1e-6 * norm, "{gap} of {norm}");
    }

    #[test]
    fn chunks_add_up_to_the_whole_batch_and_its_gradients() {
        let smooth = Loss::Softmax(SoftmaxLoss {
            label_smoothing: 0.2,
        });
        let sigmoid = Loss::Sigmoid(SigmoidLoss {});
        for (loss, bias) in [
            (Loss::default(), None),
            (smooth, None),
            (sigmoid, Some(-2.0)),
        ] {
            let features = features(scattered(10, 0.0), scattered(10, 0.3), 5.0, bias);
            let whole = loss.gradients(0..10, &features, 10);
            close(whole.loss.clone(), loss.forward(features.clone()));
            // Ten rows in chunks of four, and on two ranks.
            let ranks = [0..5, 5..10].map(|rows| loss.gradients(rows, &features, 2));
            let [first, second] = ranks;
            for parts in [loss.gradients(0..10, &features, 4), first.plus(second)] {
                close(parts.loss, whole.loss.clone());
                close(parts.image, whole.image.clone());
                close(parts.text, whole.text.clone());
                close(parts.logit_scale, whole.logit_scale.clone());
                if let (Some(ours), Some(theirs)) = (parts.logit_bias, &whole.logit_bias) {
                    close(ours, theirs.clone());
                }
            }
        }
    }

    /// Reference values from `torch.nn.functional.cross_entropy`, for two rows of a batch of four.
    #[test]
    fn class_cross_entropy_matches_torch() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]], &device);
        let labels = Tensor::<1, Int>::from_ints([0, 2], &device);
        let found = class_cross_entropy(logits, labels, 0.1, 4);
        let loss: f32 = found.loss.into_scalar();
        assert!((loss - 0.857_100_8).abs() < 1e-6, "{loss}");
        let gradient = found.logits.into_data().try_to_vec::<f32>().unwrap();
        for (own, torchs) in gradient
            .iter()
            .zip([-0.2108, 0.0528, 0.1580, 0.1283, 0.0222, -0.1505])
        {
            assert!((own - torchs).abs() < 6e-5, "{gradient:?}");
        }
    }
}
