use burn::backend::DispatchTensor;
use burn::tensor::{DType, Tensor};

#[cfg(feature = "_cube")]
use super::rows;
use super::{AddBranch, BiasedLinear, LayerNorm, layer_norm, linear, narrow};
#[cfg(feature = "_cube")]
use crate::cube;
use crate::graph::Composed;

/// A half of a residual block, `x + second(middle(first(norm(x))))` of `[batch, tokens, width]`. On GPUs, its sum with the
/// output's gradient is part of the norm's, and with cuBLASLt, that with x of the second layer's product.
#[derive(Debug, Clone)]
pub(crate) struct Half<M> {
    /// From the first layer's output to the second's input.
    pub middle: M,
    /// Of the norm.
    pub eps: f64,
    /// In which is multiplied.
    pub dtype: DType,
}

#[derive(Debug, Clone)]
pub(crate) struct Saved<M> {
    norm: layer_norm::Saved<3>,
    first: linear::SavedBiased<3>,
    middle: M,
    second: linear::SavedBiased<3>,
}

impl<M: Composed<1>> Composed<7> for Half<M> {
    type Saved = Saved<M::Saved>;

    fn forward(&self, inputs: [DispatchTensor; 7]) -> (DispatchTensor, Self::Saved) {
        let [x, gain, norm_bias, weight_1, bias_1, weight_2, bias_2] = inputs;
        let (eps, dtype) = (self.eps, self.dtype);
        let (normed, norm) = LayerNorm::<3> { eps, dtype }.forward([x.clone(), gain, norm_bias]);
        let layer = BiasedLinear::<3> { dtype };
        let (hidden, first) = layer.forward([normed, weight_1, bias_1]);
        let (inner, middle) = self.middle.forward([hidden]);
        let bias: Tensor<1> = Tensor::from_dispatch(bias_2);
        let second = linear::SavedBiased::new(inner, weight_2, &bias, dtype);
        let output = onto(&second, Tensor::from_dispatch(x), bias);
        let saved = Saved {
            norm,
            first,
            middle,
            second,
        };
        (output, saved)
    }

    fn backward(
        &self,
        saved: Self::Saved,
        gradient: DispatchTensor,
        wanted: [bool; 7],
    ) -> [Option<DispatchTensor>; 7] {
        let [
            wants_x,
            wants_gain,
            wants_bias,
            wants_1,
            wants_bias_1,
            wants_2,
            wants_bias_2,
        ] = wanted;
        let wants_norm = wants_x || wants_gain || wants_bias;
        let wants_first = wants_norm || wants_1 || wants_bias_1;
        let layer = BiasedLinear::<3> { dtype: self.dtype };
        let of_output: Tensor<3> = Tensor::from_dispatch(gradient);
        let narrowed = narrow(of_output.clone(), self.dtype).into_dispatch();
        let wanted = [wants_first, wants_2, wants_bias_2];
        let [of_inner, of_weight_2, of_bias_2] = layer.backward(saved.second, narrowed, wanted);
        let of_hidden = of_inner.and_then(|of_inner| {
            let [of_hidden] = self.middle.backward(saved.middle, of_inner, [true]);
            of_hidden
        });
        let [of_normed, of_weight_1, of_bias_1] =
            of_hidden.map_or([None, None, None], |of_hidden| {
                let wanted = [wants_norm, wants_1, wants_bias_1];
                layer.backward(saved.first, of_hidden, wanted)
            });
        let [of_x, of_gain, of_bias] = of_normed.map_or([None, None, None], |of_normed| {
            let wanted = [wants_x, wants_gain, wants_bias];
            layer_norm::gradients(saved.norm, of_normed, Some(of_output), wanted)
        });
        [
            of_x,
            of_gain,
            of_bias,
            of_weight_1,
            of_bias_1,
            of_weight_2,
            of_bias_2,
        ]
    }
}

/// A layer's output plus x, in the dtype of x.
fn onto(layer: &linear::SavedBiased<3>, x: Tensor<3>, bias: Tensor<1>) -> DispatchTensor {
    #[cfg(feature = "_cube")]
    if let Some(before) = cube::on_cube(&rows(x.clone())) {
        let there = "what a block reads is on its GPU";
        let [inner, weight] = layer.operands();
        let [inner, weight] = [inner, weight].map(|operand| cube::plain(&operand).expect(there));
        let bias = cube::on_cube(&narrow(bias, x.dtype())).expect(there);
        let sum: Tensor<2> = cube::tensor(cube::multiply_onto(&before, &inner, &weight, &bias));
        return sum.reshape(x.dims()).into_dispatch();
    }
    let branch = layer.output(bias);
    AddBranch::<3>.forward([x.into_dispatch(), branch]).0
}
