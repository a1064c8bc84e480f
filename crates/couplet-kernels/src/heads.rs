//! Heads of an attention, side by side in the width of a tensor or one after the other.

use burn::tensor::Tensor;

/// - x: `[batch, tokens, heads * head_width]`; returns `[batch, heads, tokens, head_width]`.
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, tokens, width] = x.dims();
    x.reshape([batch, tokens, heads, width / heads])
        .swap_dims(1, 2)
}

/// The inverse of [`split_heads`].
pub fn merge_heads(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, head_width] = x.dims();
    x.swap_dims(1, 2)
        .reshape([batch, tokens, heads * head_width])
}
