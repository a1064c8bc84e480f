use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use burn::backend::DispatchTensor;
use burn::tensor::{Tensor, activation};

use super::{narrow, widen};
#[cfg(feature = "_cube")]
use crate::cube;
use crate::graph::Composed;
use crate::math::QUICK;

/// The exact GELU of `x` of rank `D`, for GPUs: there Burn's backward pass is that of the tanh approximation, and its
/// steps round half precision one by one. On the CPU Burn has a single exact pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gelu<const D: usize>;

/// `x σ(1.702 x)` of `x` of rank `D`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuickGelu<const D: usize>;

/// Φ(x), the standard normal distribution.
fn below<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let erf = x.mul_scalar(FRAC_1_SQRT_2).erf();
    erf.add_scalar(1.0).mul_scalar(0.5)
}

impl<const D: usize> Composed<1> for Gelu<D> {
    /// The input.
    type Saved = Tensor<D>;

    fn forward(&self, [x]: [DispatchTensor; 1]) -> (DispatchTensor, Tensor<D>) {
        let input: Tensor<D> = Tensor::from_dispatch(x);
        #[cfg(feature = "_cube")]
        if let Some(x) = cube::on_cube(&input) {
            let output: Tensor<D> = cube::tensor(cube::gelu(&x, false));
            return (output.into_dispatch(), cube::tensor(x));
        }
        let x = widen(input.clone());
        let output = narrow(x.clone() * below(x), input.dtype());
        (output.into_dispatch(), input)
    }

    fn backward(
        &self,
        input: Tensor<D>,
        gradient: DispatchTensor,
        _: [bool; 1],
    ) -> [Option<DispatchTensor>; 1] {
        let (gradient, dtype): (Tensor<D>, _) = (Tensor::from_dispatch(gradient), input.dtype());
        #[cfg(feature = "_cube")]
        if let (Some(x), Some(gradient)) = (cube::on_cube(&input), cube::on_cube(&gradient)) {
            let of_x: Tensor<D> = cube::tensor(cube::gelu_gradient(&x, &gradient, false));
            return [Some(of_x.into_dispatch())];
        }
        let x = widen(input);
        let density = x.clone().square().mul_scalar(-0.5).exp();
        let density = density.mul_scalar(TAU.sqrt().recip());
        let slope = below(x.clone()) + x * density;
        [Some(narrow(widen(gradient) * slope, dtype).into_dispatch())]
    }
}

impl<const D: usize> Composed<1> for QuickGelu<D> {
    /// The input.
    type Saved = Tensor<D>;

    fn forward(&self, [x]: [DispatchTensor; 1]) -> (DispatchTensor, Tensor<D>) {
        let input: Tensor<D> = Tensor::from_dispatch(x);
        #[cfg(feature = "_cube")]
        if let Some(x) = cube::on_cube(&input) {
            let output: Tensor<D> = cube::tensor(cube::gelu(&x, true));
            return (output.into_dispatch(), cube::tensor(x));
        }
        let x = widen(input.clone());
        let gate = activation::sigmoid(x.clone().mul_scalar(QUICK));
        (narrow(x * gate, input.dtype()).into_dispatch(), input)
    }

    fn backward(
        &self,
        input: Tensor<D>,
        gradient: DispatchTensor,
        _: [bool; 1],
    ) -> [Option<DispatchTensor>; 1] {
        let (gradient, dtype): (Tensor<D>, _) = (Tensor::from_dispatch(gradient), input.dtype());
        #[cfg(feature = "_cube")]
        if let (Some(x), Some(gradient)) = (cube::on_cube(&input), cube::on_cube(&gradient)) {
            let of_x: Tensor<D> = cube::tensor(cube::gelu_gradient(&x, &gradient, true));
            return [Some(of_x.into_dispatch())];
        }
        let scaled = widen(input).mul_scalar(QUICK);
        let gate = activation::sigmoid(scaled.clone());
        let rest = gate.clone().neg().add_scalar(1.0);
        let slope = gate.clone() + scaled * gate * rest;
        [Some(narrow(widen(gradient) * slope, dtype).into_dispatch())]
    }
}
