//! Linear layers.

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, bf16, module};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::composed;
use crate::graph::{Kernel, apply, compose, is_on_kernels};
use crate::math::wide;
use crate::product::{Before, Matrix, new_product};
use crate::values::{Dense, Value, tensor};

/// Rows that one task sums.
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
    let widths = [x.dtype(), weight.dtype(), dtype];
    let fits = is_on_kernels(&x)
        && is_on_kernels(&weight)
        && bias
            .as_ref()
            .is_none_or(|bias| is_on_kernels(bias) && bias.dtype() == DType::F32);
    if fits {
        const WIDE: DType = DType::F32;
        const NARROW: DType = DType::BF16;
        match widths {
            [WIDE, WIDE, WIDE] => return run::<f32, f32, f32, D>(x, weight, bias),
            [WIDE, WIDE, NARROW] => return run::<f32, f32, bf16, D>(x, weight, bias),
            [NARROW, WIDE, NARROW] => return run::<bf16, f32, bf16, D>(x, weight, bias),
            [NARROW, NARROW, NARROW] => return run::<bf16, bf16, bf16, D>(x, weight, bias),
            _ => {}
        }
    }
    composed_linear(x, weight, bias, dtype)
}

fn run<X: Value, W: Value, O: Value, const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    let kernel = Linear::<X, W, O>(PhantomData);
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    match bias {
        Some(bias) => apply(kernel, [x, weight, bias.into_dispatch()]).0,
        None => apply(kernel, [x, weight]).0,
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

/// - X, W, O: dtypes of x, of the weight and of the output, in the narrowest of which all is multiplied.
#[derive(Debug, Clone, Copy)]
struct Linear<X, W, O>(PhantomData<(X, W, O)>);

/// `before + x weightᵀ` of rows.
pub(crate) fn output<X: Value, W: Value, O: Value>(
    x: &[X],
    weight: &Dense<W>,
    before: Before,
) -> Vec<O> {
    let [outputs, inputs] = sizes(weight);
    let x = Matrix::new(x, x.len() / inputs, inputs);
    let weight = Matrix::new(weight.values(), outputs, inputs);
    new_product(before, x, weight.transposed())
}

/// - gradient: rows of the output's.
pub(crate) fn of_x<X: Value, W: Value, O: Value>(gradient: &[O], weight: &Dense<W>) -> Vec<X> {
    let [outputs, inputs] = sizes(weight);
    let gradient = Matrix::new(gradient, gradient.len() / outputs, outputs);
    let weight = Matrix::new(weight.values(), outputs, inputs);
    new_product(Before::Overwrite, gradient, weight)
}

/// - gradient: rows of the output's.
pub(crate) fn of_weight<X: Value, W: Value, O: Value>(
    gradient: &[O],
    x: &[X],
    weight: &Dense<W>,
) -> FlexTensor {
    let [outputs, inputs] = sizes(weight);
    let gradient = Matrix::new(gradient, gradient.len() / outputs, outputs);
    let x = Matrix::new(x, x.len() / inputs, inputs);
    let of_weight: Vec<W> = new_product(Before::Overwrite, gradient.transposed(), x);
    tensor(of_weight, weight.shape())
}

fn output_shape<X: Value, W: Value>(x: &Dense<X>, weight: &Dense<W>) -> Vec<usize> {
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("x has a last dimension") = sizes(weight)[0];
    shape
}

/// The gradient of a bias.
pub(crate) fn of_bias<O: Value>(gradient: &[O], outputs: usize) -> FlexTensor {
    tensor(sum_of_rows(gradient, outputs), &[outputs])
}

fn gradients<X: Value, W: Value, O: Value>(
    x: &Dense<X>,
    weight: &Dense<W>,
    gradient: &Dense<O>,
    [wants_x, wants_weight]: [bool; 2],
) -> [Option<FlexTensor>; 2] {
    let gradient = gradient.values();
    [
        wants_x.then(|| tensor(of_x::<X, W, O>(gradient, weight), x.shape())),
        wants_weight.then(|| of_weight(gradient, x.values(), weight)),
    ]
}

fn sizes<W: Value>(weight: &Dense<W>) -> [usize; 2] {
    <[usize; 2]>::try_from(weight.shape()).expect("a weight is a matrix")
}

impl<X: Value, W: Value, O: Value> Kernel<Flex, 2> for Linear<X, W, O> {
    /// x and weight
    type Saved = (Dense<X>, Dense<W>);

    fn forward(&self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        let (x, weight) = (Dense::new(x), Dense::new(weight));
        let out: Vec<O> = output(x.values(), &weight, Before::Overwrite);
        (tensor(out, &output_shape(&x, &weight)), (x, weight))
    }

    fn backward(
        &self,
        (x, weight): Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        gradients(&x, &weight, &Dense::<O>::new(gradient), wanted)
    }
}

impl<X: Value, W: Value, O: Value> Kernel<Flex, 3> for Linear<X, W, O> {
    /// x and weight
    type Saved = (Dense<X>, Dense<W>);

    fn forward(&self, [x, weight, bias]: [FlexTensor; 3]) -> (FlexTensor, Self::Saved) {
        let (x, weight, bias) = (Dense::new(x), Dense::new(weight), Dense::<f32>::new(bias));
        let out: Vec<O> = output(x.values(), &weight, Before::Bias(bias.values()));
        (tensor(out, &output_shape(&x, &weight)), (x, weight))
    }

    fn backward(
        &self,
        (x, weight): Self::Saved,
        gradient: FlexTensor,
        [wants_x, wants_weight, wants_bias]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let gradient = Dense::<O>::new(gradient);
        let [of_x, of_weight] = gradients(&x, &weight, &gradient, [wants_x, wants_weight]);
        let of_bias = wants_bias.then(|| of_bias(gradient.values(), gradient.width()));
        [of_x, of_weight, of_bias]
    }
}

/// The sum of all rows; the order of additions does not depend on the number of cores.
/// - values: rows of `width`.
pub(crate) fn sum_of_rows<E: Value>(values: &[E], width: usize) -> Vec<f32> {
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
pub(crate) fn add_to<E: Value>(sum: &mut [f32], part: &[E]) {
    for (sum, part) in sum.iter_mut().zip(part) {
        *sum += part.wide();
    }
}
