use burn::backend::DispatchTensor;
use burn::tensor::Tensor;

use super::multiply;
use crate::graph::Composed;

/// `lhs rhs` of tensors of rank `D`, of one dtype, with the same dimensions before the last two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product<const D: usize>;

impl<const D: usize> Composed<2> for Product<D> {
    /// The operands.
    type Saved = [Tensor<D>; 2];

    fn forward(&self, operands: [DispatchTensor; 2]) -> (DispatchTensor, Self::Saved) {
        let [lhs, rhs] = operands.map(Tensor::<D>::from_dispatch);
        let dtype = lhs.dtype();
        let product = multiply(lhs.clone(), rhs.clone(), dtype);
        (product.into_dispatch(), [lhs, rhs])
    }

    fn backward(
        &self,
        [lhs, rhs]: Self::Saved,
        gradient: DispatchTensor,
        [wants_lhs, wants_rhs]: [bool; 2],
    ) -> [Option<DispatchTensor>; 2] {
        let gradient: Tensor<D> = Tensor::from_dispatch(gradient);
        let dtype = gradient.dtype();
        let of_lhs = || multiply(gradient.clone(), rhs.swap_dims(D - 2, D - 1), dtype);
        let of_rhs = || multiply(lhs.swap_dims(D - 2, D - 1), gradient.clone(), dtype);
        [
            wants_lhs.then(|| of_lhs().into_dispatch()),
            wants_rhs.then(|| of_rhs().into_dispatch()),
        ]
    }
}
