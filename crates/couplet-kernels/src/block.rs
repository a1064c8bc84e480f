//! The two halves of a residual block.

use std::borrow::Cow;
use std::marker::PhantomData;

use burn::backend::{DispatchTensor, Flex};
use burn::tensor::{DType, Tensor, bf16};
use burn_flex::FlexTensor;

use crate::activation::Activation;
use crate::attention::{Heads, Mask, self_attention};
use crate::branch::add_branch;
use crate::composed;
use crate::fresh::narrow_all;
use crate::graph::{Composed, Kernel, apply, compose, is_on_cpu, is_on_kernels, is_supported};
use crate::layer_norm::{Moments, Norm, layer_norm_as};
use crate::linear::{linear_as, of_bias, of_weight, of_x, output};
use crate::product::Before;
use crate::values::{Dense, Value, tensor};

/// A layer norm's parameters, `[width]` each.
#[derive(Debug, Clone)]
pub struct NormLayer {
    pub gain: Tensor<1>,
    pub bias: Tensor<1>,
    /// Added to the variance.
    pub eps: f64,
}

/// A linear layer's weight, `[out, in]`, and bias, `[out]`.
#[derive(Debug, Clone)]
pub struct LinearLayer {
    pub weight: Tensor<2>,
    pub bias: Tensor<1>,
}

/// A half of a residual block: a norm, and the linear layers at the two ends of what follows it.
#[derive(Debug, Clone)]
pub struct Half {
    pub norm: NormLayer,
    pub layers: [LinearLayer; 2],
    /// In which is multiplied. Gradients have the inputs' dtypes.
    pub dtype: DType,
}

impl Half {
    /// Whether kernels take it, and `x`.
    fn is_supported(&self, x: &Tensor<3>) -> bool {
        let is_layer =
            |layer: &LinearLayer| is_supported(&layer.weight) && is_supported(&layer.bias);
        is_supported(x)
            && is_supported(&self.norm.gain)
            && is_supported(&self.norm.bias)
            && self.layers.iter().all(is_layer)
            && [DType::F32, DType::BF16].contains(&self.dtype)
    }

    /// The input of the first layer, and the layers.
    fn normed(self, x: Tensor<3>) -> (Tensor<3>, [LinearLayer; 2]) {
        let NormLayer { gain, bias, eps } = self.norm;
        (layer_norm_as(x, gain, bias, eps, self.dtype), self.layers)
    }

    fn inputs(self, x: Tensor<3>) -> [DispatchTensor; 7] {
        let [first, second] = self.layers;
        [
            x.into_dispatch(),
            self.norm.gain.into_dispatch(),
            self.norm.bias.into_dispatch(),
            first.weight.into_dispatch(),
            first.bias.into_dispatch(),
            second.weight.into_dispatch(),
            second.bias.into_dispatch(),
        ]
    }

    fn run<K: Kernel<Flex, 7>>(self, x: Tensor<3>, kernel: K) -> Tensor<3> {
        apply(kernel, self.inputs(x)).0
    }

    /// As one operation, where such can be composed; on the CPU, what no kernel takes whole has kernels for its parts.
    fn composed<M: Composed<1>>(&self, x: &Tensor<3>, middle: M) -> Option<Tensor<3>> {
        if is_on_cpu(x) && !cfg!(test) {
            return None;
        }
        let operation = composed::Half {
            middle,
            eps: self.norm.eps,
            dtype: self.dtype,
        };
        compose(operation, self.clone().inputs(x.clone()).each_ref())
    }
}

/// `x + second(activation(first(norm(x))))`. On the CPU, the backward pass computes norm and activation again instead of
/// keeping their outputs, which are a third of what a block would keep.
/// - x: `[batch, tokens, width]`; returns the same shape, in the dtype of x.
pub fn residual_mlp(x: Tensor<3>, half: Half, activation: Activation) -> Tensor<3> {
    if half.is_supported(&x) {
        let eps = half.norm.eps;
        return match half.dtype {
            DType::F32 => half.run(x, ResidualMlp::<f32>::new(activation, eps)),
            _ => half.run(x, ResidualMlp::<bf16>::new(activation, eps)),
        };
    }
    let middle = match activation {
        Activation::Gelu => Some(composed::Gelu::<3> { is_quick: false }),
        Activation::QuickGelu => Some(composed::Gelu::<3> { is_quick: true }),
        Activation::GeluTanh => None,
    };
    if let Some(sum) = middle.and_then(|middle| half.composed(&x, middle)) {
        return sum;
    }
    let dtype = half.dtype;
    let (normed, [first, second]) = half.normed(x.clone());
    let hidden = linear_as(normed, first.weight, Some(first.bias), dtype);
    let activated = activation.forward(hidden);
    add_branch(
        x,
        linear_as(activated, second.weight, Some(second.bias), dtype),
    )
}

/// `x + second(attention(first(norm(x))))`, with attention as [`self_attention`].
/// - x: `[batch, tokens, width]`; returns the same shape, in the dtype of x.
/// - mask: added to the scores, `[1, 1, tokens, tokens]`; no gradient reaches it.
pub fn residual_attention(
    x: Tensor<3>,
    half: Half,
    heads: usize,
    mask: Option<&Tensor<4>>,
) -> Tensor<3> {
    let [_, tokens, width] = x.dims();
    let packed = half.layers[0].weight.dims()[0];
    assert!(
        width.is_multiple_of(heads) && packed == 3 * width,
        "heads divide the width, and queries, keys and values are as wide as it"
    );
    let mask_fits =
        mask.is_none_or(|mask| is_on_kernels(mask) && mask.dims() == [1, 1, tokens, tokens]);
    if half.is_supported(&x) && mask_fits {
        let (eps, mask) = (half.norm.eps, mask.map(Mask::new));
        return match half.dtype {
            DType::F32 => half.run(x, ResidualAttention::<f32>::new(heads, mask, eps)),
            _ => half.run(x, ResidualAttention::<bf16>::new(heads, mask, eps)),
        };
    }
    let middle = composed::SelfAttention {
        heads,
        mask: mask.map(|mask| mask.clone().inner()),
    };
    if let Some(sum) = half.composed(&x, middle) {
        return sum;
    }
    let dtype = half.dtype;
    let (normed, [first, second]) = half.normed(x.clone());
    let qkv = linear_as(normed, first.weight, Some(first.bias), dtype);
    let attended = self_attention(qkv, heads, mask);
    add_branch(
        x,
        linear_as(attended, second.weight, Some(second.bias), dtype),
    )
}

/// What both halves keep.
#[derive(Debug, Clone)]
struct Ends {
    x: Dense,
    norm: Norm,
    moments: Moments,
    weights: [Dense; 2],
}

impl Ends {
    /// - returns also the first layer's output and the second's bias.
    fn forward<O: Value>(inputs: [FlexTensor; 7], eps: f64) -> (Self, Vec<O>, Dense) {
        let [x, gain, bias, weight_1, bias_1, weight_2, bias_2] = inputs;
        let (x, norm) = (Dense::new(x), Norm::new(gain, bias, eps));
        let [weight_1, bias_1, weight_2, bias_2] =
            [weight_1, bias_1, weight_2, bias_2].map(Dense::new);
        assert_eq!(norm.width(), x.width(), "a norm's width");
        let (normed, moments) = norm.forward::<O>(x.values());
        let first = output(&normed, &weight_1, Before::Bias(bias_1.values()));
        let ends = Self {
            x,
            norm,
            moments,
            weights: [weight_1, weight_2],
        };
        (ends, first, bias_2)
    }

    /// The output of the half.
    /// - inner: the second layer's input.
    fn output<O: Value>(&self, inner: &[O], bias: &Dense) -> FlexTensor {
        let before = Before::Rows {
            rows: self.x.values(),
            bias: bias.values(),
        };
        let out: Vec<f32> = output(inner, &self.weights[1], before);
        tensor(out, self.x.shape())
    }

    /// The gradients of all inputs.
    /// - gradient: of the output.
    /// - inner: the second layer's input.
    /// - through: takes the gradient of `inner` to that of the first layer's output.
    fn gradients<O: Value>(
        self,
        gradient: &Dense,
        inner: Vec<O>,
        through: impl FnOnce(Vec<O>) -> Vec<O>,
        wanted: [bool; 7],
    ) -> [Option<FlexTensor>; 7] {
        let Self {
            x,
            norm,
            moments,
            weights: [weight_1, weight_2],
        } = self;
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
        let of_output: Cow<[O]> = match O::same(gradient.values()) {
            Some(same) => Cow::Borrowed(same),
            None => Cow::Owned(narrow_all(gradient.values())),
        };
        let of_bias_2 = wants_bias_2.then(|| of_bias(&of_output, weight_2.shape()[0]));
        let of_weight_2 = wants_2.then(|| of_weight(&of_output, &inner, &weight_2));
        drop(inner);
        if !(wants_norm || wants_1 || wants_bias_1) {
            return [None, None, None, None, None, of_weight_2, of_bias_2];
        }
        let of_inner: Vec<O> = of_x(&of_output, &weight_2);
        drop(of_output);
        let of_first = through(of_inner);
        let of_bias_1 = wants_bias_1.then(|| of_bias(&of_first, weight_1.shape()[0]));
        let of_weight_1 = wants_1.then(|| {
            let normed: Vec<O> = norm.again(x.values(), &moments);
            of_weight(&of_first, &normed, &weight_1)
        });
        let of_norm = wants_norm.then(|| {
            let of_normed: Vec<O> = of_x(&of_first, &weight_1);
            drop(of_first);
            norm.gradients(x.values(), &moments, &of_normed, Some(gradient.values()))
        });
        let [of_x, of_gain, of_bias] = match of_norm {
            None => [None, None, None],
            Some(found) => [
                wants_x.then(|| tensor(found.x, x.shape())),
                wants_gain.then(|| tensor(found.gain, &[x.width()])),
                wants_bias.then(|| tensor(found.bias, &[x.width()])),
            ],
        };
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

/// - O: the dtype in which is multiplied.
#[derive(Debug, Clone, Copy)]
struct ResidualMlp<O> {
    activation: Activation,
    eps: f64,
    values: PhantomData<O>,
}

impl<O> ResidualMlp<O> {
    fn new(activation: Activation, eps: f64) -> Self {
        Self {
            activation,
            eps,
            values: PhantomData,
        }
    }
}

impl<O: Value> Kernel<Flex, 7> for ResidualMlp<O> {
    /// With what the activation takes.
    type Saved = (Ends, Dense<O>);

    fn forward(&self, inputs: [FlexTensor; 7]) -> (FlexTensor, Self::Saved) {
        let (ends, hidden, bias) = Ends::forward::<O>(inputs, self.eps);
        let out = ends.output(&self.activation.of(&hidden), &bias);
        (out, (ends, Dense::flat(hidden)))
    }

    fn backward(
        &self,
        (ends, hidden): Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 7],
    ) -> [Option<FlexTensor>; 7] {
        let activated = self.activation.of(hidden.values());
        let through = |mut of_activated: Vec<O>| {
            self.activation.slope(hidden.values(), &mut of_activated);
            drop(hidden);
            of_activated
        };
        ends.gradients(&Dense::new(gradient), activated, through, wanted)
    }
}

/// - O: the dtype in which is multiplied.
#[derive(Debug, Clone)]
struct ResidualAttention<O> {
    heads: usize,
    mask: Option<Mask>,
    eps: f64,
    values: PhantomData<O>,
}

#[derive(Debug, Clone)]
struct SavedAttention<O> {
    ends: Ends,
    qkv: Dense<O>,
    /// After softmax, `[batch, heads, tokens, tokens]`.
    weights: Dense<O>,
    attended: Dense<O>,
}

impl<O> ResidualAttention<O> {
    fn new(heads: usize, mask: Option<Mask>, eps: f64) -> Self {
        Self {
            heads,
            mask,
            eps,
            values: PhantomData,
        }
    }

    fn heads_of(&self, x: &Dense) -> Heads<'_> {
        let [_, tokens, width] = *x.shape() else {
            unreachable!("sequences are of rank 3");
        };
        Heads {
            count: self.heads,
            mask: self.mask.as_ref(),
            tokens,
            width,
        }
    }
}

impl<O: Value> Kernel<Flex, 7> for ResidualAttention<O> {
    type Saved = SavedAttention<O>;

    fn forward(&self, inputs: [FlexTensor; 7]) -> (FlexTensor, Self::Saved) {
        let (ends, qkv, bias) = Ends::forward::<O>(inputs, self.eps);
        let [attended, weights] = self.heads_of(&ends.x).attend(&qkv);
        let out = ends.output(&attended, &bias);
        let saved = SavedAttention {
            ends,
            qkv: Dense::flat(qkv),
            weights: Dense::flat(weights),
            attended: Dense::flat(attended),
        };
        (out, saved)
    }

    fn backward(
        &self,
        SavedAttention {
            ends,
            qkv,
            weights,
            attended,
        }: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 7],
    ) -> [Option<FlexTensor>; 7] {
        let heads = self.heads_of(&ends.x);
        let through =
            move |of_attended: Vec<O>| heads.gradient(qkv.values(), weights.values(), &of_attended);
        ends.gradients(
            &Dense::new(gradient),
            attended.into_values(),
            through,
            wanted,
        )
    }
}
