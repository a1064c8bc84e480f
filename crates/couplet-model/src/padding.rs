//! Texts of several lengths in one batch, of encoders that look at no padding.

use burn::tensor::{Int, Tensor};

/// Added to the score of a token that is not looked at: finite, so that a query that sees no token has no NaN.
pub(crate) const HIDDEN: f32 = f32::MIN;

/// 1 for each token, 0 for padding.
/// - ids: `[batch, tokens]`; returns the same shape.
pub(crate) fn is_token(ids: &Tensor<2, Int>, pad_id: u32) -> Tensor<2, Int> {
    ids.clone().not_equal_elem(pad_id).int()
}

/// Hides padding.
/// - ids: `[batch, tokens]`; x: of the same texts.
/// - returns what is added to scores, `[batch, 1, 1, tokens]` of the dtype of x.
pub(crate) fn padding_mask(ids: &Tensor<2, Int>, pad_id: u32, x: &Tensor<3>) -> Tensor<4> {
    let [batch, tokens] = ids.dims();
    let is_pad = ids.clone().equal_elem(pad_id).float();
    let mask = is_pad.mul_scalar(HIDDEN).reshape([batch, 1, 1, tokens]);
    mask.cast(x.dtype())
}

/// The mean of each text's tokens without its padding.
/// - x: `[batch, tokens, width]`; returns `[batch, width]`.
pub(crate) fn mean_of_tokens(x: Tensor<3>, ids: &Tensor<2, Int>, pad_id: u32) -> Tensor<2> {
    let [batch, tokens] = ids.dims();
    let weights = is_token(ids, pad_id).float().cast(x.dtype());
    let weights = weights.reshape([batch, tokens, 1]);
    let count = weights.clone().sum_dim(1).clamp_min(1.0);
    ((x * weights).sum_dim(1) / count).squeeze_dim(1)
}
