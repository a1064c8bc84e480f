//! Linear layers.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, module};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::composed;
use crate::graph::{Kernel, apply, compose, is_supported};
use crate::math::wide;
use crate::product::{Before, Matrix, product};
use crate::values::{Dense, tensor};

/// Rows that one task sums or adds to.
const ROWS: usize = 64;

/// `y = x Wᵀ + b`.
/// - x: `[…, in]`; weight: `[out, in]`; bias: `[out]`; returns `[…, out]`.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let dtype = x.dtype();
    linear_as(x, weight, bias, dtype)
}

/// As [`linear`], of inputs of any dtypes.
/// - dtype: in which they are multiplied, and of the output. Gradients have the inputs' dtypes.
pub fn linear_as<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    dtype: DType,
) -> Tensor<D> {
    let is_wide = dtype == DType::F32;
    if !is_wide
        || !is_supported(&x)
        || !is_supported(&weight)
        || !bias.as_ref().is_none_or(is_supported)
    {
        return composed_linear(x, weight, bias, dtype);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    match bias {
        Some(bias) => apply(Linear, [x, weight, bias.into_dispatch()]).0,
        None => apply(Linear, [x, weight]).0,
    }
}

fn composed_linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    dtype: DType,
) -> Tensor<D> {
    let inputs = [x.clone().into_dispatch(), weight.clone().into_dispatch()];
    let composed = match &bias {
        Some(bias) => {
            let [x, weight] = &inputs;
            let bias = bias.clone().into_dispatch();
            let operation = composed::BiasedLinear::<D> { dtype };
            compose(operation, [x, weight, &bias])
        }
        None => compose(composed::Linear::<D> { dtype }, inputs.each_ref()),
    };
    composed.unwrap_or_else(|| {
        let bias = bias.map(|bias| bias.cast(dtype));
        module::linear(x.cast(dtype), weight.cast(dtype).transpose(), bias)
    })
}

#[derive(Debug, Clone, Copy)]
struct Linear;

impl Linear {
    fn product(x: &Dense, weight: &Dense) -> Vec<f32> {
        let [outputs, inputs] = *weight.shape() else {
            unreachable!("a weight is a matrix");
        };
        let rows = x.values().len() / inputs;
        let mut out = vec![0.0; rows * outputs];
        let left = Matrix::new(x.values(), rows, inputs);
        let right = Matrix::new(weight.values(), outputs, inputs).transposed();
        product(&mut out, outputs, Before::Overwrite, left, right);
        out
    }

    fn gradients(
        x: &Dense,
        weight: &Dense,
        gradient: &Dense,
        [wants_x, wants_weight]: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let [outputs, inputs] = *weight.shape() else {
            unreachable!("a weight is a matrix");
        };
        let rows = x.values().len() / inputs;
        let out = Matrix::new(gradient.values(), rows, outputs);
        let of_x = wants_x.then(|| {
            let mut of_x = vec![0.0; rows * inputs];
            let weight = Matrix::new(weight.values(), outputs, inputs);
            product(&mut of_x, inputs, Before::Overwrite, out, weight);
            tensor(of_x, x.shape())
        });
        let of_weight = wants_weight.then(|| {
            let mut of_weight = vec![0.0; outputs * inputs];
            let x = Matrix::new(x.values(), rows, inputs);
            let out = out.transposed();
            product(&mut of_weight, inputs, Before::Overwrite, out, x);
            tensor(of_weight, weight.shape())
        });
        [of_x, of_weight]
    }
}

impl Kernel<Flex, 2> for Linear {
    /// x and weight
    type Saved = (Dense, Dense);

    fn forward(&self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        let (x, weight) = (Dense::new(x), Dense::new(weight));
        let out = Self::product(&x, &weight);
        (tensor(out, &shape(&x, &weight)), (x, weight))
    }

    fn backward(
        &self,
        (x, weight): Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        Self::gradients(&x, &weight, &Dense::new(gradient), wanted)
    }
}

impl Kernel<Flex, 3> for Linear {
    /// x and weight
    type Saved = (Dense, Dense);

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        let (x, weight, bias) = (Dense::new(x), Dense::new(weight), Dense::new(bias));
        let mut out = Self::product(&x, &weight);
        let bias = bias.values();
        assert_eq!(
            bias.len(),
            weight.shape()[0],
            "a bias is as long as the output"
        );
        out.par_chunks_mut(ROWS * bias.len()).for_each(|rows| {
            wide(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact_mut(bias.len()) {
                        add_to(row, bias);
                    }
                },
            );
        });
        (tensor(out, &shape(&x, &weight)), (x, weight))
    }

    fn backward(
        &self,
        (x, weight): Self::Saved,
        gradient: FlexTensor,
        [wants_x, wants_weight, wants_bias]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let gradient = Dense::new(gradient);
        let [of_x, of_weight] = Self::gradients(&x, &weight, &gradient, [wants_x, wants_weight]);
        let of_bias = wants_bias.then(|| {
            let outputs = gradient.width();
            tensor(sum_of_rows(gradient.values(), outputs), &[outputs])
        });
        [of_x, of_weight, of_bias]
    }
}

fn shape(x: &Dense, weight: &Dense) -> Vec<usize> {
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("x has a last dimension") = weight.shape()[0];
    shape
}

/// The sum of all rows; the order of additions does not depend on the number of cores.
/// - values: rows of `width`.
pub(crate) fn sum_of_rows(values: &[f32], width: usize) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = (values.par_chunks(ROWS * width))
        .map(|rows| {
            let mut sum = vec![0.0; width];
            wide(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact(width) {
                        add_to(&mut sum, row);
                    }
                },
            );
            sum
        })
        .collect();
    let mut sum = vec![0.0; width];
    for part in &parts {
        add_to(&mut sum, part);
    }
    sum
}

/// Adds `part` to `sum`, value by value.
#[inline(always)]
pub(crate) fn add_to(sum: &mut [f32], part: &[f32]) {
    for (sum, part) in sum.iter_mut().zip(part) {
        *sum += part;
    }
}
