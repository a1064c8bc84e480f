//! The two linear layers of a block.

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, bf16};
use burn_flex::FlexTensor;

use crate::activation::Activation;
use crate::graph::{Kernel, apply, is_on_kernels, is_supported};
use crate::linear::{Linear, linear_as, of_bias};
use crate::product::Before;
use crate::values::{Dense, Value, tensor};

/// A linear layer's weight, `[out, in]`, and bias, `[out]`.
#[derive(Debug, Clone)]
pub struct Layer {
    pub weight: Tensor<2>,
    pub bias: Tensor<1>,
}

/// `second(activation(first(x)))`, each layer as [`linear_as`]. On the CPU, the backward pass computes the activation again
/// instead of keeping its output, which is half of what a block would keep of it.
/// - x: `[…, width]`; returns `[…, out]`.
/// - dtype: in which is multiplied, and of the output. Gradients have the inputs' dtypes.
pub fn mlp<const D: usize>(
    x: Tensor<D>,
    [first, second]: [Layer; 2],
    activation: Activation,
    dtype: DType,
) -> Tensor<D> {
    let parameters_fit = [&first, &second]
        .iter()
        .all(|layer| is_supported(&layer.weight) && is_supported(&layer.bias));
    if parameters_fit && is_on_kernels(&x) {
        let run = |x: Tensor<D>, layers: [Layer; 2]| match [x.dtype(), dtype] {
            [DType::F32, DType::F32] => Ok(run::<f32, f32, D>(x, layers, activation)),
            [DType::F32, DType::BF16] => Ok(run::<f32, bf16, D>(x, layers, activation)),
            [DType::BF16, DType::BF16] => Ok(run::<bf16, bf16, D>(x, layers, activation)),
            _ => Err((x, layers)),
        };
        match run(x, [first, second]) {
            Ok(output) => return output,
            Err((x, [first, second])) => return separate(x, [first, second], activation, dtype),
        }
    }
    separate(x, [first, second], activation, dtype)
}

fn separate<const D: usize>(
    x: Tensor<D>,
    [first, second]: [Layer; 2],
    activation: Activation,
    dtype: DType,
) -> Tensor<D> {
    let hidden = linear_as(x, first.weight, Some(first.bias), dtype);
    linear_as(
        activation.forward(hidden),
        second.weight,
        Some(second.bias),
        dtype,
    )
}

fn run<X: Value, O: Value, const D: usize>(
    x: Tensor<D>,
    [first, second]: [Layer; 2],
    activation: Activation,
) -> Tensor<D> {
    let kernel = Mlp::<X, O> {
        activation,
        values: PhantomData,
    };
    let inputs = [
        x.into_dispatch(),
        first.weight.into_dispatch(),
        first.bias.into_dispatch(),
        second.weight.into_dispatch(),
        second.bias.into_dispatch(),
    ];
    apply(kernel, inputs).0
}

/// - X, O: dtypes of x, and of the output, in which is multiplied.
#[derive(Debug, Clone, Copy)]
struct Mlp<X, O> {
    activation: Activation,
    values: PhantomData<(X, O)>,
}

#[derive(Debug, Clone)]
struct Saved<X, O> {
    x: Dense<X>,
    weights: [Dense; 2],
    /// Before the activation.
    hidden: Dense<O>,
}

impl<X: Value, O: Value> Mlp<X, O> {
    fn activated(&self, hidden: &Dense<O>) -> Dense<O> {
        let activated = self.activation.of(hidden.values());
        Dense::new(tensor(activated, hidden.shape()))
    }
}

impl<X: Value, O: Value> Kernel<Flex, 5> for Mlp<X, O> {
    type Saved = Saved<X, O>;

    fn forward(&self, inputs: [FlexTensor; 5]) -> (FlexTensor, Self::Saved) {
        let [x, weight_1, bias_1, weight_2, bias_2] = inputs;
        let x = Dense::new(x);
        let [weight_1, bias_1, weight_2, bias_2] =
            [weight_1, bias_1, weight_2, bias_2].map(Dense::<f32>::new);
        let before = Before::Bias(bias_1.values());
        let hidden = Dense::new(Linear::<X, f32, O>::output(&x, &weight_1, before));
        let activated = self.activated(&hidden);
        let before = Before::Bias(bias_2.values());
        let output = Linear::<O, f32, O>::output(&activated, &weight_2, before);
        let weights = [weight_1, weight_2];
        let saved = Saved { x, weights, hidden };
        (output, saved)
    }

    fn backward(
        &self,
        Saved { x, weights, hidden }: Self::Saved,
        gradient: FlexTensor,
        [
            wants_x,
            wants_weight_1,
            wants_bias_1,
            wants_weight_2,
            wants_bias_2,
        ]: [bool; 5],
    ) -> [Option<FlexTensor>; 5] {
        let [weight_1, weight_2] = &weights;
        let gradient = Dense::<O>::new(gradient);
        let wants_hidden = wants_x || wants_weight_1 || wants_bias_1;
        let activated = self.activated(&hidden);
        let [of_activated, of_weight_2] = Linear::<O, f32, O>::gradients(
            &activated,
            weight_2,
            &gradient,
            [wants_hidden, wants_weight_2],
        );
        let of_bias_2 = wants_bias_2.then(|| of_bias(&gradient));
        drop((activated, gradient));
        let Some(of_activated) = of_activated else {
            return [None, None, None, of_weight_2, of_bias_2];
        };
        let mut of_hidden = Dense::<O>::new(of_activated).into_values();
        self.activation.slope(hidden.values(), &mut of_hidden);
        let of_hidden = Dense::<O>::new(tensor(of_hidden, hidden.shape()));
        drop(hidden);
        let wanted = [wants_x, wants_weight_1];
        let [of_x, of_weight_1] = Linear::<X, f32, O>::gradients(&x, weight_1, &of_hidden, wanted);
        let of_bias_1 = wants_bias_1.then(|| of_bias(&of_hidden));
        [of_x, of_weight_1, of_bias_1, of_weight_2, of_bias_2]
    }
}
