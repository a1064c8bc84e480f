use burn::backend::DispatchTensor;
use burn::tensor::{DType, Tensor};

use crate::conv::sizes::Sizes;
use crate::cube;
use crate::graph::Composed;

/// A convolution without bias, of `[batch, inputs, height, width]` with `[outputs, inputs, kernel, kernel]`. Only for
/// tensors that [`cube::on_cube`] takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub sizes: Sizes,
}

const KNOWN: &str = "a convolution's tensors are on one GPU";

impl Composed<2> for Conv {
    /// The operands.
    type Saved = [Tensor<4>; 2];

    fn forward(&self, operands: [DispatchTensor; 2]) -> (DispatchTensor, Self::Saved) {
        let operands = operands.map(Tensor::<4>::from_dispatch);
        let [x, weight] = operands.each_ref().map(|x| cube::on_cube(x).expect(KNOWN));
        let output: Tensor<4> = cube::tensor(cube::conv(&x, &weight, self.sizes));
        (output.into_dispatch(), operands)
    }

    fn backward(
        &self,
        operands: Self::Saved,
        gradient: DispatchTensor,
        wanted: [bool; 2],
    ) -> [Option<DispatchTensor>; 2] {
        let gradient: Tensor<4> = Tensor::from_dispatch(gradient);
        let dtype: DType = operands[1].dtype();
        let [x, weight] = operands.map(|x| cube::on_cube(&x).expect(KNOWN));
        let gradient = cube::on_cube(&gradient).expect(KNOWN);
        let found = cube::conv_gradients(&x, &weight, &gradient, self.sizes, dtype, wanted);
        found.map(|found| found.map(|found| cube::tensor::<4>(found).into_dispatch()))
    }
}
