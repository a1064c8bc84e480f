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
    #[expect(clippy::cast_possible_truncation, reason = "as wide as the values")]
    let eps = eps as f32;
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
    eps: f32,
    output: PhantomData<O>,
}

impl<O> LayerNorm<O> {
    fn new(eps: f32) -> Self {
        Self {
            eps,
            output: PhantomData,
        }
    }
}

#[derive(Debug, Clone)]
struct Saved {
    x: Dense,
    gain: Dense,
    /// Mean and inverse standard deviation of each row.
    rows: Vec<(f32, f32)>,
}

impl<O: Value> Kernel<Flex, 3> for LayerNorm<O> {
    type Saved = Saved;

    #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    fn forward(&self, [x, gain, bias]: [FlexTensor; 3]) -> (FlexTensor, Saved) {
        let [x, gain, bias] = [x, gain, bias].map(Dense::<f32>::new);
        let width = x.width();
        let (gains, biases) = (gain.values(), bias.values());
        assert!(
            gains.len() == width && biases.len() == width,
            "a norm's width"
        );
        let values = x.values();
        let normalize = |at: usize, out: &mut [O]| {
            let mut seen = [(0.0, 0.0); ROWS];
            wide(
                #[inline(always)]
                || {
                    let rows = out
                        .chunks_exact_mut(width)
                        .zip(values[at * ROWS * width..].chunks_exact(width))
                        .zip(&mut seen);
                    for ((out, x), row) in rows {
                        let mean = sum(x) / width as f32;
                        let inverse = (squares(x, mean) / width as f32 + self.eps).sqrt().recip();
                        *row = (mean, inverse);
                        for (((out, x), gain), bias) in out.iter_mut().zip(x).zip(gains).zip(biases)
                        {
                            *out = O::narrow((x - mean) * inverse * gain + bias);
                        }
                    }
                },
            );
            seen
        };
        let (out, seen) = fresh(values.len(), ROWS * width, normalize);
        let rows = seen.into_iter().flatten().collect();
        (tensor(out, x.shape()), Saved { x, gain, rows })
    }

    #[expect(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    fn backward(
        &self,
        Saved { x, gain, rows }: Saved,
        gradient: FlexTensor,
        [wants_x, wants_gain, wants_bias]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let gradient = Dense::<O>::new(gradient);
        let width = x.width();
        let gains = gain.values();
        let (values, gradients) = (x.values(), gradient.values());
        // What each task adds to the gradients of gain and bias.
        let part = |at: usize, of_x: &mut [f32]| {
            let from = at * ROWS * width;
            let (x, gradient, rows) = (&values[from..], &gradients[from..], &rows[at * ROWS..]);
            let (mut of_gain, mut of_bias) = (vec![0.0; width], vec![0.0; width]);
            let mut normal = vec![0.0; width];
            wide(
                #[inline(always)]
                || {
                    let rows = (of_x.chunks_exact_mut(width).zip(x.chunks_exact(width)))
                        .zip(gradient.chunks_exact(width))
                        .zip(rows);
                    for (((of_x, x), gradient), (mean, inverse)) in rows {
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
        [
            wants_x.then(|| tensor(of_x, x.shape())),
            wants_gain.then(|| tensor(of_gain, &[width])),
            wants_bias.then(|| tensor(of_bias, &[width])),
        ]
    }
}
