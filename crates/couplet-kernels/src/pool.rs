//! Average pooling.

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::ops::AvgPoolOptions;
use burn::tensor::{DType, Tensor, bf16, module};
use burn_flex::FlexTensor;

use crate::fresh::fresh;
use crate::graph::{Kernel, apply, is_on_kernels};
use crate::math::wide;
use crate::values::{CHUNK, Dense, Value, tensor};

/// The mean of each square of `side` x `side` pixels; what is left at the lower and right edges is not read.
/// - x: `[batch, channels, height, width]`; returns `[batch, channels, height / side, width / side]`.
pub fn average_pool(x: Tensor<4>, side: usize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    if is_on_kernels(&x) && height >= side && width >= side {
        let input = [x.clone().into_dispatch()];
        match x.dtype() {
            DType::F32 => return apply(AveragePool::<f32>::new(side), input).0,
            DType::BF16 => return apply(AveragePool::<bf16>::new(side), input).0,
            _ => {}
        }
    }
    module::avg_pool2d(x, AvgPoolOptions::new([side; 2]))
}

#[derive(Debug, Clone, Copy)]
struct AveragePool<E> {
    side: usize,
    values: PhantomData<E>,
}

impl<E> AveragePool<E> {
    fn new(side: usize) -> Self {
        Self {
            side,
            values: PhantomData,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "sides are far below 2^24")]
    fn weight(&self) -> f32 {
        ((self.side * self.side) as f32).recip()
    }
}

/// Planes that one task takes.
fn planes(pixels: usize) -> usize {
    (CHUNK / pixels).max(1)
}

impl<E: Value> Kernel<Flex, 1> for AveragePool<E> {
    /// The shape of x.
    type Saved = [usize; 4];

    fn forward(&self, [x]: [FlexTensor; 1]) -> (FlexTensor, [usize; 4]) {
        let (x, side, weight) = (Dense::<E>::new(x), self.side, self.weight());
        let shape = <[usize; 4]>::try_from(x.shape()).expect("images are of rank 4");
        let [batch, channels, height, width] = shape;
        let [rows, columns] = [height / side, width / side];
        let (pixels, of_plane, values) = (rows * columns, height * width, x.values());
        let per_task = planes(pixels);
        let pool = |at: usize, out: &mut [E]| {
            for (plane, out) in out.chunks_exact_mut(pixels).enumerate() {
                let x = &values[(at * per_task + plane) * of_plane..];
                wide(
                    #[inline(always)]
                    || {
                        for (row, out) in out.chunks_exact_mut(columns).enumerate() {
                            for (column, out) in out.iter_mut().enumerate() {
                                let mut sum = 0.0;
                                for line in 0..side {
                                    let start = (row * side + line) * width + column * side;
                                    for x in &x[start..start + side] {
                                        sum += x.wide();
                                    }
                                }
                                *out = E::narrow(sum * weight);
                            }
                        }
                    },
                );
            }
        };
        let (out, _) = fresh(batch * channels * pixels, per_task * pixels, pool);
        (tensor(out, &[batch, channels, rows, columns]), shape)
    }

    fn backward(
        &self,
        shape: [usize; 4],
        gradient: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let (gradient, side, weight) = (Dense::<E>::new(gradient), self.side, self.weight());
        let [_, _, height, width] = shape;
        let [rows, columns] = [height / side, width / side];
        let (pixels, of_plane, values) = (rows * columns, height * width, gradient.values());
        let per_task = planes(of_plane);
        let spread = |at: usize, of_x: &mut [E]| {
            for (plane, of_x) in of_x.chunks_exact_mut(of_plane).enumerate() {
                let gradient = &values[(at * per_task + plane) * pixels..][..pixels];
                wide(
                    #[inline(always)]
                    || {
                        for (row, gradient) in gradient.chunks_exact(columns).enumerate() {
                            for line in 0..side {
                                let start = (row * side + line) * width;
                                let of_x = &mut of_x[start..start + columns * side];
                                for (of_x, gradient) in of_x.chunks_exact_mut(side).zip(gradient) {
                                    of_x.fill(E::narrow(gradient.wide() * weight));
                                }
                            }
                        }
                    },
                );
            }
        };
        let (of_x, _) = fresh(shape.iter().product(), per_task * of_plane, spread);
        [Some(tensor(of_x, &shape))]
    }
}
