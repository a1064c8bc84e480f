use burn::backend::DispatchTensor;
use burn::tensor::{DType, Tensor};

use super::{narrow, rows, sum_of_rows, widen};
use crate::graph::Composed;

/// Normalises the last dimension of `x` of rank `D`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerNorm<const D: usize> {
    pub eps: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Saved<const D: usize> {
    normalized: Tensor<D>,
    /// The inverse standard deviation of each row, `[…, 1]`.
    inverse: Tensor<D>,
    gain: Tensor<1>,
    bias_dtype: DType,
}

impl<const D: usize> Composed<3> for LayerNorm<D> {
    type Saved = Saved<D>;

    fn forward(&self, [x, gain, bias]: [DispatchTensor; 3]) -> (DispatchTensor, Saved<D>) {
        let x: Tensor<D> = Tensor::from_dispatch(x);
        let gain: Tensor<1> = Tensor::from_dispatch(gain);
        let bias: Tensor<1> = Tensor::from_dispatch(bias);
        let width = [x.dims()[D - 1]];
        assert!(
            gain.dims() == width && bias.dims() == width,
            "a norm's width"
        );
        let (bias_dtype, bias) = (bias.dtype(), widen(bias));
        let (dtype, x) = (x.dtype(), widen(x));
        let mean = x.clone().mean_dim(D - 1);
        let centered = x - mean;
        let variance = centered.clone().square().mean_dim(D - 1);
        let inverse = variance.add_scalar(self.eps).sqrt().recip();
        let normalized = centered * inverse.clone();
        let scaled = normalized.clone() * widen(gain.clone()).unsqueeze();
        let output = narrow(scaled + bias.unsqueeze(), dtype);
        let saved = Saved {
            normalized,
            inverse,
            gain,
            bias_dtype,
        };
        (output.into_dispatch(), saved)
    }

    fn backward(
        &self,
        saved: Saved<D>,
        gradient: DispatchTensor,
        [wants_x, wants_gain, wants_bias]: [bool; 3],
    ) -> [Option<DispatchTensor>; 3] {
        let Saved {
            normalized,
            inverse,
            gain,
            bias_dtype,
        } = saved;
        let gradient: Tensor<D> = Tensor::from_dispatch(gradient);
        let (dtype, gain_dtype) = (gradient.dtype(), gain.dtype());
        let gradient = widen(gradient);
        let of_x = wants_x.then(|| {
            let scaled = gradient.clone() * widen(gain).unsqueeze();
            let mean = scaled.clone().mean_dim(D - 1);
            let along = (scaled.clone() * normalized.clone()).mean_dim(D - 1);
            let of_x = (scaled - mean - normalized.clone() * along) * inverse;
            narrow(of_x, dtype).into_dispatch()
        });
        let sum = |x: Tensor<D>, dtype| narrow(sum_of_rows(rows(x)), dtype).into_dispatch();
        [
            of_x,
            wants_gain.then(|| sum(gradient.clone() * normalized, gain_dtype)),
            wants_bias.then(|| sum(gradient, bias_dtype)),
        ]
    }
}
