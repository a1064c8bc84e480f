//! Convolutions as single matrix products over all output pixels. CubeCL's own run without tensor cores unless they are
//! tuned for minutes.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::product::multiply;
use super::{elem, empty, grid, laid_out, reshaped, vector_size};
use crate::conv::sizes::Sizes;

/// Units side by side along a line of pixels, and lines of a cube.
const LANES: u32 = 32;
const LINES: u32 = 8;

/// The input pixels that each output pixel reads: `[inputs * kernel * kernel, batch * pixels]`, whose lines are
/// those of one image each.
#[cube(launch)]
fn gather<F: Float>(
    x: &[F],
    columns: &mut [F],
    lines: usize,
    inputs: usize,
    height: usize,
    width: usize,
    out_width: usize,
    pixels: usize,
    batch: usize,
    #[comptime] kernel: usize,
    #[comptime] stride: usize,
    #[comptime] padding: usize,
    #[define(F)] _dtype: ElemType,
) {
    let line = CUBE_POS as usize * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    if line < lines {
        let (image, tap) = (line % batch, line / batch);
        let (x_of_kernel, rest) = (tap % kernel, tap / kernel);
        let (y_of_kernel, channel) = (rest % kernel, rest / kernel);
        let from = (image * inputs + channel) * height * width;
        let to = line * pixels;
        for pixel in range_stepped(UNIT_POS_X as usize, pixels, CUBE_DIM_X as usize) {
            let row = pixel / out_width;
            let column = pixel - row * out_width;
            // With the padding, so that nothing is negative.
            let y = row * stride + y_of_kernel;
            let x_at = column * stride + x_of_kernel;
            let is_inside =
                y >= padding && x_at >= padding && y < height + padding && x_at < width + padding;
            let mut value = F::from_int(0);
            if is_inside {
                value = x[from + (y - padding) * width + (x_at - padding)];
            }
            columns[to + pixel] = value;
        }
    }
}

/// The inverse of [`gather`], adding up what it copied. Lines are those of one channel of an image.
#[cube(launch)]
fn scatter<F: Float>(
    columns: &[F],
    x: &mut [F],
    lines: usize,
    inputs: usize,
    width: usize,
    pixels: usize,
    out_height: usize,
    out_width: usize,
    batch: usize,
    #[comptime] kernel: usize,
    #[comptime] stride: usize,
    #[comptime] padding: usize,
    #[define(F)] _dtype: ElemType,
) {
    let line = CUBE_POS as usize * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    if line < lines {
        let (image, channel) = (line / inputs, line % inputs);
        let first_tap = channel * comptime!(kernel * kernel);
        for pixel in range_stepped(UNIT_POS_X as usize, pixels, CUBE_DIM_X as usize) {
            let above = pixel / width;
            let y = above + padding;
            let x_at = pixel - above * width + padding;
            let mut sum = 0.0f32;
            for y_of_kernel in 0..kernel {
                for x_of_kernel in 0..kernel {
                    if y >= y_of_kernel && x_at >= x_of_kernel {
                        let (down, right) = (y - y_of_kernel, x_at - x_of_kernel);
                        let (row, column) = (down / stride, right / stride);
                        let is_read = down % stride == 0
                            && right % stride == 0
                            && row < out_height
                            && column < out_width;
                        if is_read {
                            let tap = first_tap + y_of_kernel * kernel + x_of_kernel;
                            let from = ((tap * batch + image) * out_height + row) * out_width;
                            sum += f32::cast_from(columns[from + column]);
                        }
                    }
                }
            }
            x[line * pixels + pixel] = F::cast_from(sum);
        }
    }
}

/// `[first, second, pixels]` as `[second, first, pixels]`.
#[cube(launch)]
fn exchange<F: Float, N: Size>(
    from: &[Vector<F, N>],
    to: &mut [Vector<F, N>],
    lines: usize,
    first: usize,
    second: usize,
    vectors: usize,
    #[define(F)] _dtype: ElemType,
) {
    let line = CUBE_POS as usize * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    if line < lines {
        let start = (line % first * second + line / first) * vectors;
        for at in range_stepped(UNIT_POS_X as usize, vectors, CUBE_DIM_X as usize) {
            to[line * vectors + at] = from[start + at];
        }
    }
}

/// Cubes for so many lines.
fn cubes(lines: usize) -> (CubeCount, CubeDim) {
    let cube = CubeDim::new_2d(LANES, LINES);
    (grid(lines.div_ceil(LINES as usize)), cube)
}

impl Sizes {
    /// Whether each image is one product with the weight, as it is in memory. Tensor cores read rows of multiples of
    /// 16 bytes.
    fn are_products(&self) -> bool {
        self.is_pointwise() && self.output_pixels().is_multiple_of(8)
    }

    /// - matrix: `[to, from]`; x: images of `from` channels.
    /// - returns images of `to` channels.
    fn product(&self, matrix: &CubeTensor, x: &CubeTensor, from: usize, to: usize) -> CubeTensor {
        let x = reshaped(x, [self.batch, from, self.output_pixels()]);
        let product = multiply(&repeated(matrix, self.batch), &x, None, x.dtype);
        reshaped(&product, [self.batch, to, self.to[0], self.to[1]])
    }

    fn gathered(&self, x: &CubeTensor) -> CubeTensor {
        let columns = empty(
            x,
            [self.patch(), self.batch * self.output_pixels()],
            x.dtype,
        );
        let lines = self.patch() * self.batch;
        let (grid, cube) = cubes(lines);
        gather::launch(
            &x.client,
            grid,
            cube,
            x.clone().into_buffer_arg(),
            columns.clone().into_buffer_arg(),
            lines,
            self.inputs,
            self.from[0],
            self.from[1],
            self.to[1],
            self.output_pixels(),
            self.batch,
            self.kernel,
            self.stride,
            self.padding,
            elem(x.dtype),
        );
        columns
    }

    /// `[first, second, pixels]` as `[second, first * pixels]` or the like.
    fn exchanged(&self, x: &CubeTensor, first: usize, shape: Vec<usize>) -> CubeTensor {
        let to = empty(x, shape, x.dtype);
        let lines = x.meta.num_elements() / self.output_pixels();
        let (grid, cube) = cubes(lines);
        let vector = vector_size(&x.client, &[x.dtype], self.output_pixels());
        exchange::launch(
            &x.client,
            grid,
            cube,
            vector,
            x.clone().into_buffer_arg(),
            to.clone().into_buffer_arg(),
            lines,
            first,
            lines / first,
            self.output_pixels() / vector,
            elem(x.dtype),
        );
        to
    }
}

/// Whether the device holds the pixels of all output pixels at once.
pub(crate) fn fits(x: &CubeTensor, sizes: Sizes) -> bool {
    let count = sizes.patch() * sizes.batch * sizes.output_pixels();
    let bytes = (count * x.dtype.size()) as u64;
    u32::try_from(count).is_ok() && bytes <= x.client.properties().memory.max_page_size
}

/// A matrix with rows and columns exchanged.
fn turned(matrix: &CubeTensor) -> CubeTensor {
    let (shape, strides) = (matrix.meta.shape(), matrix.meta.strides());
    laid_out(matrix, [shape[1], shape[0]], [strides[1], strides[0]])
}

/// A matrix once for each image: `[batch, rows, columns]`.
fn repeated(matrix: &CubeTensor, batch: usize) -> CubeTensor {
    let (shape, strides) = (matrix.meta.shape(), matrix.meta.strides());
    let shape = [batch, shape[0], shape[1]];
    laid_out(matrix, shape, [0, strides[0], strides[1]])
}

/// - x: `[batch, inputs, height, width]`; weight: `[outputs, inputs, kernel, kernel]`; both contiguous.
/// - returns `[batch, outputs, height, width]` of the output.
pub(crate) fn conv(x: &CubeTensor, weight: &CubeTensor, sizes: Sizes) -> CubeTensor {
    if sizes.are_products() {
        return sizes.product(&matrix(weight, sizes), x, sizes.inputs, sizes.outputs);
    }
    let weight = matrix(weight, sizes);
    let product = multiply(&weight, &sizes.gathered(x), None, x.dtype);
    let shape = vec![sizes.batch, sizes.outputs, sizes.to[0], sizes.to[1]];
    sizes.exchanged(&product, sizes.outputs, shape)
}

/// The weight as a matrix.
fn matrix(weight: &CubeTensor, sizes: Sizes) -> CubeTensor {
    reshaped(weight, [sizes.outputs, sizes.patch()])
}

/// The gradients of x, in its dtype, and of the weight, in `dtype`.
/// - gradient: of the output, contiguous.
pub(crate) fn conv_gradients(
    x: &CubeTensor,
    weight: &CubeTensor,
    gradient: &CubeTensor,
    sizes: Sizes,
    dtype: DType,
    [wants_x, wants_weight]: [bool; 2],
) -> [Option<CubeTensor>; 2] {
    let apart = gradient;
    let shape = vec![sizes.outputs, sizes.batch * sizes.output_pixels()];
    let gradient =
        (wants_weight || !sizes.are_products()).then(|| sizes.exchanged(apart, sizes.batch, shape));
    let together = || gradient.as_ref().expect("it is there if it is read");
    let of_weight = wants_weight.then(|| {
        let columns = sizes.gathered(x);
        let sum = multiply(together(), &turned(&columns), None, dtype);
        reshaped(&sum, weight.meta.shape().clone())
    });
    let of_x = wants_x.then(|| {
        let weight = turned(&matrix(weight, sizes));
        if sizes.are_products() {
            return sizes.product(&weight, apart, sizes.outputs, sizes.inputs);
        }
        let columns = multiply(&weight, together(), None, x.dtype);
        let of_x = empty(x, x.meta.shape().clone(), x.dtype);
        let lines = sizes.batch * sizes.inputs;
        let (grid, cube) = cubes(lines);
        scatter::launch(
            &x.client,
            grid,
            cube,
            columns.into_buffer_arg(),
            of_x.clone().into_buffer_arg(),
            lines,
            sizes.inputs,
            sizes.from[1],
            sizes.from[0] * sizes.from[1],
            sizes.to[0],
            sizes.to[1],
            sizes.batch,
            sizes.kernel,
            sizes.stride,
            sizes.padding,
            elem(x.dtype),
        );
        of_x
    });
    [of_x, of_weight]
}
