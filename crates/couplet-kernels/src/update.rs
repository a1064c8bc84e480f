//! What a training step does to parameters and their gradients, outside of any graph.

use burn::backend::Flex;
use burn::optim::{self, AdamWConfig, AdaptiveMomentumState, Optimizer};
#[cfg(feature = "_cube")]
use burn::tensor::DType;
use burn::tensor::Tensor;

use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::adamw_numbers::Numbers;
#[cfg(feature = "_cube")]
use crate::cube;
use crate::graph::{has_graph, is_supported};
use crate::linear::add_to;
use crate::math::{squares, wide};
use crate::values::{CHUNK, Dense, tensor};

/// One step of AdamW over one parameter. Source: Loshchilov and Hutter 2017, "Decoupled Weight
/// Decay Regularization"; `torch.optim.AdamW`.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    pub lr: f64,
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    pub weight_decay: f64,
    /// The number of this update, counted from 1.
    pub step: usize,
    /// The factor on the gradient.
    pub grad_scale: f64,
}

/// A parameter and its two moments, of one shape.
#[derive(Debug, Clone)]
pub struct AdamWState<const D: usize> {
    pub parameter: Tensor<D>,
    /// `exp_avg`; zeros before the first step.
    pub first: Tensor<D>,
    /// `exp_avg_sq`; zeros before the first step.
    pub second: Tensor<D>,
}

impl AdamW {
    /// Returns the state after the update. Works in place where the tensors have no other
    /// owner.
    ///
    /// # Panics
    /// If the tensors differ in shape.
    pub fn step<const D: usize>(self, state: AdamWState<D>, gradient: Tensor<D>) -> AdamWState<D> {
        let shape = state.parameter.dims();
        for part in [&state.first, &state.second, &gradient] {
            assert_eq!(part.dims(), shape, "an update's tensors have one shape");
        }
        let tensors = [&state.parameter, &state.first, &state.second, &gradient];
        if !tensors.into_iter().all(is_plain) {
            return self.burn_step(state, gradient);
        }
        let [mut parameter, mut first, mut second] =
            [state.parameter, state.first, state.second].map(|part| dense(part).into_values());
        let gradient = dense(gradient);
        let tasks = (parameter.par_chunks_mut(CHUNK))
            .zip(first.par_chunks_mut(CHUNK))
            .zip(second.par_chunks_mut(CHUNK))
            .zip(gradient.values().par_chunks(CHUNK));
        tasks.for_each(|(((parameter, first), second), gradient)| {
            self.update_chunk(parameter, first, second, gradient);
        });
        let back = |values| Tensor::from_primitive::<Flex>(tensor(values, &shape));
        AdamWState {
            parameter: back(parameter),
            first: back(first),
            second: back(second),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "Burn's optimisers take f32 settings"
    )]
    fn burn_step<const D: usize>(self, state: AdamWState<D>, gradient: Tensor<D>) -> AdamWState<D> {
        let [beta_1, beta_2] = self.betas.map(|beta| beta as f32);
        let adamw = AdamWConfig::new()
            .with_beta_1(beta_1)
            .with_beta_2(beta_2)
            .with_epsilon(self.eps as f32)
            .with_weight_decay(self.weight_decay as f32)
            .build();
        let gradient = if self.grad_scale == 1.0 {
            gradient
        } else {
            gradient.mul_scalar(self.grad_scale)
        };
        let before = AdaptiveMomentumState::new(self.step - 1, state.first, state.second);
        let before = optim::AdamWState::new(before);
        let (parameter, after) = adamw.step(self.lr, state.parameter, gradient, Some(before));
        let after = after.expect("AdamW returns its state").momentum;
        AdamWState {
            parameter,
            first: after.moment_1,
            second: after.moment_2,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "as wide as the values")]
    pub(crate) fn numbers(&self) -> Numbers {
        let step = i32::try_from(self.step).unwrap_or(i32::MAX);
        let [beta_1, beta_2] = self.betas.map(|beta| beta as f32);
        let [new_1, new_2] = self.betas.map(|beta| (1.0 - beta) as f32);
        let [bias_1, bias_2] = self.betas.map(|beta| 1.0 - beta.powi(step));
        Numbers {
            beta_1,
            new_1,
            beta_2,
            new_2,
            rate: (self.lr / bias_1) as f32,
            root: bias_2.sqrt().recip() as f32,
            eps: self.eps as f32,
            kept: (1.0 - self.lr * self.weight_decay) as f32,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "as wide as the values")]
    fn update_chunk(
        &self,
        parameter: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        gradient: &[f32],
    ) {
        let Numbers {
            beta_1,
            new_1,
            beta_2,
            new_2,
            rate,
            root,
            eps,
            kept,
        } = self.numbers();
        let grad_scale = self.grad_scale as f32;
        let values = (parameter.iter_mut().zip(first).zip(second)).zip(gradient);
        wide(
            #[inline(always)]
            || {
                for (((parameter, first), second), gradient) in values {
                    let gradient = gradient * grad_scale;
                    *first = beta_1 * *first + new_1 * gradient;
                    *second = beta_2 * *second + new_2 * gradient * gradient;
                    *parameter = *parameter * kept - rate * *first / (second.sqrt() * root + eps);
                }
            },
        );
    }
}

/// The sum of the squares of several tensors. The order of additions does not depend on the
/// number of cores.
#[derive(Debug, Default)]
pub struct SumOfSquares {
    /// Of the tensors that the kernel takes.
    sum: f64,
    #[cfg(feature = "_cube")]
    has_sum: bool,
    /// Those of a GPU, which are added together.
    #[cfg(feature = "_cube")]
    on_cube: Vec<burn_cubecl::tensor::CubeTensor>,
    /// `[1]` each, left on their device so that all are read at once.
    on_device: Vec<Tensor<1>>,
}

impl SumOfSquares {
    /// Adds the squares of all values of `x`.
    pub fn add<const D: usize>(&mut self, x: &Tensor<D>) {
        #[cfg(feature = "_cube")]
        if x.dtype() == DType::F32
            && let Some(found) = cube::on_cube(x)
        {
            self.on_cube.push(found);
            return;
        }
        if is_plain(x) {
            self.sum += sum_of_squares(&dense(x.clone()));
            #[cfg(feature = "_cube")]
            {
                self.has_sum = true;
            }
        } else {
            // Rows first, then the vector: on the CPU, Burn's plain sum of a large tensor adds
            // in an order that depends on scheduling.
            let rows = x.clone().square().sum_dim(D - 1);
            self.on_device.push(rows.sum());
        }
    }

    /// All tensors, if each is on a GPU.
    #[cfg(feature = "_cube")]
    pub(crate) fn all_on_cube(&self) -> Option<&[burn_cubecl::tensor::CubeTensor]> {
        let is_all = !self.has_sum && self.on_device.is_empty() && !self.on_cube.is_empty();
        is_all.then_some(&self.on_cube)
    }

    /// Waits for the devices and returns the sum.
    ///
    /// # Panics
    /// If a device fails.
    pub fn total(self) -> f64 {
        #[cfg(feature = "_cube")]
        let mut own = self;
        #[cfg(not(feature = "_cube"))]
        let own = self;
        #[cfg(feature = "_cube")]
        if !own.on_cube.is_empty() {
            let sum = cube::sum_of_squares(&own.on_cube);
            own.on_device.push(cube::tensor(sum));
        }
        let is_alike =
            |a: &Tensor<1>, b: &Tensor<1>| a.dtype() == b.dtype() && a.device() == b.device();
        let read = |sums: &[Tensor<1>]| -> f64 {
            let sums = Tensor::cat(sums.to_vec(), 0).into_data().convert::<f64>();
            let sums = sums.try_to_vec::<f64>().expect("sums are f64");
            sums.into_iter().sum()
        };
        let on_device: f64 = own.on_device.chunk_by(is_alike).map(read).sum();
        own.sum + on_device
    }
}

fn sum_of_squares(x: &Dense) -> f64 {
    let chunks = x.values().par_chunks(CHUNK);
    let sums: Vec<f64> = chunks
        .map(|chunk| {
            f64::from(wide(
                #[inline(always)]
                || squares(chunk, 0.0),
            ))
        })
        .collect();
    sums.into_iter().sum()
}

/// `a + b`. Works in place where `a` has no other owner.
pub fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    if !is_plain(&a) || !is_plain(&b) || a.dims() != b.dims() {
        return a + b;
    }
    let shape = a.dims();
    let (mut sum, part) = (dense(a).into_values(), dense(b));
    let tasks = sum
        .par_chunks_mut(CHUNK)
        .zip(part.values().par_chunks(CHUNK));
    tasks.for_each(|(sum, part)| {
        wide(
            #[inline(always)]
            || add_to(sum, part),
        );
    });
    Tensor::from_primitive::<Flex>(tensor(sum, &shape))
}

/// Whether a kernel takes the tensor and no graph would miss the operation.
fn is_plain<const D: usize>(x: &Tensor<D>) -> bool {
    is_supported(x) && !has_graph(x)
}

fn dense<const D: usize>(x: Tensor<D>) -> Dense {
    let x: FlexTensor = (x.try_into_primitive::<Flex>()).expect("the tensor has no graph");
    Dense::new(x)
}
