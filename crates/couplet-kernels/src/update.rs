//! What a step does to parameters and their gradients, outside of any graph.

use burn::backend::Flex;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::graph::is_supported;
use crate::math::{squares, wide};
use crate::values::{CHUNK, Dense, tensor};

/// AdamW's settings at one step. Source: Loshchilov and Hutter 2017, "Decoupled Weight Decay
/// Regularization".
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    pub lr: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
    /// Updates so far, this one included.
    pub time: usize,
    /// On the gradient.
    pub factor: f64,
}

/// A parameter and its two moments, of one shape.
#[derive(Debug, Clone)]
pub struct AdamWState<const D: usize> {
    pub parameter: Tensor<D>,
    pub first: Tensor<D>,
    pub second: Tensor<D>,
}

impl AdamW {
    /// One update, in place where nobody else holds the tensors.
    ///
    /// # Panics
    /// If kernels do not take the tensors ([`is_supported`]), or they have a graph.
    pub fn step<const D: usize>(self, moved: AdamWState<D>, gradient: Tensor<D>) -> AdamWState<D> {
        let shape = moved.parameter.dims();
        for part in [&moved.first, &moved.second, &gradient] {
            assert_eq!(part.dims(), shape, "an update's tensors are of one shape");
        }
        let [mut parameter, mut first, mut second] =
            [moved.parameter, moved.first, moved.second].map(|part| dense(part).into_values());
        let gradient = dense(gradient);
        let tasks = (parameter.par_chunks_mut(CHUNK))
            .zip(first.par_chunks_mut(CHUNK))
            .zip(second.par_chunks_mut(CHUNK))
            .zip(gradient.values().par_chunks(CHUNK));
        tasks.for_each(|(((parameter, first), second), gradient)| {
            self.move_chunk(parameter, first, second, gradient);
        });
        let back = |values| Tensor::from_primitive::<Flex>(tensor(values, &shape));
        AdamWState {
            parameter: back(parameter),
            first: back(first),
            second: back(second),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "as wide as the values")]
    fn move_chunk(
        &self,
        parameter: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        gradient: &[f32],
    ) {
        let time = i32::try_from(self.time).unwrap_or(i32::MAX);
        let [beta_1, beta_2] = self.betas.map(|beta| beta as f32);
        let [new_1, new_2] = self.betas.map(|beta| (1.0 - beta) as f32);
        let [bias_1, bias_2] = self.betas.map(|beta| 1.0 - beta.powi(time));
        let rate = (self.lr / bias_1) as f32;
        let root = bias_2.sqrt().recip() as f32;
        let kept = (1.0 - self.lr * self.weight_decay) as f32;
        let (eps, factor) = (self.eps as f32, self.factor as f32);
        let values = (parameter.iter_mut().zip(first).zip(second)).zip(gradient);
        wide(
            #[inline(always)]
            || {
                for (((parameter, first), second), gradient) in values {
                    let gradient = gradient * factor;
                    *first = beta_1 * *first + new_1 * gradient;
                    *second = beta_2 * *second + new_2 * gradient * gradient;
                    *parameter = *parameter * kept - rate * *first / (second.sqrt() * root + eps);
                }
            },
        );
    }
}

/// The sum of squares, in the same order whatever the number of cores.
pub fn sum_of_squares<const D: usize>(x: &Tensor<D>) -> Option<f64> {
    if !is_supported(x) {
        return None;
    }
    let x = dense(x.clone());
    let chunks = x.values().par_chunks(CHUNK);
    let sums: Vec<f64> = chunks
        .map(|chunk| {
            f64::from(wide(
                #[inline(always)]
                || squares(chunk, 0.0),
            ))
        })
        .collect();
    Some(sums.into_iter().sum())
}

/// `a + b`, of one shape, in place where nobody else holds `a`.
pub fn add<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    if !is_supported(&a) || !is_supported(&b) {
        return a + b;
    }
    let shape = a.dims();
    assert_eq!(shape, b.dims(), "sides of a sum");
    let (mut sum, part) = (dense(a).into_values(), dense(b));
    let tasks = sum
        .par_chunks_mut(CHUNK)
        .zip(part.values().par_chunks(CHUNK));
    tasks.for_each(|(sum, part)| {
        wide(
            #[inline(always)]
            || crate::linear::add(sum, part),
        );
    });
    Tensor::from_primitive::<Flex>(tensor(sum, &shape))
}

fn dense<const D: usize>(x: Tensor<D>) -> Dense {
    let x: FlexTensor = (x.try_into_primitive::<Flex>()).expect("updates have no graph");
    Dense::new(x)
}
