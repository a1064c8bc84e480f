//! The update of all parameters on a GPU, without a number that the host waits for.

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use couplet_kernels::{AdamWQueue, Clipped, Updated};
use couplet_model::{Clip, ParameterMapper, ParameterVisitor, map_parameters, visit_parameters};

use super::rule::{Moments, Rule};
use super::{ModelOptimizer, OptimizerStep, clamped, sum_of_squares};
use crate::step::BatchGradients;

impl ModelOptimizer {
    /// The step's numbers and the factor on its gradients, if the device can update all parameters.
    pub fn clip_on_device(
        &self,
        model: &Clip,
        gradients: &BatchGradients,
        loss_scale: f64,
    ) -> Option<Clipped> {
        struct All(bool);
        impl ParameterVisitor for All {
            fn visit<const D: usize>(&mut self, _name: &str, param: &Param<Tensor<D>>) {
                self.0 &= !param.is_require_grad() || AdamWQueue::takes(&param.val());
            }
        }
        let is_adamw = |rule: &Rule| matches!(rule, Rule::AdamW(_));
        let mut rules = self
            .groups
            .iter()
            .flat_map(|group| [&group.decayed, &group.plain]);
        if !rules.all(is_adamw) {
            return None;
        }
        let mut all = All(true);
        visit_parameters(model, &mut all);
        if !all.0 {
            return None;
        }
        let squares = sum_of_squares(model, &gradients.params);
        Clipped::new(&squares, &gradients.loss, self.clip_norm, loss_scale)
    }

    /// As [`Self::step`], if the step's numbers are finite; if not, parameters and moments stay as they are.
    pub fn step_on_device(
        &mut self,
        model: Clip,
        grads: GradientsParams,
        lr: f64,
        clipped: &Clipped,
    ) -> Clip {
        let mut take = Take {
            optimizer: self,
            grads,
            lr,
            queue: AdamWQueue::default(),
            taken: Vec::new(),
        };
        let model = map_parameters(model, &mut take);
        let Take { queue, taken, .. } = take;
        let mut put = Put {
            optimizer: self,
            taken: taken.into_iter().peekable(),
            updated: queue.run(clipped),
        };
        map_parameters(model, &mut put)
    }
}

/// Takes parameters out of the model, so that they are written where they are.
struct Take<'a> {
    optimizer: &'a mut ModelOptimizer,
    grads: GradientsParams,
    lr: f64,
    queue: AdamWQueue,
    /// The names of those that were taken, and their number of updates.
    taken: Vec<(String, usize)>,
}

impl ParameterMapper for Take<'_> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return param;
        };
        let moments = self.optimizer.take_moments::<D>(name);
        let (rule, lr_scale) = self.optimizer.rule(name, D);
        let Rule::AdamW(settings) = rule else {
            unreachable!("it was found to be AdamW");
        };
        let step = OptimizerStep {
            lr: self.lr * lr_scale,
            grad_scale: 1.0,
        };
        let taken = &mut self.taken;
        let queue = &mut self.queue;
        param.map(|tensor| {
            let tensor = tensor.inner();
            let place = Tensor::empty([1; D], &tensor.device());
            let (adamw, state) = settings.begin(step, tensor, moments);
            taken.push((name.to_string(), adamw.step));
            queue.push(adamw, state, &grad);
            Tensor::from_inner(place).require_grad()
        })
    }
}

struct Put<'a> {
    optimizer: &'a mut ModelOptimizer,
    taken: std::iter::Peekable<std::vec::IntoIter<(String, usize)>>,
    updated: Updated,
}

impl ParameterMapper for Put<'_> {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some((_, time)) = self.taken.next_if(|(taken, _)| taken == name) else {
            return param;
        };
        let state = self.updated.take_next::<D>();
        let moments = Moments::two(time, state.first, state.second);
        (self.optimizer.moments).insert(name.to_string(), Box::new(moments));
        let updated = clamped(name, state.parameter);
        param.map(|_| Tensor::from_inner(updated).require_grad())
    }
}
