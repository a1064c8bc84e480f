//! The token that becomes a sequence's feature.

use burn::tensor::{Int, Tensor};

/// The token that a tower pools.
#[expect(clippy::large_enum_variant, reason = "made once a forward pass")]
pub(crate) enum Token {
    /// The first of every sequence.
    First,
    /// The last of every sequence.
    Last,
    /// One index for each sequence, `[batch]`.
    At(Tensor<1, Int>),
}

impl Token {
    /// - x: `[batch, tokens, width]`; returns `[batch, 1, width]`.
    pub fn pick(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        match self {
            Self::First => x.narrow(1, 0, 1),
            Self::Last => x.narrow(1, tokens - 1, 1),
            Self::At(token_b) => {
                let rows = i64::try_from(batch * tokens).expect("a batch's tokens fit in i64");
                let options = (&x.device(), token_b.dtype());
                let first_b = Tensor::<1, Int>::arange_step(0..rows, tokens, options);
                x.reshape([batch * tokens, width])
                    .select(0, first_b + token_b.clone())
                    .reshape([batch, 1, width])
            }
        }
    }

    /// The mask's row of each sequence's token, `[batch or 1, 1, 1, tokens]`.
    pub fn pick_mask(&self, mask: &Tensor<4>) -> Tensor<4> {
        let tokens = mask.dims()[3];
        match self {
            Self::First => mask.clone().narrow(2, 0, 1),
            Self::Last => mask.clone().narrow(2, tokens - 1, 1),
            Self::At(token_b) => {
                let batch = token_b.dims()[0];
                let rows = mask.clone().reshape([tokens, tokens]);
                rows.select(0, token_b.clone())
                    .reshape([batch, 1, 1, tokens])
            }
        }
    }
}
