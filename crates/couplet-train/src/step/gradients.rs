//! Sums of gradients over passes and lanes.

use burn::module::Param;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor};
use couplet_model::{BatchStatistics, Clip, ParameterVisitor, visit_parameters};

/// The loss of one batch and its gradients.
pub(crate) struct BatchGradients {
    pub loss: f64,
    /// Gradients of all trained parameters, times the loss scale.
    pub params: GradientsParams,
    /// Statistics of the batch norms, pass by pass.
    pub statistics: Vec<BatchStatistics>,
}

/// The gradients of a model's parameters, summed over backward passes.
pub(super) struct GradientSum {
    pub model: Clip,
    accumulator: GradientsAccumulator<Clip>,
}

impl GradientSum {
    pub fn new(model: Clip) -> Self {
        Self {
            model,
            accumulator: GradientsAccumulator::new(),
        }
    }

    /// Runs the backward pass from `outputs` and adds the gradients of all parameters.
    /// - gradient: of the outputs, of their shape, without a graph.
    /// - returns the gradients of leaves that are not parameters; `None` if nothing before the
    ///   outputs is trained.
    pub fn backward<const D: usize>(
        &mut self,
        outputs: Tensor<D>,
        gradient: Tensor<D>,
    ) -> Option<Gradients> {
        // The gradient of this sum with respect to `outputs` is `gradient`.
        let surrogate = (outputs * Tensor::from_inner(gradient)).sum();
        if !surrogate.is_tracked() {
            return None;
        }
        let mut grads = surrogate.backward();
        let params = GradientsParams::from_module(&mut grads, &self.model);
        self.accumulator.accumulate(&self.model, params);
        Some(grads)
    }

    pub fn into_params(mut self) -> GradientsParams {
        self.accumulator.grads()
    }
}

/// The sum of two gradients of the same model; a parameter may have a gradient in only one.
pub(super) fn add(model: &Clip, sum: GradientsParams, part: GradientsParams) -> GradientsParams {
    struct Add {
        sum: GradientsParams,
        part: GradientsParams,
    }
    impl ParameterVisitor for Add {
        fn visit<const D: usize>(&mut self, _name: &str, param: &Param<Tensor<D>>) {
            let (sum, part) = (
                self.sum.remove::<D>(param.id),
                self.part.remove::<D>(param.id),
            );
            let sum = match (sum, part) {
                (Some(sum), Some(part)) => couplet_kernels::add(sum, part),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return,
            };
            self.sum.register(param.id, sum);
        }
    }
    let mut add = Add { sum, part };
    visit_parameters(model, &mut add);
    add.sum
}
