//! Activations.

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, activation, bf16};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::composed;
use crate::fresh::fresh;
use crate::graph::{Kernel, apply, compose, is_on_cpu, is_on_kernels};
use crate::math::{QUICK, normal, sigmoid, tanh, wide};
use crate::values::{CHUNK, Dense, Value, tensor};

/// `x Φ(x)` with the exact Φ of the normal distribution; returns the shape of `x`.
/// Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    run(Activation::Gelu, x, |x| {
        // Tests run it on the CPU too.
        let composed = (cfg!(test) || !is_on_cpu(&x)).then(|| {
            compose(
                composed::Gelu::<D> { is_quick: false },
                [&x.clone().into_dispatch()],
            )
        });
        composed.flatten().unwrap_or_else(|| activation::gelu(x))
    })
}

/// The tanh approximation of GELU; returns the shape of `x`.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    run(Activation::GeluTanh, x, activation::gelu_approximate)
}

/// `x σ(1.702 x)`; returns the shape of `x`. Source: Radford et al. 2021, the released code.
pub fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    run(Activation::QuickGelu, x, |x| {
        let composed = (cfg!(test) || !is_on_cpu(&x)).then(|| {
            compose(
                composed::Gelu::<D> { is_quick: true },
                [&x.clone().into_dispatch()],
            )
        });
        let burn = || x.clone() * activation::sigmoid(x.clone().mul_scalar(QUICK));
        composed.flatten().unwrap_or_else(burn)
    })
}

fn run<const D: usize>(
    kernel: Activation,
    x: Tensor<D>,
    fallback: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    if !is_on_kernels(&x) {
        return fallback(x);
    }
    match x.dtype() {
        DType::F32 => apply(Map::<f32>::new(kernel), [x.into_dispatch()]).0,
        DType::BF16 => apply(Map::<bf16>::new(kernel), [x.into_dispatch()]).0,
        _ => fallback(x),
    }
}

/// What stands between the two linear layers of a block.
#[derive(Debug, Clone, Copy)]
pub enum Activation {
    /// [`gelu`]
    Gelu,
    /// [`gelu_tanh`]
    GeluTanh,
    /// [`quick_gelu`]
    QuickGelu,
}

impl Activation {
    /// Of every value of `x`; returns its shape.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Gelu => gelu(x),
            Self::GeluTanh => gelu_tanh(x),
            Self::QuickGelu => quick_gelu(x),
        }
    }

    /// Of all values.
    pub(crate) fn of<E: Value>(self, x: &[E]) -> Vec<E> {
        let map = |at: usize, out: &mut [E]| self.map(&x[at * CHUNK..][..out.len()], out);
        fresh(x.len(), CHUNK, map).0
    }

    /// - gradient: of the output on entry, of `x` on return.
    pub(crate) fn slope<E: Value>(self, x: &[E], gradient: &mut [E]) {
        let chunks = gradient.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
        chunks.for_each(|(gradient, x)| self.map_gradient(x, gradient));
    }

    fn map<E: Value>(self, x: &[E], out: &mut [E]) {
        let pairs = out.iter_mut().zip(x);
        wide(
            #[inline(always)]
            || match self {
                Self::Gelu => {
                    for (out, x) in pairs {
                        let x = x.wide();
                        *out = E::narrow(x * normal(x).0);
                    }
                }
                Self::GeluTanh => {
                    for (out, x) in pairs {
                        let x = x.wide();
                        *out = E::narrow(x * 0.5 * (1.0 + tanh(inner(x))));
                    }
                }
                Self::QuickGelu => {
                    for (out, x) in pairs {
                        let x = x.wide();
                        *out = E::narrow(x * sigmoid(QUICK * x));
                    }
                }
            },
        );
    }

    /// - gradient: of the output on entry, of `x` on return.
    fn map_gradient<E: Value>(self, x: &[E], gradient: &mut [E]) {
        let pairs = gradient.iter_mut().zip(x);
        wide(
            #[inline(always)]
            || match self {
                Self::Gelu => {
                    for (gradient, x) in pairs {
                        let x = x.wide();
                        let (below, density) = normal(x);
                        *gradient = E::narrow(gradient.wide() * (below + x * density));
                    }
                }
                Self::GeluTanh => {
                    for (gradient, x) in pairs {
                        let x = x.wide();
                        let tanh = tanh(inner(x));
                        let slope = TANH_SCALE * (1.0 + 3.0 * TANH_CUBE * x * x);
                        let slope = 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope;
                        *gradient = E::narrow(gradient.wide() * slope);
                    }
                }
                Self::QuickGelu => {
                    for (gradient, x) in pairs {
                        let x = x.wide();
                        let gate = sigmoid(QUICK * x);
                        let slope = gate + QUICK * x * gate * (1.0 - gate);
                        *gradient = E::narrow(gradient.wide() * slope);
                    }
                }
            },
        );
    }
}

/// √(2/π)
const TANH_SCALE: f32 = 0.797_884_6;
const TANH_CUBE: f32 = 0.044_715;

#[inline(always)]
fn inner(x: f32) -> f32 {
    TANH_SCALE * (x + TANH_CUBE * x * x * x)
}

/// An activation of values of dtype `E`.
#[derive(Debug, Clone, Copy)]
struct Map<E> {
    activation: Activation,
    values: PhantomData<E>,
}

impl<E> Map<E> {
    fn new(activation: Activation) -> Self {
        Self {
            activation,
            values: PhantomData,
        }
    }
}

impl<E: Value> Kernel<Flex, 1> for Map<E> {
    type Saved = Dense<E>;

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, Dense<E>) {
        let x = Dense::new(x);
        let out = self.activation.of(x.values());
        (tensor(out, x.shape()), x)
    }

    fn backward(&self, x: Dense<E>, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let mut gradient = Dense::<E>::new(gradient).into_values();
        self.activation.slope(x.values(), &mut gradient);
        [Some(tensor(gradient, x.shape()))]
    }
}
