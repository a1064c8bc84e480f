use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use burn::backend::DispatchTensor;
use burn::tensor::{Tensor, activation};

use super::{narrow, widen};
#[cfg(feature = "_cube")]
use crate::cube;
use crate::graph::Composed;
use crate::math::QUICK;

/// GELU of `x` of rank `D`, for GPUs: there Burn's backward pass is that of the tanh approximation, and its steps round
/// half precision one by one. On the CPU Burn has a single exact pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gelu<const D: usize> {
    /// `x σ(1.702 x)` instead of the exact one.
    pub is_quick: bool,
}

/// Φ(x), the standard normal distribution.
fn below<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let erf = x.mul_scalar(FRAC_1_SQRT_2).erf();
    erf.add_scalar(1.0).mul_scalar(0.5)
}

impl<const D: usize> Gelu<D> {
    /// The output over x.
    fn gate(self, x: Tensor<D>) -> Tensor<D> {
        if self.is_quick {
            activation::sigmoid(x.mul_scalar(QUICK))
        } else {
            below(x)
        }
    }

    fn slope(self, x: Tensor<D>) -> Tensor<D> {
        let gate = self.gate(x.clone());
        if self.is_quick {
            let rest = gate.clone().neg().add_scalar(1.0);
            return gate.clone() + x.mul_scalar(QUICK) * gate * rest;
        }
        let density = x.clone().square().mul_scalar(-0.5).exp();
        gate + x * density.mul_scalar(TAU.sqrt().recip())
    }
}

impl<const D: usize> Composed<1> for Gelu<D> {
    /// The input.
    type Saved = Tensor<D>;

    fn forward(&self, [x]: [DispatchTensor; 1]) -> (DispatchTensor, Tensor<D>) {
        let input: Tensor<D> = Tensor::from_dispatch(x);
        #[cfg(feature = "_cube")]
        if let Some(x) = cube::on_cube(&input) {
            let output: Tensor<D> = cube::tensor(cube::gelu(&x, self.is_quick));
            return (output.into_dispatch(), cube::tensor(x));
        }
        let x = widen(input.clone());
        let output = narrow(x.clone() * self.gate(x), input.dtype());
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
            let of_x: Tensor<D> = cube::tensor(cube::gelu_gradient(&x, &gradient, self.is_quick));
            return [Some(of_x.into_dispatch())];
        }
        let of_x = widen(gradient) * self.slope(widen(input));
        [Some(narrow(of_x, dtype).into_dispatch())]
    }
}
