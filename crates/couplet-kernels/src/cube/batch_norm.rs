//! Batch normalisation of images by channel, with the ReLU after it.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::sums::sum_of_rows;
use super::{UNITS, assert_countable, elem, empty, grid, sum_of_lanes, sum_of_vector, vector_size};

/// About how many cubes keep a large GPU busy.
const CUBES: usize = 1024;

/// A channel's mean, inverse standard deviation, and slope: `y = (x - mean) slope + bias`.
#[cube]
fn line<P: Float>(
    totals: &[f32],
    spreads: &[f32],
    gain: &[P],
    channel: usize,
    inverse_count: f32,
    eps: f32,
) -> (f32, f32, f32) {
    let mean = totals[channel] * inverse_count;
    let inverse = 1.0f32 / f32::sqrt(spreads[channel] * inverse_count + eps);
    (mean, inverse, f32::cast_from(gain[channel]) * inverse)
}

/// The gradient where a rectified line is above zero, else 0.
#[cube]
fn kept<N: Size>(gradient: Vector<f32, N>, line: Vector<f32, N>) -> Vector<f32, N> {
    let mut gradient = gradient;
    #[unroll]
    for at in 0..N::value() {
        let value = select(line.extract(at) > 0.0f32, gradient.extract(at), 0.0f32);
        gradient.insert(at, value);
    }
    gradient
}

/// Sums over some images of each channel, of values or of squared distances from the mean: `[slices, channels]`.
#[cube(launch)]
fn sums<X: Float, N: Size>(
    x: &[Vector<X, N>],
    totals: &[f32],
    parts: &mut [f32],
    images: usize,
    images_of_slice: usize,
    channels: usize,
    vectors: usize,
    inverse_count: f32,
    #[comptime] is_spread: bool,
    #[define(X)] _dtype: ElemType,
) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let (channel, slice) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let first = slice * images_of_slice;
    let count = min(images_of_slice, images - min(first, images)) * vectors;
    let mut mean = 0.0f32;
    if comptime!(is_spread) {
        mean = totals[channel] * inverse_count;
    }
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for at in range_stepped(UNIT_POS as usize, count, CUBE_DIM as usize) {
        let row = (first + at / vectors) * channels + channel;
        let value = Vector::<f32, N>::cast_from(x[row * vectors + at % vectors]);
        if comptime!(is_spread) {
            let centered = value - Vector::new(mean);
            sum += centered * centered;
        } else {
            sum += value;
        }
    }
    let sum = sum_of_lanes(sum_of_vector(sum), &mut shared, UNITS, false);
    if UNIT_POS == 0 {
        parts[slice * channels + channel] = sum;
    }
}

#[cube(launch)]
fn normalize<X: Float, P: Float, N: Size>(
    x: &[Vector<X, N>],
    totals: &[f32],
    spreads: &[f32],
    gain: &[P],
    bias: &[P],
    output: &mut [Vector<X, N>],
    count: usize,
    channels: usize,
    vectors: usize,
    inverse_count: f32,
    eps: f32,
    #[comptime] rectify: bool,
    #[define(X, P)] _dtypes: [ElemType; 2],
) {
    let at = ABSOLUTE_POS as usize;
    if at < count {
        let channel = at / vectors % channels;
        let (mean, _, slope) = line(totals, spreads, gain, channel, inverse_count, eps);
        let bias = f32::cast_from(bias[channel]);
        let x = Vector::<f32, N>::cast_from(x[at]);
        let mut y = (x - Vector::new(mean)) * Vector::new(slope) + Vector::new(bias);
        if comptime!(rectify) {
            y = max(y, Vector::new(0.0f32));
        }
        output[at] = Vector::cast_from(y);
    }
}

/// Sums over some images of each channel: of the gradient times the distance from the mean, and of the gradient,
/// `[slices, 2, channels]`.
#[cube(launch)]
fn gradient_sums<X: Float, G: Float, P: Float, N: Size>(
    x: &[Vector<X, N>],
    gradient: &[Vector<G, N>],
    totals: &[f32],
    spreads: &[f32],
    gain: &[P],
    bias: &[P],
    parts: &mut [f32],
    images: usize,
    images_of_slice: usize,
    channels: usize,
    vectors: usize,
    inverse_count: f32,
    eps: f32,
    #[comptime] rectify: bool,
    #[define(X, G, P)] _dtypes: [ElemType; 3],
) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(UNITS as usize));
    let (channel, slice) = (CUBE_POS_X as usize, CUBE_POS_Y as usize);
    let first = slice * images_of_slice;
    let count = min(images_of_slice, images - min(first, images)) * vectors;
    let (mean, _, slope) = line(totals, spreads, gain, channel, inverse_count, eps);
    let bias = f32::cast_from(bias[channel]);
    let mut along = Vector::<f32, N>::new(0.0f32);
    let mut sum = Vector::<f32, N>::new(0.0f32);
    for at in range_stepped(UNIT_POS as usize, count, CUBE_DIM as usize) {
        let row = (first + at / vectors) * channels + channel;
        let place = row * vectors + at % vectors;
        let centered = Vector::<f32, N>::cast_from(x[place]) - Vector::new(mean);
        let mut own = Vector::<f32, N>::cast_from(gradient[place]);
        if comptime!(rectify) {
            own = kept(own, centered * Vector::new(slope) + Vector::new(bias));
        }
        along += own * centered;
        sum += own;
    }
    let along = sum_of_lanes(sum_of_vector(along), &mut shared, UNITS, false);
    let sum = sum_of_lanes(sum_of_vector(sum), &mut shared, UNITS, false);
    if UNIT_POS == 0 {
        parts[2 * slice * channels + channel] = along;
        parts[(2 * slice + 1) * channels + channel] = sum;
    }
}

/// The gradient of x: that of the output without its mean, and without its component along the normalised values.
#[cube(launch)]
fn gradient_of_x<X: Float, G: Float, P: Float, N: Size>(
    x: &[Vector<X, N>],
    gradient: &[Vector<G, N>],
    totals: &[f32],
    spreads: &[f32],
    gain: &[P],
    bias: &[P],
    sums: &[f32],
    of_x: &mut [Vector<X, N>],
    count: usize,
    channels: usize,
    vectors: usize,
    inverse_count: f32,
    eps: f32,
    #[comptime] rectify: bool,
    #[define(X, G, P)] _dtypes: [ElemType; 3],
) {
    let at = ABSOLUTE_POS as usize;
    if at < count {
        let channel = at / vectors % channels;
        let (mean, inverse, slope) = line(totals, spreads, gain, channel, inverse_count, eps);
        let along = sums[channel] * inverse * inverse * inverse_count;
        let sum = sums[channels + channel] * inverse_count;
        let centered = Vector::<f32, N>::cast_from(x[at]) - Vector::new(mean);
        let mut own = Vector::<f32, N>::cast_from(gradient[at]);
        if comptime!(rectify) {
            let bias = f32::cast_from(bias[channel]);
            own = kept(own, centered * Vector::new(slope) + Vector::new(bias));
        }
        let rest = own - centered * Vector::new(along) - Vector::new(sum);
        of_x[at] = Vector::cast_from(rest * Vector::new(slope));
    }
}

/// The gradient of the gain: what is along the normalised values.
#[cube(launch)]
fn gradient_of_gain<P: Float>(
    sums: &[f32],
    spreads: &[f32],
    of_gain: &mut [P],
    of_bias: &mut [P],
    channels: usize,
    inverse_count: f32,
    eps: f32,
    #[define(P)] _dtype: ElemType,
) {
    let channel = ABSOLUTE_POS as usize;
    if channel < channels {
        let inverse = 1.0f32 / f32::sqrt(spreads[channel] * inverse_count + eps);
        of_gain[channel] = P::cast_from(sums[channel] * inverse);
        of_bias[channel] = P::cast_from(sums[channels + channel]);
    }
}

/// A batch norm's input and what its statistics are computed from.
#[derive(Debug, Clone)]
pub(crate) struct Saved {
    /// `[batch, channels, height, width]`, contiguous.
    x: CubeTensor,
    gain: CubeTensor,
    bias: CubeTensor,
    /// Of each channel: the sum, and the sum of squared distances from the mean, in f32.
    totals: CubeTensor,
    spreads: CubeTensor,
    eps: f32,
    rectify: bool,
}

/// How images are shared out.
struct Plan {
    images: usize,
    channels: usize,
    /// Of a channel of an image, and how many values are in each.
    vectors: usize,
    vector: usize,
    slices: usize,
    inverse_count: f32,
}

impl Plan {
    fn new(x: &CubeTensor) -> Self {
        let [images, channels, height, width] = x.meta.shape()[..] else {
            unreachable!("images are of rank 4");
        };
        let pixels = height * width;
        let vector = vector_size(&x.client, &[x.dtype], pixels);
        assert_countable(images * channels * pixels / vector);
        Self {
            images,
            channels,
            vectors: pixels / vector,
            vector,
            slices: (CUBES / channels).clamp(1, images.max(1)),
            inverse_count: ((images * pixels) as f32).recip(),
        }
    }

    fn images_of_slice(&self) -> usize {
        self.images.div_ceil(self.slices)
    }

    fn count(&self) -> usize {
        self.images * self.channels * self.vectors
    }

    fn slices(&self) -> CubeCount {
        let wide = |count: usize| u32::try_from(count).expect("a grid's sides are below 2^32");
        CubeCount::new_2d(wide(self.channels), wide(self.slices))
    }

    fn all(&self) -> CubeCount {
        grid(self.count().div_ceil(UNITS as usize))
    }

    /// The sum of each channel, or with `totals` of its squared distances from its mean: `[channels]`.
    fn sum(&self, x: &CubeTensor, totals: Option<&CubeTensor>) -> CubeTensor {
        let parts = empty(x, [self.slices, self.channels], DType::F32);
        let is_spread = totals.is_some();
        // A kernel has as many buffers in both cases.
        let totals = totals.map_or_else(|| empty(x, [1], DType::F32), CubeTensor::clone);
        sums::launch(
            &x.client,
            self.slices(),
            CubeDim::new_1d(UNITS),
            self.vector,
            x.clone().into_buffer_arg(),
            totals.into_buffer_arg(),
            parts.clone().into_buffer_arg(),
            self.images,
            self.images_of_slice(),
            self.channels,
            self.vectors,
            self.inverse_count,
            is_spread,
            elem(x.dtype),
        );
        sum_of_rows(&parts, self.channels, DType::F32)
    }
}

/// - x: `[batch, channels, height, width]`, contiguous; gain, bias: `[channels]`, of one dtype, contiguous.
/// - returns the output, of x's shape and dtype.
pub(crate) fn batch_norm(
    x: CubeTensor,
    gain: CubeTensor,
    bias: CubeTensor,
    eps: f64,
    rectify: bool,
) -> (CubeTensor, Saved) {
    let plan = Plan::new(&x);
    let totals = plan.sum(&x, None);
    let spreads = plan.sum(&x, Some(&totals));
    let output = empty(&x, x.meta.shape().clone(), x.dtype);
    let eps = eps as f32;
    normalize::launch(
        &x.client,
        plan.all(),
        CubeDim::new_1d(UNITS),
        plan.vector,
        x.clone().into_buffer_arg(),
        totals.clone().into_buffer_arg(),
        spreads.clone().into_buffer_arg(),
        gain.clone().into_buffer_arg(),
        bias.clone().into_buffer_arg(),
        output.clone().into_buffer_arg(),
        plan.count(),
        plan.channels,
        plan.vectors,
        plan.inverse_count,
        eps,
        rectify,
        [elem(x.dtype), elem(gain.dtype)],
    );
    let saved = Saved {
        x,
        gain,
        bias,
        totals,
        spreads,
        eps,
        rectify,
    };
    (output, saved)
}

impl Saved {
    /// Of each channel, in f32: the sum, the sum of squared distances from the mean, and the inverse of their count.
    pub fn sums(&self) -> ([CubeTensor; 2], f32) {
        let sums = [self.totals.clone(), self.spreads.clone()];
        (sums, Plan::new(&self.x).inverse_count)
    }

    /// The gradients of x, gain and bias, in their dtypes.
    /// - gradient: of the output, contiguous.
    pub fn gradients(&self, gradient: &CubeTensor) -> [CubeTensor; 3] {
        let Self {
            x,
            gain,
            bias,
            totals,
            spreads,
            ..
        } = self;
        let plan = Plan::new(x);
        let parts = empty(x, [plan.slices, 2 * plan.channels], DType::F32);
        let dtypes = || [elem(x.dtype), elem(gradient.dtype), elem(gain.dtype)];
        gradient_sums::launch(
            &x.client,
            plan.slices(),
            CubeDim::new_1d(UNITS),
            plan.vector,
            x.clone().into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            totals.clone().into_buffer_arg(),
            spreads.clone().into_buffer_arg(),
            gain.clone().into_buffer_arg(),
            bias.clone().into_buffer_arg(),
            parts.clone().into_buffer_arg(),
            plan.images,
            plan.images_of_slice(),
            plan.channels,
            plan.vectors,
            plan.inverse_count,
            self.eps,
            self.rectify,
            dtypes(),
        );
        let sums = sum_of_rows(&parts, 2 * plan.channels, DType::F32);
        let of_x = empty(x, x.meta.shape().clone(), x.dtype);
        gradient_of_x::launch(
            &x.client,
            plan.all(),
            CubeDim::new_1d(UNITS),
            plan.vector,
            x.clone().into_buffer_arg(),
            gradient.clone().into_buffer_arg(),
            totals.clone().into_buffer_arg(),
            spreads.clone().into_buffer_arg(),
            gain.clone().into_buffer_arg(),
            bias.clone().into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            of_x.clone().into_buffer_arg(),
            plan.count(),
            plan.channels,
            plan.vectors,
            plan.inverse_count,
            self.eps,
            self.rectify,
            dtypes(),
        );
        let [of_gain, of_bias] = [gain, bias].map(|of| empty(x, [plan.channels], of.dtype));
        gradient_of_gain::launch(
            &x.client,
            grid(plan.channels.div_ceil(UNITS as usize)),
            CubeDim::new_1d(UNITS),
            sums.into_buffer_arg(),
            spreads.clone().into_buffer_arg(),
            of_gain.clone().into_buffer_arg(),
            of_bias.clone().into_buffer_arg(),
            plan.channels,
            plan.inverse_count,
            self.eps,
            elem(gain.dtype),
        );
        [of_x, of_gain, of_bias]
    }
}
