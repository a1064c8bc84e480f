use burn::backend::DispatchTensor;
use burn::tensor::{DType, Tensor};

use super::{narrow, rows, sum_of_rows, widen};
#[cfg(feature = "_cube")]
use crate::cube;
use crate::graph::Composed;

/// Normalises the last dimension of `x` of rank `D`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerNorm<const D: usize> {
    pub eps: f64,
    /// Of the output.
    pub dtype: DType,
}

#[derive(Debug, Clone)]
pub(crate) struct Saved<const D: usize> {
    rows: SavedRows<D>,
    gain: Tensor<1>,
    dtype: DType,
    bias_dtype: DType,
}

#[derive(Debug, Clone)]
#[cfg_attr(
    feature = "_cube",
    allow(clippy::large_enum_variant, reason = "there is one for each norm")
)]
enum SavedRows<const D: usize> {
    Normalized {
        normalized: Tensor<D>,
        /// The inverse standard deviation of each row, `[…, 1]`.
        inverse: Tensor<D>,
    },
    /// For the kernel.
    #[cfg(feature = "_cube")]
    Given {
        x: Tensor<D>,
        mean: Tensor<1>,
        inverse: Tensor<1>,
    },
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
        let (dtype, bias_dtype) = (x.dtype(), bias.dtype());
        let saved = |rows, gain| Saved {
            rows,
            gain,
            dtype,
            bias_dtype,
        };
        #[cfg(feature = "_cube")]
        if let Some((output, rows)) = self.on_cube(&x, &gain, &bias) {
            return (output, saved(rows, gain));
        }
        let (bias, x) = (widen(bias), widen(x));
        let mean = x.clone().mean_dim(D - 1);
        let centered = x - mean;
        let variance = centered.clone().square().mean_dim(D - 1);
        let inverse = variance.add_scalar(self.eps).sqrt().recip();
        let normalized = centered * inverse.clone();
        let scaled = normalized.clone() * widen(gain.clone()).unsqueeze();
        let output = narrow(scaled + bias.unsqueeze(), self.dtype);
        let rows = SavedRows::Normalized {
            normalized,
            inverse,
        };
        (output.into_dispatch(), saved(rows, gain))
    }

    fn backward(
        &self,
        saved: Saved<D>,
        gradient: DispatchTensor,
        wanted: [bool; 3],
    ) -> [Option<DispatchTensor>; 3] {
        gradients(saved, gradient, None, wanted)
    }
}

/// The gradients of x, gain and bias.
/// - gradient: of the output.
/// - onto: what else reaches x, in its dtype: its gradient is the sum of both.
pub(super) fn gradients<const D: usize>(
    saved: Saved<D>,
    gradient: DispatchTensor,
    onto: Option<Tensor<D>>,
    [wants_x, wants_gain, wants_bias]: [bool; 3],
) -> [Option<DispatchTensor>; 3] {
    let Saved {
        rows: saved,
        gain,
        dtype,
        bias_dtype,
    } = saved;
    let (gradient, gain_dtype): (Tensor<D>, _) = (Tensor::from_dispatch(gradient), gain.dtype());
    let (normalized, inverse) = match saved {
        SavedRows::Normalized {
            normalized,
            inverse,
        } => (normalized, inverse),
        #[cfg(feature = "_cube")]
        SavedRows::Given { x, mean, inverse } => {
            let wanted = [wants_x, wants_gain || wants_bias];
            let found = gradients_on_cube(&x, [&mean, &inverse], &gain, &gradient, onto, wanted);
            let (of_x, [of_gain, of_bias]) = found;
            return [
                of_x.map(Tensor::into_dispatch),
                of_gain.map(|of_gain| narrow(of_gain, gain_dtype).into_dispatch()),
                of_bias.map(|of_bias| narrow(of_bias, bias_dtype).into_dispatch()),
            ];
        }
    };
    let gradient = widen(gradient);
    let of_x = wants_x.then(|| {
        let scaled = gradient.clone() * widen(gain).unsqueeze();
        let mean = scaled.clone().mean_dim(D - 1);
        let along = (scaled.clone() * normalized.clone()).mean_dim(D - 1);
        let of_x = narrow(
            (scaled - mean - normalized.clone() * along) * inverse,
            dtype,
        );
        match onto {
            Some(onto) => (of_x + onto).into_dispatch(),
            None => of_x.into_dispatch(),
        }
    });
    let sum = |x: Tensor<D>, dtype| sum_of_rows(rows(x), dtype).into_dispatch();
    [
        of_x,
        wants_gain.then(|| sum(gradient.clone() * normalized, gain_dtype)),
        wants_bias.then(|| sum(gradient, bias_dtype)),
    ]
}

#[cfg(feature = "_cube")]
impl<const D: usize> LayerNorm<D> {
    fn on_cube(
        &self,
        x: &Tensor<D>,
        gain: &Tensor<1>,
        bias: &Tensor<1>,
    ) -> Option<(DispatchTensor, SavedRows<D>)> {
        if gain.dtype() != bias.dtype() {
            return None;
        }
        let [gain, bias] = [cube::on_cube(gain)?, cube::on_cube(bias)?];
        let dense = cube::on_cube(x)?;
        let found = cube::layer_norm(&dense, &gain, bias, self.eps, self.dtype);
        let rows = SavedRows::Given {
            x: cube::tensor(dense),
            mean: cube::tensor(found.mean),
            inverse: cube::tensor(found.inverse),
        };
        Some((cube::tensor::<D>(found.output).into_dispatch(), rows))
    }
}

/// The gradients of x, of gain and of bias, the latter in f32.
/// - wanted: that of x, those of gain and bias.
#[cfg(feature = "_cube")]
fn gradients_on_cube<const D: usize>(
    x: &Tensor<D>,
    rows: [&Tensor<1>; 2],
    gain: &Tensor<1>,
    gradient: &Tensor<D>,
    onto: Option<Tensor<D>>,
    wanted: [bool; 2],
) -> (Option<Tensor<D>>, [Option<Tensor<1>>; 2]) {
    let known = "what the forward pass saved is there";
    let [mean, inverse] = rows.map(|row| cube::on_cube(row).expect(known));
    let x = cube::on_cube(x).expect(known);
    let gain = cube::on_cube(gain).expect(known);
    let there = "a gradient is where its output is";
    let gradient = cube::on_cube(gradient).expect(there);
    let onto = onto.map(|onto| cube::on_cube(&onto).expect(there));
    let (of_x, of_others) = cube::layer_norm_gradients(
        &x,
        [&mean, &inverse],
        &gain,
        &gradient,
        onto.as_ref(),
        wanted,
    );
    let width = gain.meta.num_elements();
    let row = |at: usize| -> Option<Tensor<1>> {
        let both: Tensor<2> = cube::tensor(of_others.clone()?);
        Some(both.reshape([2, width]).narrow(0, at, 1).squeeze_dim(0))
    };
    (of_x.map(cube::tensor), [row(0), row(1)])
}
