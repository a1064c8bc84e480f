//! Layer normalisation.

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, bf16, module};
use burn_flex::FlexTensor;

use crate::composed;
use crate::fresh::fresh;
use crate::graph::{Kernel, apply, compose, is_supported};
use crate::linear::add_to;
use crate::math::{dot, squares, sum, wide};
use crate::values::{Dense, Value, tensor};

/// Rows that one task normalises.
const ROWS: usize = 16;

/// Normalises over the last dimension.
/// - x: `[…, width]`; gain, bias: `[width]`; returns the shape of `x`.
/// - eps: added to the variance.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
) -> Tensor<D> {
    let dtype = x.dtype();
    layer_norm_as(x, gain, bias, eps, dtype)
}

/// As [`layer_norm`].
/// - dtype: of the output.
pub fn layer_norm_as<const D: usize>(
    x: Tensor<D>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
    dtype: DType,
) -> Tensor<D> {
    let fits = is_supported(&x)
        && is_supported(&gain)
        && is_supported(&bias)
        && [DType::F32, DType::BF16].contains(&dtype);
    if !fits {
        let [of_x, of_gain, of_bias] = [
            x.clone().into_dispatch(),
            gain.clone().into_dispatch(),
            bias.clone().into_dispatch(),
        ];
        let composed = compose(
            composed::LayerNorm::<D> { eps, dtype },
            [&of_x, &of_gain, &of_bias],
        );
        return composed.unwrap_or_else(|| {
            let output = module::layer_norm(x, gain, Some(bias), eps);
            if dtype == output.dtype() {
                output
            } else {
                output.cast(dtype)
            }
        });
    }
    let inputs = [
        x.into_dispatch(),
        gain.into_dispatch(),
        bias.into_dispatch(),
    ];
    if dtype == DType::F32 {
        apply(LayerNorm::<f32>::new(eps), inputs).0
    } else {
        apply(LayerNorm::<bf16>::new(eps), inputs).0
    }
}

/// - O: the dtype of the output.
#[derive(Debug, Clone, Copy)]
struct LayerNorm<O> {
    eps: f64,
    output: PhantomData<O>,
}

impl<O> LayerNorm<O> {
    fn new(eps: f64) -> Self {
        Self {
            eps,
            output: PhantomData,
        }
    }
}

/// The parameters of a norm.
#[derive(Debug, Clone)]
pub(crate) struct Norm {
    gain: Dense,
    bias: Dense,
    eps: f32,
}

/// Mean and inverse standard deviation of each row.
#[derive(Debug, Clone)]
pub(crate) struct Moments(Vec<(f32, f32)>);

/// Gradients of x, gain and bias.
pub(crate) struct NormGradients {
    pub x: Vec<f32>,
    pub gain: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Norm {
    #[expect(clippy::cast_possible_truncation, reason = "as wide as the values")]
    pub fn new(gain: FlexTensor, bias: FlexTensor, eps: f64) -> Self {
        let [gain, bias] = [gain, bias].map(Dense::new);
        assert_eq!(gain.shape(), bias.shape(), "a norm's width");
        Self {
            gain,
            bias,
            eps: eps as f32,
        }
    }

    pub fn width(&self) -> usize {
        self.gain.values().len()
    }

    /// - x: rows; returns them normalised.
    #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    pub fn forward<O: Value>(&self, x: &[f32]) -> (Vec<O>, Moments) {
        let width = self.width() as f32;
        self.normalize(
            x,
            #[inline(always)]
            |_, row| {
                let mean = sum(row) / width;
                let inverse = (squares(row, mean) / width + self.eps).sqrt().recip();
                (mean, inverse)
            },
        )
    }

    /// The output of [`Self::forward`] once more.
    pub fn again<O: Value>(&self, x: &[f32], Moments(moments): &Moments) -> Vec<O> {
        self.normalize(
            x,
            #[inline(always)]
            |at, _| moments[at],
        )
        .0
    }

    /// - moments: takes the number of a row and the row.
    #[inline(always)]
    fn normalize<O: Value>(
        &self,
        x: &[f32],
        moments: impl Fn(usize, &[f32]) -> (f32, f32) + Sync,
    ) -> (Vec<O>, Moments) {
        let width = self.width();
        let (gains, biases) = (self.gain.values(), self.bias.values());
        let task = |at: usize, out: &mut [O]| {
            let mut seen = [(0.0, 0.0); ROWS];
            wide(
                #[inline(always)]
                || {
                    let rows = out
                        .chunks_exact_mut(width)
                        .zip(x[at * ROWS * width..].chunks_exact(width))
                        .zip(&mut seen);
                    for (row, ((out, x), seen)) in rows.enumerate() {
                        let (mean, inverse) = moments(at * ROWS + row, x);
                        *seen = (mean, inverse);
                        let lines = gains.iter().zip(biases);
                        for ((out, x), (gain, bias)) in out.iter_mut().zip(x).zip(lines) {
                            *out = O::narrow((x - mean) * inverse * gain + bias);
                        }
                    }
                },
            );
            seen
        };
        let (out, seen) = fresh(x.len(), ROWS * width, task);
        (out, Moments(seen.into_iter().flatten().collect()))
    }

    /// - gradient: of the output.
    /// - plus: is added to the gradient of x.
    #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    pub fn gradients<O: Value>(
        &self,
        values: &[f32],
        Moments(moments): &Moments,
        gradients: &[O],
        plus: Option<&[f32]>,
    ) -> NormGradients {
        let width = self.width();
        let gains = self.gain.values();
        // What each task adds to the gradients of gain and bias.
        let part = |at: usize, of_x: &mut [f32]| {
            let from = at * ROWS * width;
            let (mut of_gain, mut of_bias) = (vec![0.0; width], vec![0.0; width]);
            let mut normal = vec![0.0; width];
            wide(
                #[inline(always)]
                || {
                    let rows = (of_x.chunks_exact_mut(width))
                        .zip(values[from..].chunks_exact(width))
                        .zip(gradients[from..].chunks_exact(width))
                        .zip(&moments[at * ROWS..]);
                    for (row, (((of_x, x), gradient), (mean, inverse))) in rows.enumerate() {
                        for (at, normal) in normal.iter_mut().enumerate() {
                            *normal = (x[at] - mean) * inverse;
                            let gradient = gradient[at].wide();
                            of_gain[at] += gradient * *normal;
                            of_bias[at] += gradient;
                            of_x[at] = gradient * gains[at];
                        }
                        let mean = sum(of_x) / width as f32;
                        let along = dot(of_x, &normal) / width as f32;
                        for (of_x, normal) in of_x.iter_mut().zip(&normal) {
                            *of_x = (*of_x - mean - normal * along) * inverse;
                        }
                        if let Some(plus) = plus {
                            add_to(of_x, &plus[from + row * width..][..width]);
                        }
                    }
                },
            );
            (of_gain, of_bias)
        };
        let (of_x, parts) = fresh(values.len(), ROWS * width, part);
        let (mut of_gain, mut of_bias) = (vec![0.0; width], vec![0.0; width]);
        for (gain, bias) in &parts {
            add_to(&mut of_gain, gain);
            add_to(&mut of_bias, bias);
        }
        NormGradients {
            x: of_x,
            gain: of_gain,
            bias: of_bias,
        }
    }
}

#[derive(Debug, Clone)]
struct Saved {
    x: Dense,
    norm: Norm,
    moments: Moments,
}

impl<O: Value> Kernel<Flex, 3> for LayerNorm<O> {
    type Saved = Saved;

    fn forward(&self, [x, gain, bias]: [FlexTensor; 3]) -> (FlexTensor, Saved) {
        let (x, norm) = (Dense::new(x), Norm::new(gain, bias, self.eps));
        assert_eq!(x.width(), norm.width(), "a norm's width");
        let (out, moments) = norm.forward::<O>(x.values());
        (tensor(out, x.shape()), Saved { x, norm, moments })
    }

    fn backward(
        &self,
        Saved { x, norm, moments }: Saved,
        gradient: FlexTensor,
        [wants_x, wants_gain, wants_bias]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let gradient = Dense::<O>::new(gradient);
        let found = norm.gradients(x.values(), &moments, gradient.values(), None);
        let width = [norm.width()];
        [
            wants_x.then(|| tensor(found.x, x.shape())),
            wants_gain.then(|| tensor(found.gain, &width)),
            wants_bias.then(|| tensor(found.bias, &width)),
        ]
    }
}
