use burn::backend::DispatchTensor;
use burn::tensor::{DType, Tensor};

use super::{narrow, widen};
#[cfg(feature = "_cube")]
use crate::cube;
use crate::graph::Composed;

/// `x + branch` of rank `D`, in the dtype of x.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddBranch<const D: usize>;

impl<const D: usize> Composed<2> for AddBranch<D> {
    /// The branch's dtype.
    type Saved = DType;

    fn forward(&self, [x, branch]: [DispatchTensor; 2]) -> (DispatchTensor, DType) {
        let (x, branch): (Tensor<D>, Tensor<D>) =
            (Tensor::from_dispatch(x), Tensor::from_dispatch(branch));
        let dtype = branch.dtype();
        #[cfg(feature = "_cube")]
        if let (Some(x), Some(branch)) = (cube::on_cube(&x), cube::on_cube(&branch)) {
            let sum: Tensor<D> = cube::tensor(cube::add(&x, &branch, false));
            return (sum.into_dispatch(), dtype);
        }
        let sum = x.clone() + narrow(widen(branch), x.dtype());
        (sum.into_dispatch(), dtype)
    }

    fn backward(
        &self,
        dtype: DType,
        gradient: DispatchTensor,
        _: [bool; 2],
    ) -> [Option<DispatchTensor>; 2] {
        let of_branch = narrow(Tensor::<D>::from_dispatch(gradient.clone()), dtype);
        [Some(gradient), Some(of_branch.into_dispatch())]
    }
}
