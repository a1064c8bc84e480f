//! Convolutions of images.

pub(crate) mod sizes;
mod tiles;

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor, bf16, module};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use self::sizes::{Conv, Sizes};
use self::tiles::Tile;
#[cfg(feature = "_cube")]
use crate::composed;
use crate::fresh::{fresh, narrow_all};
use crate::graph::{Kernel, apply, is_on_kernels};
#[cfg(feature = "_cube")]
use crate::graph::{compose, is_on_cpu};
use crate::linear::add_to;
use crate::product::{Before, Matrix, product};
use crate::values::{Dense, Value, tensor};

/// A convolution without bias, in the dtype of `x`.
/// - x: `[batch, in, height, width]`; weight: `[out, in, kernel, kernel]`, which may be wider.
/// - padding: zeros on each side, in pixels.
/// - returns `[batch, out, (height + 2 padding - kernel) / stride + 1, …]`.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, stride: usize, padding: usize) -> Tensor<4> {
    let [_, _, height, width] = weight.dims();
    let conv = Conv { stride, padding };
    if is_on_kernels(&x) && is_on_kernels(&weight) && height == width {
        let inputs = [x.clone().into_dispatch(), weight.clone().into_dispatch()];
        match [x.dtype(), weight.dtype()] {
            [DType::F32, DType::F32] => return apply(Convolve::<f32, f32>::new(conv), inputs).0,
            [DType::BF16, DType::F32] => return apply(Convolve::<bf16, f32>::new(conv), inputs).0,
            [DType::BF16, DType::BF16] => {
                return apply(Convolve::<bf16, bf16>::new(conv), inputs).0;
            }
            _ => {}
        }
    }
    let weight = if weight.dtype() == x.dtype() {
        weight
    } else {
        weight.cast(x.dtype())
    };
    #[cfg(feature = "_cube")]
    if height == width
        && let Some(output) = conv_on_cube(&x, &weight, conv)
    {
        return output;
    }
    let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
    module::conv2d(x, weight, None, options)
}

#[cfg(feature = "_cube")]
fn conv_on_cube(x: &Tensor<4>, weight: &Tensor<4>, conv: Conv) -> Option<Tensor<4>> {
    let (of_x, of_weight) = (x.dims(), weight.dims());
    let fits = of_weight[2] == of_weight[3]
        && x.dtype() == weight.dtype()
        && of_x.iter().all(|size| *size > 0);
    if !fits || is_on_cpu(x) {
        return None;
    }
    // With Burn's fusion there is no kernel.
    let plain = crate::cube::plain(&x.clone().inner())?;
    let sizes = Sizes::new(conv, &of_x, &of_weight);
    if !crate::cube::conv_fits(&plain, sizes) {
        return None;
    }
    let operands = [x.clone().into_dispatch(), weight.clone().into_dispatch()];
    compose(composed::Conv { sizes }, operands.each_ref())
}

/// - E, W: dtypes of x and the output, and of the weight.
#[derive(Debug, Clone, Copy)]
struct Convolve<E, W> {
    conv: Conv,
    values: PhantomData<(E, W)>,
}

impl<E: Value, W: Value> Convolve<E, W> {
    fn new(conv: Conv) -> Self {
        Self {
            conv,
            values: PhantomData,
        }
    }

    /// The gradients of some images and what they add to that of the weight.
    /// - of_x: is zero before.
    /// - of_weight: is added to.
    fn gradients(
        sizes: &Sizes,
        kernels: Matrix,
        (x, gradient): (&[E], &[E]),
        mut of_x: Option<&mut [E]>,
        mut of_weight: Option<&mut [f32]>,
    ) {
        let (image, from) = (
            sizes.outputs * sizes.output_pixels(),
            sizes.inputs * sizes.input_pixels(),
        );
        let [mut patches, mut buffer, mut out] = [const { Vec::new() }; 3];
        // Sums of the pixels of one tile's images.
        let (mut columns, mut sums) = (Vec::new(), Vec::new());
        for tile in &sizes.tiles(gradient.len() / image) {
            let pixels = sizes.pixels(gradient, sizes.outputs, tile, &mut out);
            if let Some(of_weight) = of_weight.as_deref_mut() {
                let patches = sizes.patches(x, tile, &mut patches).transposed();
                let width = sizes.patch();
                product(of_weight, width, Before::Add, pixels, patches);
            }
            let Some(of_x) = of_x.as_deref_mut() else {
                continue;
            };
            if sizes.is_pointwise() {
                sizes.put(of_x, sizes.inputs, tile, (kernels, pixels), &mut buffer);
                continue;
            }
            let count = sizes.columns(tile);
            columns.resize(sizes.patch() * count, 0.0);
            product(&mut columns, count, Before::Overwrite, kernels, pixels);
            let of_images = &mut of_x[tile.image * from..][..tile.images * from];
            let within = &Tile { image: 0, ..*tile };
            if let Some(of_x) = E::as_wide(of_images) {
                sizes.scatter(&columns, within, of_x);
                continue;
            }
            if tile.row == 0 {
                sums.clear();
                sums.resize(of_images.len(), 0.0);
            }
            sizes.scatter(&columns, within, &mut sums);
            if tile.row + tile.rows == sizes.to[0] {
                for (of_x, sum) in of_images.iter_mut().zip(&sums) {
                    *of_x = E::narrow(*sum);
                }
            }
        }
    }
}

impl<E: Value, W: Value> Kernel<Flex, 2> for Convolve<E, W> {
    /// x and weight
    type Saved = (Dense<E>, Dense<W>);

    fn forward(&self, [x, weight]: [FlexTensor; 2]) -> (FlexTensor, Self::Saved) {
        let (x, weight) = (Dense::<E>::new(x), Dense::<W>::new(weight));
        let sizes = Sizes::new(self.conv, x.shape(), weight.shape());
        let image = sizes.outputs * sizes.output_pixels();
        let kernels = Matrix::new(weight.values(), sizes.outputs, sizes.patch());
        let (per_task, values) = (sizes.share(), x.values());
        let of_images = |at: usize, out: &mut [E]| {
            let x = &values[at * per_task * sizes.inputs * sizes.input_pixels()..];
            let (mut columns, mut buffer) = (Vec::new(), Vec::new());
            for tile in &sizes.tiles(out.len() / image) {
                let patches = sizes.patches(x, tile, &mut columns);
                sizes.put(out, sizes.outputs, tile, (kernels, patches), &mut buffer);
            }
        };
        let (out, _) = fresh(sizes.batch * image, per_task * image, of_images);
        let [height, width] = sizes.to;
        let shape = [sizes.batch, sizes.outputs, height, width];
        (tensor(out, &shape), (x, weight))
    }

    fn backward(
        &self,
        (x, weight): Self::Saved,
        gradient: FlexTensor,
        [wants_x, wants_weight]: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let gradient = Dense::<E>::new(gradient);
        let sizes = Sizes::new(self.conv, x.shape(), weight.shape());
        let (image, from) = (
            sizes.outputs * sizes.output_pixels(),
            sizes.inputs * sizes.input_pixels(),
        );
        let kernels = Matrix::new(weight.values(), sizes.outputs, sizes.patch()).transposed();
        let share = sizes.share();
        let part = |at: usize, of_x: Option<&mut [E]>| {
            let images = share.min(sizes.batch - at * share);
            let x = &x.values()[at * share * from..][..images * from];
            let gradient = &gradient.values()[at * share * image..][..images * image];
            let mut of_weight = wants_weight.then(|| vec![0.0; weight.values().len()]);
            Self::gradients(
                &sizes,
                kernels,
                (x, gradient),
                of_x,
                of_weight.as_deref_mut(),
            );
            of_weight
        };
        let (of_x, of_weights) = if wants_x {
            fresh(x.values().len(), share * from, |at, of_x| {
                part(at, Some(of_x))
            })
        } else {
            let tasks = (0..sizes.batch.div_ceil(share)).into_par_iter();
            (Vec::new(), tasks.map(|at| part(at, None)).collect())
        };
        let of_weight = of_weights.into_iter().flatten().reduce(|mut sum, part| {
            add_to(&mut sum, &part);
            sum
        });
        [
            wants_x.then(|| tensor(of_x, x.shape())),
            of_weight.map(|of_weight| {
                if W::DTYPE == DType::F32 {
                    tensor(of_weight, weight.shape())
                } else {
                    tensor(narrow_all::<W>(&of_weight), weight.shape())
                }
            }),
        ]
    }
}
