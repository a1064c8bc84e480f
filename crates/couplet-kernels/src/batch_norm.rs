//! Batch normalisation, and the ReLUs of residual networks.

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, activation, bf16, module};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::fresh::fresh;
use crate::graph::{Kernel, apply, is_on_kernels, is_supported};
#[cfg(feature = "_cube")]
use crate::graph::{compose, compose_saved, is_on_cpu};
use crate::math::{dot_from, squares, sum, wide};
use crate::values::{CHUNK, Dense, Value, tensor};
#[cfg(feature = "_cube")]
use crate::{composed, cube};

/// The result of [`batch_norm`].
#[derive(Debug, Clone)]
pub struct BatchNormOutput {
    /// The shape and dtype of its input.
    pub output: Tensor<4>,
    /// The batch's mean, `[channels]`, without a graph.
    pub mean: Tensor<1>,
    /// The batch's biased variance, `[channels]`, without a graph.
    pub variance: Tensor<1>,
}

/// Normalises each channel by the batch's own mean and variance, in the dtype of gain and bias, on a GPU in f32.
/// - x: `[batch, channels, height, width]`; gain, bias: `[channels]`, which may be wider than x.
/// - eps: added to the variance.
/// - rectify: whether a ReLU follows.
pub fn batch_norm(
    x: Tensor<4>,
    gain: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
    rectify: bool,
) -> BatchNormOutput {
    let kernel = BatchNorm { eps, rectify };
    #[cfg(feature = "_cube")]
    if let Some(found) = on_cube(&x, &gain, &bias, kernel) {
        return found;
    }
    let dtype = x.dtype();
    let fits = is_on_kernels(&x) && is_supported(&gain) && is_supported(&bias);
    if !fits && dtype != gain.dtype() {
        let as_gain = gain.dtype();
        let normed = batch_norm(x.cast(as_gain), gain, bias, eps, rectify);
        return BatchNormOutput {
            output: normed.output.cast(dtype),
            ..normed
        };
    }
    if !fits {
        let normed = module::batch_norm_train(x, gain, bias, eps);
        return BatchNormOutput {
            output: if rectify {
                activation::relu(normed.output)
            } else {
                normed.output
            },
            mean: without_graph(normed.mean),
            variance: without_graph(normed.variance),
        };
    }
    let inputs = [
        x.into_dispatch(),
        gain.into_dispatch(),
        bias.into_dispatch(),
    ];
    let (output, seen) = if dtype == DType::F32 {
        let (output, saved) = apply(Normalize::<f32>::new(kernel), inputs);
        (output, saved.channels)
    } else {
        let (output, saved) = apply(Normalize::<bf16>::new(kernel), inputs);
        (output, saved.channels)
    };
    let channels = seen.len();
    let of_channels = |of: fn(&Channel) -> f64| {
        #[expect(clippy::cast_possible_truncation, reason = "as wide as the values")]
        let values = seen.iter().map(|channel| of(channel) as f32);
        Tensor::from_primitive::<burn::backend::Flex>(tensor(values.collect(), &[channels]))
    };
    BatchNormOutput {
        output,
        mean: of_channels(|channel| channel.mean),
        variance: of_channels(|channel| channel.variance),
    }
}

/// The same by kernels for a GPU.
#[cfg(feature = "_cube")]
fn on_cube(
    x: &Tensor<4>,
    gain: &Tensor<1>,
    bias: &Tensor<1>,
    BatchNorm { eps, rectify }: BatchNorm,
) -> Option<BatchNormOutput> {
    let is_there = gain.dtype() == bias.dtype()
        && x.dims().iter().all(|size| *size > 0)
        && !is_on_cpu(x)
        // With Burn's fusion there is no kernel.
        && cube::plain(&without_graph(x.clone())).is_some();
    if !is_there {
        return None;
    }
    let channels = [x.dims()[1]];
    assert!(
        gain.dims() == channels && bias.dims() == channels,
        "a norm's channels"
    );
    let inputs = [
        x.clone().into_dispatch(),
        gain.clone().into_dispatch(),
        bias.clone().into_dispatch(),
    ];
    let operation = composed::BatchNorm { eps, rectify };
    let (output, saved) = compose_saved(operation, inputs.each_ref())?;
    let (sums, inverse_count) = saved.sums();
    let [mean, variance] = sums.map(|sum| cube::tensor::<1>(sum).mul_scalar(inverse_count));
    Some(BatchNormOutput {
        output,
        mean,
        variance,
    })
}

fn without_graph<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.device().is_autodiff() {
        x.inner()
    } else {
        x
    }
}

/// `max(a + b, 0)`, elementwise.
pub fn add_relu(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    if is_on_kernels(&a) && is_on_kernels(&b) && a.dims() == b.dims() {
        let sides = [a.clone().into_dispatch(), b.clone().into_dispatch()];
        match [a.dtype(), b.dtype()] {
            [DType::F32, DType::F32] => return apply(AddRelu::<f32>(PhantomData), sides).0,
            [DType::BF16, DType::BF16] => return apply(AddRelu::<bf16>(PhantomData), sides).0,
            _ => {}
        }
    }
    #[cfg(feature = "_cube")]
    if a.dims() == b.dims()
        && !is_on_cpu(&a)
        && [&a, &b].map(|side| cube::plain(&without_graph(side.clone())).is_some()) == [true; 2]
    {
        let sides = [a.clone().into_dispatch(), b.clone().into_dispatch()];
        if let Some(sum) = compose(composed::AddRelu, sides.each_ref()) {
            return sum;
        }
    }
    activation::relu(a + b)
}

#[derive(Debug, Clone, Copy)]
struct BatchNorm {
    eps: f64,
    rectify: bool,
}

/// A norm of values of dtype `E`.
#[derive(Debug, Clone, Copy)]
struct Normalize<E> {
    norm: BatchNorm,
    values: PhantomData<E>,
}

impl<E> Normalize<E> {
    fn new(norm: BatchNorm) -> Self {
        Self {
            norm,
            values: PhantomData,
        }
    }
}

#[derive(Debug, Clone)]
struct Saved<E> {
    x: Dense<E>,
    gain: Dense,
    bias: Dense,
    channels: Vec<Channel>,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    mean: f64,
    variance: f64,
}

impl Channel {
    /// - images: this channel of every image.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    #[expect(clippy::cast_possible_truncation, reason = "as wide as the values")]
    fn from_images<E: Value>(images: &[&[E]]) -> Self {
        let count = images.iter().map(|image| image.len()).sum::<usize>() as f64;
        wide(
            #[inline(always)]
            || {
                let (mut total, mut spread) = (0.0, 0.0);
                for image in images {
                    total += f64::from(sum(image));
                }
                let mean = total / count;
                for image in images {
                    spread += f64::from(squares(image, mean as f32));
                }
                let variance = spread / count;
                Self { mean, variance }
            },
        )
    }

    /// `x` becomes `(x - mean) slope + bias`; returns mean and slope.
    #[expect(clippy::cast_possible_truncation, reason = "as wide as the values")]
    fn line(self, eps: f64, gain: f32) -> (f32, f32) {
        let slope = f64::from(gain) / (self.variance + eps).sqrt();
        (self.mean as f32, slope as f32)
    }
}

/// The pixels of every image, by channel.
fn by_channel<E>(values: &[E], channels: usize, pixels: usize) -> Vec<Vec<&[E]>> {
    let mut parts = vec![Vec::new(); channels];
    for (at, part) in values.chunks_exact(pixels).enumerate() {
        parts[at % channels].push(part);
    }
    parts
}

fn by_channel_mut<E>(values: &mut [E], channels: usize, pixels: usize) -> Vec<Vec<&mut [E]>> {
    let mut parts: Vec<Vec<&mut [E]>> = (0..channels).map(|_| Vec::new()).collect();
    for (at, part) in values.chunks_exact_mut(pixels).enumerate() {
        parts[at % channels].push(part);
    }
    parts
}

impl<E: Value> Kernel<Flex, 3> for Normalize<E> {
    type Saved = Saved<E>;

    fn forward(&self, [x, gain, bias]: [FlexTensor; 3]) -> (FlexTensor, Saved<E>) {
        let BatchNorm { eps, rectify } = self.norm;
        let (x, gain, bias) = (
            Dense::<E>::new(x),
            Dense::<f32>::new(gain),
            Dense::<f32>::new(bias),
        );
        let [_, channels, height, width] = *x.shape() else {
            unreachable!("images are of rank 4");
        };
        let pixels = height * width;
        let is_sound = gain.values().len() == channels && bias.values().len() == channels;
        assert!(is_sound, "a norm's channels");
        let mut out = vec![E::default(); x.values().len()];
        let images = by_channel(x.values(), channels, pixels);
        let outs = by_channel_mut(&mut out, channels, pixels);
        let tasks = images
            .into_par_iter()
            .zip(outs)
            .zip(gain.values())
            .zip(bias.values());
        let seen = tasks.map(|(((images, outs), gain), bias)| {
            let channel = Channel::from_images(&images);
            let (mean, slope) = channel.line(eps, *gain);
            let lowest = if rectify { 0.0 } else { f32::NEG_INFINITY };
            for (out, image) in outs.into_iter().zip(images) {
                wide(
                    #[inline(always)]
                    || {
                        for (out, x) in out.iter_mut().zip(image) {
                            let y = (x.wide() - mean) * slope + bias;
                            *out = E::narrow(if y < lowest { lowest } else { y });
                        }
                    },
                );
            }
            channel
        });
        let seen = seen.collect();
        let out = tensor(out, x.shape());
        let saved = Saved {
            x,
            gain,
            bias,
            channels: seen,
        };
        (out, saved)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    #[expect(clippy::cast_possible_truncation, reason = "as wide as the values")]
    fn backward(
        &self,
        Saved {
            x,
            gain,
            bias,
            channels: seen,
        }: Saved<E>,
        gradient: FlexTensor,
        [wants_x, wants_gain, wants_bias]: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let BatchNorm { eps, rectify } = self.norm;
        let shape = x.shape().to_vec();
        let [batch, channels, height, width] = shape[..] else {
            unreachable!("images are of rank 4");
        };
        let pixels = height * width;
        let mut of_x = Dense::<E>::new(gradient).into_values();
        let images = by_channel(x.values(), channels, pixels);
        let gradients = by_channel_mut(&mut of_x, channels, pixels);
        let tasks = (images.into_par_iter().zip(gradients))
            .zip(gain.values().par_iter().zip(bias.values()))
            .zip(seen);
        let of_line = tasks.map(|(((images, gradients), (gain, bias)), seen)| {
            let (mean, slope) = seen.line(eps, *gain);
            let inverse = (seen.variance + eps).sqrt().recip();
            let mut gradients = gradients;
            // Sums of the gradient, and of the gradient times the distance from the mean.
            let (mut total, mut along) = (0.0f64, 0.0f64);
            for (gradient, x) in gradients.iter_mut().zip(&images) {
                wide(
                    #[inline(always)]
                    || {
                        if rectify {
                            for (gradient, x) in gradient.iter_mut().zip(*x) {
                                let is_kept = (x.wide() - mean) * slope + bias > 0.0;
                                *gradient = if is_kept { *gradient } else { E::default() };
                            }
                        }
                        total += f64::from(sum(gradient));
                        along += f64::from(dot_from(gradient, x, mean));
                    },
                );
            }
            if wants_x {
                // The gradient without its mean and without its component along the
                // normalised values.
                let count = (batch * pixels) as f64;
                let of_distance = -f64::from(slope) * along * inverse * inverse / count;
                let constant = -f64::from(slope) * total / count;
                let (of_distance, constant) = (of_distance as f32, constant as f32);
                for (gradient, x) in gradients.iter_mut().zip(&images) {
                    wide(
                        #[inline(always)]
                        || {
                            for (gradient, x) in gradient.iter_mut().zip(*x) {
                                let along = (x.wide() - mean) * of_distance + constant;
                                *gradient = E::narrow(gradient.wide() * slope + along);
                            }
                        },
                    );
                }
            }
            ((along * inverse) as f32, total as f32)
        });
        let (of_gain, of_bias): (Vec<f32>, Vec<f32>) = of_line.unzip();
        [
            wants_x.then(|| tensor(of_x, &shape)),
            wants_gain.then(|| tensor(of_gain, &[channels])),
            wants_bias.then(|| tensor(of_bias, &[channels])),
        ]
    }
}

/// - E: the dtype of both sides.
#[derive(Debug, Clone, Copy)]
struct AddRelu<E>(PhantomData<E>);

impl<E: Value> Kernel<Flex, 2> for AddRelu<E> {
    /// The output.
    type Saved = Dense<E>;

    fn forward(&self, [a, b]: [FlexTensor; 2]) -> (FlexTensor, Dense<E>) {
        let [a, b] = [a, b].map(Dense::<E>::new);
        let shape = a.shape().to_vec();
        assert_eq!(shape, b.shape(), "sides of a sum");
        let sides = (a.values(), b.values());
        let add = |at: usize, out: &mut [E]| {
            let (a, b) = (&sides.0[at * CHUNK..], &sides.1[at * CHUNK..]);
            wide(
                #[inline(always)]
                || {
                    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                        let sum = a.wide() + b.wide();
                        *out = E::narrow(if sum < 0.0 { 0.0 } else { sum });
                    }
                },
            );
        };
        let (out, _) = fresh(sides.0.len(), CHUNK, add);
        let out = tensor(out, &shape);
        (out.clone(), Dense::new(out))
    }

    fn backward(
        &self,
        out: Dense<E>,
        gradient: FlexTensor,
        _: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let mut gradient = Dense::<E>::new(gradient).into_values();
        let tasks = gradient
            .par_chunks_mut(CHUNK)
            .zip(out.values().par_chunks(CHUNK));
        tasks.for_each(|(gradient, out)| {
            wide(
                #[inline(always)]
                || {
                    for (gradient, out) in gradient.iter_mut().zip(out) {
                        let is_kept = out.wide() > 0.0;
                        *gradient = if is_kept { *gradient } else { E::default() };
                    }
                },
            );
        });
        let gradient = tensor(gradient, out.shape());
        [Some(gradient.clone()), Some(gradient)]
    }
}
