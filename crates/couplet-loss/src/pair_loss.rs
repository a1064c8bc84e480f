//! What a training step asks of a loss, and its gradients by rows.

use std::fmt;
use std::ops::Range;

use burn::tensor::{Gradients, Tensor};

use crate::features::{FeatureGradients, Features, size};

/// A loss over the features of a whole batch: a function of these and of nothing else, the same for the same
/// features. It never sees the model. A training step gives it the features of all micro-batches as leaves of
/// a graph of their own, so its gradients are exact for any `batch.micro`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use couplet_loss::{Features, PairLoss, gradients};
///
/// /// The mean distance of the two features of a pair.
/// struct Distance;
///
/// impl PairLoss for Distance {
///     fn name(&self) -> &str {
///         "distance"
///     }
///
///     fn forward(&self, features: Features) -> Tensor<1> {
///         let apart = features.image - features.text; // [batch, embed_dim]
///         apart.square().sum_dim(1).mean() // [1]
///     }
/// }
///
/// let device = Device::flex();
/// let features = Features {
///     image: Tensor::from_floats([[1.0, 0.0], [0.0, 1.0]], &device),
///     text: Tensor::from_floats([[0.6, 0.8], [0.0, 1.0]], &device),
///     logit_scale: Tensor::from_floats([0.0], &device),
///     logit_bias: None,
/// };
/// let found = gradients(&Distance, 0..2, &features, 64);
/// assert!((found.loss.into_scalar::<f32>() - 0.4).abs() < 1e-6);
/// assert_eq!(found.image.dims(), [2, 2]);
/// ```
pub trait PairLoss: Send + Sync {
    /// What configs and messages call the loss, such as `softmax`. A run that is resumed must be given a loss
    /// of the same name.
    fn name(&self) -> &str;

    /// The loss of a whole batch, `[1]`, in f32.
    fn forward(&self, features: Features) -> Tensor<1>;

    /// The part of the pairs `rows` in the loss of the whole batch, `[1]`; `None` if the loss is not a sum over
    /// pairs. The parts of disjoint rows that cover the batch sum to [`Self::forward`]. With them, no matrix
    /// has more than `batch.logit_rows` rows.
    fn forward_rows(&self, rows: Range<usize>, features: Features) -> Option<Tensor<1>> {
        let _ = (rows, features);
        None
    }

    /// The gradients of some pairs' features from formulas, where the loss has them. `None` has a training step
    /// differentiate [`Self::forward_rows`] or [`Self::forward`] and sum the features' gradients over ranks.
    fn local(&self) -> Option<&dyn LocalGradients> {
        None
    }

    /// The loss of `pairs` pairs whose features say nothing of each other, if it is known: a run whose loss
    /// stays there warns.
    fn chance(&self, pairs: usize) -> Option<f64> {
        let _ = pairs;
        None
    }
}

/// Gradients of the features of some pairs from formulas, without a graph. All that they need beyond the features
/// of the whole batch is a few numbers a pair. So each rank computes those of its own pairs, and no gradient of a
/// feature is exchanged.
///
/// The order of all sums depends on the rows and on `chunk` alone, and no matrix has more than `chunk` rows of
/// logits.
pub trait LocalGradients {
    /// What [`Self::gradients`] must know of every pair, here of the pairs `rows`: `[rows, numbers]`, as many
    /// numbers for every pair; `None` if nothing.
    /// - features: of the whole batch, without a graph.
    /// - chunk: rows of logits in memory at once.
    fn normalizers(
        &self,
        rows: Range<usize>,
        features: &Features,
        chunk: usize,
    ) -> Option<Tensor<2>>;

    /// The gradients of the loss of the whole batch with respect to the features of the pairs `rows`.
    /// - features, chunk: as in [`Self::normalizers`].
    /// - normalizers: of all pairs in their order, `[batch, numbers]`.
    /// - returns `image` and `text` of `[rows, embed_dim]`; `loss`, `logit_scale` and `logit_bias` are parts, which
    ///   sum over disjoint rows that cover the batch.
    ///
    /// # Panics
    /// If there are no rows, or `normalizers` is `None` where [`Self::normalizers`] is not.
    fn gradients(
        &self,
        rows: Range<usize>,
        features: &Features,
        normalizers: Option<Tensor<2>>,
        chunk: usize,
    ) -> FeatureGradients;
}

impl fmt::Debug for dyn PairLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairLoss({})", self.name())
    }
}

/// The parts of a batch's loss, each `[1]`, which sum to it: of `chunk` rows each, or one part if the loss is
/// not a sum over pairs.
pub fn parts(loss: &dyn PairLoss, features: &Features, chunk: usize) -> Vec<Tensor<1>> {
    let batch = features.image.dims()[0];
    let part = |rows| loss.forward_rows(rows, features.clone());
    let parts: Option<Vec<_>> = chunks(0..batch, chunk).map(part).collect();
    parts.unwrap_or_else(|| vec![loss.forward(features.clone())])
}

/// The part of the pairs `rows` in the loss of the whole batch, and its gradients, `chunk` rows of logits at a
/// time. Of a loss that is not a sum over pairs, it is a part as large as the share of the rows.
/// - features: of the whole batch, without a graph.
///
/// # Panics
/// If there are no rows, or the loss is not one number.
pub fn gradients(
    loss: &dyn PairLoss,
    rows: Range<usize>,
    features: &Features,
    chunk: usize,
) -> FeatureGradients {
    let mut sum: Option<FeatureGradients> = None;
    for part in chunks(rows.clone(), chunk) {
        let part = leaf_gradients(loss, features, |leaves| loss.forward_rows(part, leaves));
        let Some(part) = part else {
            let share = size(rows.len()) / size(features.image.dims()[0]);
            let whole = leaf_gradients(loss, features, |leaves| {
                Some(loss.forward(leaves).mul_scalar(share))
            });
            return whole.expect("the closure gives a loss");
        };
        sum = Some(match sum {
            Some(sum) => sum.plus(part),
            None => part,
        });
    }
    sum.expect("there is at least one row")
}

/// `rows` in pieces of at most `chunk`.
pub(crate) fn chunks(rows: Range<usize>, chunk: usize) -> impl Iterator<Item = Range<usize>> {
    let end = rows.end;
    rows.step_by(chunk)
        .map(move |start| start..end.min(start + chunk))
}

/// The gradients of what `forward` makes of leaves; `None` if it makes nothing.
fn leaf_gradients(
    loss: &dyn PairLoss,
    features: &Features,
    forward: impl FnOnce(Features) -> Option<Tensor<1>>,
) -> Option<FeatureGradients> {
    let leaves = Features {
        image: leaf(&features.image),
        text: leaf(&features.text),
        logit_scale: leaf(&features.logit_scale),
        logit_bias: features.logit_bias.as_ref().map(leaf),
    };
    let value = forward(leaves.clone())?;
    let shape = value.dims();
    assert_eq!(shape, [1], "the loss `{}` is not one number", loss.name());
    let grads = value.backward();
    Some(FeatureGradients {
        loss: value.inner(),
        image: grad(&leaves.image, &grads),
        text: grad(&leaves.text, &grads),
        logit_scale: grad(&leaves.logit_scale, &grads),
        logit_bias: leaves.logit_bias.map(|bias| grad(&bias, &grads)),
    })
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
