use burn::backend::DispatchTensor;
use burn::tensor::Tensor;

use super::{rows, sum_of_rows};
use crate::graph::Composed;

/// `y = x Wᵀ` of `x` of rank `D`. All rows are one product: Burn multiplies a batch of matrices, which are small
/// for a GPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear<const D: usize>;

/// `y = x Wᵀ + b` of `x` of rank `D`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BiasedLinear<const D: usize>;

#[derive(Debug, Clone)]
pub(crate) struct Saved<const D: usize> {
    /// Of the input.
    shape: [usize; D],
    /// `[rows, in]`
    x: Tensor<2>,
    weight: Tensor<2>,
}

impl<const D: usize> Saved<D> {
    fn new(x: DispatchTensor, weight: DispatchTensor) -> Self {
        let x: Tensor<D> = Tensor::from_dispatch(x);
        Self {
            shape: x.dims(),
            x: rows(x),
            weight: Tensor::from_dispatch(weight),
        }
    }

    /// `[rows, out]`
    fn product(&self) -> Tensor<2> {
        self.x.clone().matmul(self.weight.clone().transpose())
    }

    fn output(&self, product: Tensor<2>) -> DispatchTensor {
        let mut shape = self.shape;
        shape[D - 1] = product.dims()[1];
        product.reshape(shape).into_dispatch()
    }

    /// - gradient: `[rows, out]`.
    fn gradients(
        self,
        gradient: &Tensor<2>,
        [wants_x, wants_weight]: [bool; 2],
    ) -> [Option<DispatchTensor>; 2] {
        let Self { shape, x, weight } = self;
        let of_x = || gradient.clone().matmul(weight).reshape(shape);
        let of_weight = || gradient.clone().transpose().matmul(x);
        [
            wants_x.then(|| of_x().into_dispatch()),
            wants_weight.then(|| of_weight().into_dispatch()),
        ]
    }
}

impl<const D: usize> Composed<2> for Linear<D> {
    type Saved = Saved<D>;

    fn forward(&self, [x, weight]: [DispatchTensor; 2]) -> (DispatchTensor, Saved<D>) {
        let saved = Saved::new(x, weight);
        (saved.output(saved.product()), saved)
    }

    fn backward(
        &self,
        saved: Saved<D>,
        gradient: DispatchTensor,
        wanted: [bool; 2],
    ) -> [Option<DispatchTensor>; 2] {
        let gradient = rows(Tensor::<D>::from_dispatch(gradient));
        saved.gradients(&gradient, wanted)
    }
}

impl<const D: usize> Composed<3> for BiasedLinear<D> {
    type Saved = Saved<D>;

    fn forward(&self, [x, weight, bias]: [DispatchTensor; 3]) -> (DispatchTensor, Saved<D>) {
        let saved = Saved::new(x, weight);
        let bias: Tensor<1> = Tensor::from_dispatch(bias);
        let outputs = saved.weight.dims()[0];
        assert_eq!(bias.dims(), [outputs], "a bias is as long as the output");
        (saved.output(saved.product() + bias.unsqueeze()), saved)
    }

    fn backward(
        &self,
        saved: Saved<D>,
        gradient: DispatchTensor,
        [wants_x, wants_weight, wants_bias]: [bool; 3],
    ) -> [Option<DispatchTensor>; 3] {
        let gradient = rows(Tensor::<D>::from_dispatch(gradient));
        let [of_x, of_weight] = saved.gradients(&gradient, [wants_x, wants_weight]);
        let of_bias = wants_bias.then(|| sum_of_rows(gradient).into_dispatch());
        [of_x, of_weight, of_bias]
    }
}
