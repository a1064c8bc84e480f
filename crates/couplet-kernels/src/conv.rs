//! Convolutions of images.

use std::marker::PhantomData;

use burn::backend::Flex;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor, bf16, module};
use burn_flex::FlexTensor;
use rayon::prelude::*;

#[cfg(feature = "_cube")]
use crate::composed;
use crate::graph::{Kernel, apply, is_on_kernels};
#[cfg(feature = "_cube")]
use crate::graph::{compose, is_on_cpu};
use crate::linear::add_to;
use crate::product::{Before, Matrix, product};
use crate::values::{Dense, Value, tensor};

/// About how many output pixels one matrix product computes: enough to run at full speed, few
/// enough for its columns to stay in the cache.
const TILE: usize = 1024;

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
    let sizes = crate::cube::ConvSizes {
        batch: sizes.batch,
        inputs: sizes.inputs,
        outputs: sizes.outputs,
        kernel: sizes.kernel,
        stride: sizes.stride,
        padding: sizes.padding,
        from: sizes.from,
        to: sizes.to,
    };
    if !crate::cube::conv_fits(&plain, sizes) {
        return None;
    }
    let operands = [x.clone().into_dispatch(), weight.clone().into_dispatch()];
    compose(composed::Conv { sizes }, operands.each_ref())
}

#[derive(Debug, Clone, Copy)]
struct Conv {
    stride: usize,
    padding: usize,
}

/// All sizes of one convolution.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    batch: usize,
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Of the input: height and width.
    from: [usize; 2],
    /// Of the output.
    to: [usize; 2],
}

/// Some output pixels: whole images, or some rows of one.
#[derive(Debug, Clone, Copy)]
struct Tile {
    image: usize,
    images: usize,
    row: usize,
    rows: usize,
}

impl Sizes {
    fn new(conv: Conv, x: &[usize], weight: &[usize]) -> Self {
        let ([batch, inputs, height, width], [outputs, _, kernel, _]) = (
            <[usize; 4]>::try_from(x).expect("images are of rank 4"),
            <[usize; 4]>::try_from(weight).expect("kernels are of rank 4"),
        );
        assert_eq!(inputs, weight[1], "channels of a convolution");
        let size = |size: usize| (size + 2 * conv.padding - kernel) / conv.stride + 1;
        Self {
            batch,
            inputs,
            outputs,
            kernel,
            stride: conv.stride,
            padding: conv.padding,
            from: [height, width],
            to: [size(height), size(width)],
        }
    }

    fn input_pixels(&self) -> usize {
        self.from[0] * self.from[1]
    }

    fn output_pixels(&self) -> usize {
        self.to[0] * self.to[1]
    }

    /// Values of one output pixel's patch.
    fn patch(&self) -> usize {
        self.inputs * self.kernel * self.kernel
    }

    /// Whether a patch is a pixel, and the columns are the input itself.
    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == 0
    }

    /// Images of one task, so that there are at most as many tasks as cores. A single image is
    /// divided within its products.
    fn share(&self) -> usize {
        self.batch.div_ceil(rayon::current_num_threads()).max(1)
    }

    /// The tiles of `images` images.
    fn tiles(&self, images: usize) -> Vec<Tile> {
        let [height, width] = self.to;
        if self.output_pixels() <= TILE {
            let at_once = (TILE / self.output_pixels().max(1)).max(1);
            let starts = (0..images).step_by(at_once);
            return starts
                .map(|image| Tile {
                    image,
                    images: at_once.min(images - image),
                    row: 0,
                    rows: height,
                })
                .collect();
        }
        let at_once = (TILE / width).clamp(1, height);
        let rows = |image| {
            let starts = (0..height).step_by(at_once);
            starts.map(move |row| Tile {
                image,
                images: 1,
                row,
                rows: at_once.min(height - row),
            })
        };
        (0..images).flat_map(rows).collect()
    }

    fn columns(&self, tile: &Tile) -> usize {
        tile.images * tile.rows * self.to[1]
    }

    /// im2col: the patches of a tile's pixels, one in each column, `[patch, columns]`.
    /// - x: the images that `tile.image` counts from.
    fn gather<E: Value>(&self, x: &[E], tile: &Tile, columns: &mut [E]) {
        let count = self.columns(tile);
        let planes = columns.chunks_exact_mut(self.kernel * self.kernel * count);
        for (channel, rows) in planes.enumerate() {
            for (tap, row) in rows.chunks_exact_mut(count).enumerate() {
                let (down, right) = (tap / self.kernel, tap % self.kernel);
                let lines = row.chunks_exact_mut(self.to[1]);
                for (line, to) in lines.enumerate() {
                    let image = tile.image + line / tile.rows;
                    let y = (tile.row + line % tile.rows) * self.stride + down;
                    let plane = &x[(image * self.inputs + channel) * self.input_pixels()..];
                    self.gather_line(plane, y, right, to);
                }
            }
        }
    }

    /// One line of one tap.
    /// - y: counted from the top of the padding.
    fn gather_line<E: Value>(&self, plane: &[E], y: usize, right: usize, to: &mut [E]) {
        let [height, width] = self.from;
        if y < self.padding || y >= height + self.padding {
            to.fill(E::default());
            return;
        }
        let from = &plane[(y - self.padding) * width..][..width];
        let inside = self.inside(right, to.len());
        to[..inside.start].fill(E::default());
        to[inside.end..].fill(E::default());
        if inside.is_empty() {
            return;
        }
        let first = inside.start * self.stride + right - self.padding;
        let to = &mut to[inside];
        if self.stride == 1 {
            to.copy_from_slice(&from[first..][..to.len()]);
        } else {
            let from = from[first..].iter().step_by(self.stride);
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }
    }

    /// The output columns whose tap is inside the image.
    fn inside(&self, right: usize, columns: usize) -> std::ops::Range<usize> {
        let start = self.padding.saturating_sub(right).div_ceil(self.stride);
        let end = (self.from[1] + self.padding)
            .saturating_sub(right)
            .div_ceil(self.stride);
        let end = end.min(columns);
        start.min(end)..end
    }

    /// col2im, the inverse of [`Self::gather`]: adds each patch to its pixels of `x`.
    fn scatter(&self, columns: &[f32], tile: &Tile, x: &mut [f32]) {
        let [height, width] = self.from;
        let count = self.columns(tile);
        let planes = columns.chunks_exact(self.kernel * self.kernel * count);
        for (channel, rows) in planes.enumerate() {
            for (tap, row) in rows.chunks_exact(count).enumerate() {
                let (down, right) = (tap / self.kernel, tap % self.kernel);
                let inside = self.inside(right, self.to[1]);
                if inside.is_empty() {
                    continue;
                }
                let first = inside.start * self.stride + right - self.padding;
                for (line, from) in row.chunks_exact(self.to[1]).enumerate() {
                    let image = tile.image + line / tile.rows;
                    let y = (tile.row + line % tile.rows) * self.stride + down;
                    if y < self.padding || y >= height + self.padding {
                        continue;
                    }
                    let plane = (image * self.inputs + channel) * self.input_pixels();
                    let to = &mut x[plane + (y - self.padding) * width + first..];
                    let from = &from[inside.clone()];
                    if self.stride == 1 {
                        add_to(&mut to[..from.len()], from);
                    } else {
                        let to = to.iter_mut().step_by(self.stride);
                        to.zip(from).for_each(|(to, from)| *to += from);
                    }
                }
            }
        }
    }

    /// A tile's pixels in place, `[channels, columns]`, if they belong to one image.
    fn view_one_image<'a, E: Value>(
        &self,
        values: &'a [E],
        channels: usize,
        tile: &Tile,
    ) -> Option<Matrix<'a>> {
        let pixels = self.output_pixels();
        let start = tile.image * channels * pixels + tile.row * self.to[1];
        let columns = self.columns(tile);
        (tile.images == 1).then(|| Matrix::strided(&values[start..], channels, columns, pixels))
    }

    /// Copies a tile's pixels of several images to `[channels, columns]`.
    fn pack<E: Value>(&self, values: &[E], channels: usize, tile: &Tile, to: &mut [E]) {
        let (pixels, count) = (self.output_pixels(), self.columns(tile));
        for (channel, row) in to.chunks_exact_mut(count).enumerate() {
            for (image, part) in row.chunks_exact_mut(pixels).enumerate() {
                let start = ((tile.image + image) * channels + channel) * pixels;
                part.copy_from_slice(&values[start..][..pixels]);
            }
        }
    }

    /// The inverse of [`Self::pack`].
    fn unpack<E: Value>(&self, from: &[E], channels: usize, tile: &Tile, values: &mut [E]) {
        let (pixels, count) = (self.output_pixels(), self.columns(tile));
        for (channel, row) in from.chunks_exact(count).enumerate() {
            for (image, part) in row.chunks_exact(pixels).enumerate() {
                let start = ((tile.image + image) * channels + channel) * pixels;
                values[start..][..pixels].copy_from_slice(part);
            }
        }
    }

    /// A tile's pixels as `[channels, columns]`, copied into `buffer` only if they belong to
    /// several images.
    fn pixels<'a, E: Value>(
        &self,
        values: &'a [E],
        channels: usize,
        tile: &Tile,
        buffer: &'a mut Vec<E>,
    ) -> Matrix<'a> {
        if let Some(matrix) = self.view_one_image(values, channels, tile) {
            return matrix;
        }
        let count = self.columns(tile);
        buffer.resize(channels * count, E::default());
        self.pack(values, channels, tile, buffer);
        Matrix::new(buffer, channels, count)
    }

    /// [`Self::gather`], copied into `buffer` only if a patch is more than a pixel.
    fn patches<'a, E: Value>(&self, x: &'a [E], tile: &Tile, buffer: &'a mut Vec<E>) -> Matrix<'a> {
        if self.is_pointwise() {
            return self.pixels(x, self.inputs, tile, buffer);
        }
        let count = self.columns(tile);
        buffer.resize(self.patch() * count, E::default());
        self.gather(x, tile, buffer);
        Matrix::new(buffer, self.patch(), count)
    }

    /// Writes `left right` to a tile's pixels in `values`.
    fn put<E: Value>(
        &self,
        values: &mut [E],
        channels: usize,
        tile: &Tile,
        (left, right): (Matrix, Matrix),
        buffer: &mut Vec<E>,
    ) {
        let (pixels, count) = (self.output_pixels(), self.columns(tile));
        if tile.images == 1 {
            let start = tile.image * channels * pixels + tile.row * self.to[1];
            product(&mut values[start..], pixels, Before::Overwrite, left, right);
            return;
        }
        buffer.resize(channels * count, E::default());
        product(buffer, count, Before::Overwrite, left, right);
        self.unpack(buffer, channels, tile, values);
    }
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
        let mut out = vec![E::default(); sizes.batch * image];
        let kernels = Matrix::new(weight.values(), sizes.outputs, sizes.patch());
        let tasks = (out.par_chunks_mut(sizes.share() * image))
            .zip((x.values()).par_chunks(sizes.share() * sizes.inputs * sizes.input_pixels()));
        tasks.for_each(|(out, x)| {
            let (mut columns, mut buffer) = (Vec::new(), Vec::new());
            for tile in &sizes.tiles(out.len() / image) {
                let patches = sizes.patches(x, tile, &mut columns);
                sizes.put(out, sizes.outputs, tile, (kernels, patches), &mut buffer);
            }
        });
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
        let mut of_x = vec![E::default(); if wants_x { x.values().len() } else { 0 }];
        let mut parts: Vec<_> = of_x.chunks_mut(sizes.share() * from).map(Some).collect();
        let tasks = (x.values().chunks(sizes.share() * from))
            .zip(gradient.values().chunks(sizes.share() * image));
        parts.resize_with(tasks.len(), || None);
        let tasks: Vec<_> = tasks.zip(parts).collect();
        let of_weight = tasks.into_par_iter().map(|(images, of_x)| {
            let mut of_weight = wants_weight.then(|| vec![0.0; weight.values().len()]);
            Self::gradients(&sizes, kernels, images, of_x, of_weight.as_deref_mut());
            of_weight
        });
        let of_weights: Vec<Option<Vec<f32>>> = of_weight.collect();
        let of_weight = of_weights.into_iter().flatten().reduce(|mut sum, part| {
            add_to(&mut sum, &part);
            sum
        });
        [
            wants_x.then(|| tensor(of_x, x.shape())),
            of_weight.map(|of_weight| {
                let mut narrow = Vec::new();
                W::narrowed(&of_weight, &mut narrow);
                match W::DTYPE {
                    DType::F32 => tensor(of_weight, weight.shape()),
                    _ => tensor(narrow, weight.shape()),
                }
            }),
        ]
    }
}
