use burn::backend::DispatchTensor;
use burn::tensor::Tensor;

use crate::cube;
use crate::graph::Composed;

const KNOWN: &str = "a norm's tensors are on one GPU";

/// Normalises each channel by the batch's own statistics. Only for tensors that [`cube::on_cube`] takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchNorm {
    pub eps: f64,
    /// Whether a ReLU follows.
    pub rectify: bool,
}

impl Composed<3> for BatchNorm {
    type Saved = cube::SavedBatchNorm;

    fn forward(&self, [x, gain, bias]: [DispatchTensor; 3]) -> (DispatchTensor, Self::Saved) {
        let x = cube::on_cube(&Tensor::<4>::from_dispatch(x)).expect(KNOWN);
        let [gain, bias] =
            [gain, bias].map(|part| cube::on_cube(&Tensor::<1>::from_dispatch(part)).expect(KNOWN));
        let (output, saved) = cube::batch_norm(x, gain, bias, self.eps, self.rectify);
        (cube::tensor::<4>(output).into_dispatch(), saved)
    }

    fn backward(
        &self,
        saved: Self::Saved,
        gradient: DispatchTensor,
        _: [bool; 3],
    ) -> [Option<DispatchTensor>; 3] {
        let gradient = cube::on_cube(&Tensor::<4>::from_dispatch(gradient)).expect(KNOWN);
        let [of_x, of_gain, of_bias] = saved.gradients(&gradient);
        let line = |part| Some(cube::tensor::<1>(part).into_dispatch());
        let of_x = Some(cube::tensor::<4>(of_x).into_dispatch());
        [of_x, line(of_gain), line(of_bias)]
    }
}

/// `max(a + b, 0)`. Only for tensors that [`cube::on_cube`] takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AddRelu;

impl Composed<2> for AddRelu {
    /// The output.
    type Saved = Tensor<4>;

    fn forward(&self, sides: [DispatchTensor; 2]) -> (DispatchTensor, Self::Saved) {
        let [a, b] =
            sides.map(|side| cube::on_cube(&Tensor::<4>::from_dispatch(side)).expect(KNOWN));
        let sum: Tensor<4> = cube::tensor(cube::add(&a, &b, true));
        (sum.clone().into_dispatch(), sum)
    }

    fn backward(
        &self,
        sum: Self::Saved,
        gradient: DispatchTensor,
        _: [bool; 2],
    ) -> [Option<DispatchTensor>; 2] {
        let gradient = Tensor::<4>::from_dispatch(gradient);
        let [sum, gradient] = [sum, gradient].map(|x| cube::on_cube(&x).expect(KNOWN));
        let own: Tensor<4> = cube::tensor(cube::rectified_gradient(&sum, &gradient));
        let own = own.into_dispatch();
        [Some(own.clone()), Some(own)]
    }
}
