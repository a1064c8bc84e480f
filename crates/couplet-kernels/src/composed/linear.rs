use burn::backend::DispatchTensor;
use burn::tensor::{DType, Tensor};

use super::{multiply, multiply_add, narrow, narrow_weight, rows, sum_of_rows};
use crate::graph::Composed;

/// `y = x Wᵀ` of `x` of rank `D`. All rows are one product: Burn multiplies a batch of matrices, which are small
/// for a GPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linear<const D: usize> {
    /// In which the operands are multiplied, and of the output.
    pub dtype: DType,
}

/// `y = x Wᵀ + b` of `x` of rank `D`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BiasedLinear<const D: usize> {
    /// As [`Linear::dtype`].
    pub dtype: DType,
}

#[derive(Debug, Clone)]
pub(crate) struct Saved<const D: usize> {
    /// Of the input.
    shape: [usize; D],
    /// `[rows, in]`
    x: Tensor<2>,
    weight: Tensor<2>,
    /// Of the inputs.
    dtypes: [DType; 2],
}

impl<const D: usize> Saved<D> {
    fn new(x: DispatchTensor, weight: DispatchTensor, dtype: DType) -> Self {
        let x: Tensor<D> = Tensor::from_dispatch(x);
        let weight: Tensor<2> = Tensor::from_dispatch(weight);
        Self {
            shape: x.dims(),
            dtypes: [x.dtype(), weight.dtype()],
            x: narrow(rows(x), dtype),
            weight: narrow_weight(weight, dtype),
        }
    }

    fn output(&self, bias: Option<Tensor<1>>) -> DispatchTensor {
        let (x, weight) = (self.x.clone(), self.weight.clone());
        let dtype = x.dtype();
        let product = match bias {
            Some(bias) => multiply_add(x, weight.transpose(), narrow_weight(bias, dtype)),
            None => multiply(x, weight.transpose(), dtype),
        };
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
        let Self {
            shape,
            x,
            weight,
            dtypes: [of_x, of_weight],
        } = self;
        let gradient_of_x = || multiply(gradient.clone(), weight, of_x).reshape(shape);
        let turned = || gradient.clone().transpose();
        [
            wants_x.then(|| gradient_of_x().into_dispatch()),
            wants_weight.then(|| multiply(turned(), x, of_weight).into_dispatch()),
        ]
    }
}

impl<const D: usize> Composed<2> for Linear<D> {
    type Saved = Saved<D>;

    fn forward(&self, [x, weight]: [DispatchTensor; 2]) -> (DispatchTensor, Saved<D>) {
        let saved = Saved::new(x, weight, self.dtype);
        (saved.output(None), saved)
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

#[derive(Debug, Clone)]
pub(crate) struct SavedBiased<const D: usize> {
    saved: Saved<D>,
    bias_dtype: DType,
}

impl<const D: usize> SavedBiased<D> {
    /// - dtype: as [`Linear::dtype`].
    pub fn new(x: DispatchTensor, weight: DispatchTensor, bias: &Tensor<1>, dtype: DType) -> Self {
        let saved = Saved::new(x, weight, dtype);
        let outputs = saved.weight.dims()[0];
        assert_eq!(bias.dims(), [outputs], "a bias is as long as the output");
        Self {
            saved,
            bias_dtype: bias.dtype(),
        }
    }

    pub fn output(&self, bias: Tensor<1>) -> DispatchTensor {
        self.saved.output(Some(bias))
    }

    /// `[rows, in]` and the weight, turned: `[in, out]`.
    #[cfg(feature = "_cube")]
    pub fn operands(&self) -> [Tensor<2>; 2] {
        [self.saved.x.clone(), self.saved.weight.clone().transpose()]
    }
}

impl<const D: usize> Composed<3> for BiasedLinear<D> {
    type Saved = SavedBiased<D>;

    fn forward(&self, [x, weight, bias]: [DispatchTensor; 3]) -> (DispatchTensor, Self::Saved) {
        let bias = Tensor::from_dispatch(bias);
        let saved = SavedBiased::new(x, weight, &bias, self.dtype);
        (saved.output(bias), saved)
    }

    fn backward(
        &self,
        SavedBiased { saved, bias_dtype }: Self::Saved,
        gradient: DispatchTensor,
        [wants_x, wants_weight, wants_bias]: [bool; 3],
    ) -> [Option<DispatchTensor>; 3] {
        let gradient = rows(Tensor::<D>::from_dispatch(gradient));
        let [of_x, of_weight] = saved.gradients(&gradient, [wants_x, wants_weight]);
        let of_bias = wants_bias.then(|| sum_of_rows(gradient, bias_dtype).into_dispatch());
        [of_x, of_weight, of_bias]
    }
}
