//! Antialiased resizing, bit for bit as PIL's. Source: Pillow 13 `Resample.c`, 8 bits per channel,
//! rounded to 8 bits between the horizontal and the vertical pass.

use std::f64::consts::PI;

use image::RgbImage;

/// The filter of a resize: PIL's. All but `Nearest` are antialiased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interpolation {
    /// With a = -0.5, as in PIL.
    #[default]
    Bicubic,
    Bilinear,
    Nearest,
    Box,
    Hamming,
    Lanczos,
}

/// Fractional bits of a coefficient: 32 bits less 8 for the pixel and 2 of headroom.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const CHANNELS: usize = 3;

/// A rectangle of the resized image, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

impl Window {
    /// The whole of an image of this width and height.
    pub fn whole([width, height]: [u32; 2]) -> Self {
        Self {
            left: 0,
            top: 0,
            width,
            height,
        }
    }
}

/// Resizes `image` to `[width, height]` and writes only the pixels of `window`.
/// - out: `[window.height, window.width, 3]`, row-major.
pub(crate) fn resize(
    image: &RgbImage,
    [width, height]: [u32; 2],
    window: Window,
    filter: Interpolation,
    out: &mut [u8],
) {
    if filter == Interpolation::Nearest {
        return pick_nearest(image, [width, height], window, out);
    }
    let columns = taps(image.width(), width, window.left, window.width, filter);
    let rows = taps(image.height(), height, window.top, window.height, filter);
    let in_len = image.width() as usize * CHANNELS;
    let out_len = window.width as usize * CHANNELS;
    let lines = image.as_raw().chunks_exact(in_len);
    if is_vertical_first(image, [width, height]) {
        let mut sums = vec![0; in_len];
        let mut lowered = vec![0; in_len];
        for (taps, target) in rows.iter().zip(out.chunks_exact_mut(out_len)) {
            let lines = lines.clone().skip(taps.first);
            resize_columns(lines, &taps.weights, &mut sums, &mut lowered);
            resize_line(&lowered, &columns, target);
        }
        return;
    }
    let first = rows.iter().map(|taps| taps.first).min().unwrap_or(0);
    let last = rows.iter().map(Taps::end).max().unwrap_or(0);
    let mut narrowed = vec![0; (last - first) * out_len];
    for (line, target) in lines.skip(first).zip(narrowed.chunks_exact_mut(out_len)) {
        resize_line(line, &columns, target);
    }
    let mut sums = vec![0; out_len];
    for (taps, target) in rows.iter().zip(out.chunks_exact_mut(out_len)) {
        let lines = narrowed[(taps.first - first) * out_len..].chunks_exact(out_len);
        resize_columns(lines, &taps.weights, &mut sums, target);
    }
}

/// Copies the nearest pixel. Source: Pillow 13 `ImagingScaleAffine`.
fn pick_nearest(image: &RgbImage, [width, height]: [u32; 2], window: Window, out: &mut [u8]) {
    let columns = nearest(image.width(), width, window.left, window.width);
    let rows = nearest(image.height(), height, window.top, window.height);
    let in_len = image.width() as usize * CHANNELS;
    let out_len = window.width as usize * CHANNELS;
    out.fill(0);
    for (row, target) in rows.iter().zip(out.chunks_exact_mut(out_len)) {
        let Some(row) = row else { continue };
        let line = &image.as_raw()[row * in_len..][..in_len];
        for (column, pixel) in columns.iter().zip(target.chunks_exact_mut(CHANNELS)) {
            if let Some(column) = column {
                pixel.copy_from_slice(&line[column * CHANNELS..][..CHANNELS]);
            }
        }
    }
}

/// The input pixel of each of `count` output pixels from `start` on; none beyond the image, which
/// Pillow leaves black.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as Pillow: positions are positive, and compared with the image's size"
)]
fn nearest(input: u32, output: u32, start: u32, count: u32) -> Vec<Option<usize>> {
    let scale = f64::from(input) / f64::from(output);
    // Pillow adds up the steps, whose rounding decides between two pixels at equal distance.
    let mut at = scale * 0.5;
    let mut pixels = Vec::with_capacity(count as usize);
    for column in 0..start + count {
        if column >= start {
            let pixel = at as usize;
            pixels.push((pixel < input as usize).then_some(pixel));
        }
        at += scale;
    }
    pixels
}

/// Whether Pillow resizes vertically first: where the height shrinks by more than twice as many
/// pixels as the width. The order matters where an overshoot is clipped.
fn is_vertical_first(image: &RgbImage, [width, height]: [u32; 2]) -> bool {
    let lost_columns = i64::from(image.width()) - i64::from(width);
    let lost_rows = i64::from(image.height()) - i64::from(height);
    lost_rows > 0 && lost_rows > 2 * lost_columns
}

/// The first input pixel of one output pixel, and the weights from there on.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Taps {
    fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

/// The taps of output pixels `start..start + count` of `output`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as Pillow: positions inside the image, and coefficients of 24 bits"
)]
fn taps(input: u32, output: u32, start: u32, count: u32, filter: Interpolation) -> Vec<Taps> {
    let scale = f64::from(input) / f64::from(output);
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let one = f64::from(1 << PRECISION_BITS);
    (start..start + count)
        .map(|at| {
            let center = (f64::from(at) + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as u32;
            let end = ((center + support + 0.5) as u32).min(input);
            let weights: Vec<f64> = (first..end)
                .map(|x| filter.weight((f64::from(x) - center + 0.5) * (1.0 / stretch)))
                .collect();
            let sum: f64 = weights.iter().sum();
            let rounded = weights.iter().map(|weight| {
                let scaled = weight / sum * one;
                (scaled + 0.5f64.copysign(scaled)) as i32
            });
            Taps {
                first: first as usize,
                weights: rounded.collect(),
            }
        })
        .collect()
}

impl Interpolation {
    /// The filter's radius in pixels, without downscaling.
    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            // Half open, so that a pixel on the edge counts once.
            Self::Nearest | Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - distance).max(0.0),
            Self::Hamming if distance < 1.0 => {
                let angle = distance * PI;
                sinc(distance) * (0.54 + 0.46 * angle.cos())
            }
            Self::Bicubic => cubic(distance),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Hamming | Self::Lanczos => 0.0,
        }
    }
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    x.sin() / x
}

/// One half, so that dropping the fractional bits rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn clip(sum: i32) -> u8 {
    u8::try_from((sum >> PRECISION_BITS).clamp(0, 255)).expect("clamped just above")
}

fn resize_line(line: &[u8], columns: &[Taps], target: &mut [u8]) {
    for (taps, pixel) in columns.iter().zip(target.chunks_exact_mut(CHANNELS)) {
        let mut sums = [HALF; CHANNELS];
        let source = line[taps.first * CHANNELS..].chunks_exact(CHANNELS);
        for (weight, value) in taps.weights.iter().zip(source) {
            for (sum, byte) in sums.iter_mut().zip(value) {
                *sum += weight * i32::from(*byte);
            }
        }
        for (byte, sum) in pixel.iter_mut().zip(sums) {
            *byte = clip(sum);
        }
    }
}

fn resize_columns<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
    weights: &[i32],
    sums: &mut [i32],
    target: &mut [u8],
) {
    sums.fill(HALF);
    for (line, weight) in lines.zip(weights) {
        for (sum, byte) in sums.iter_mut().zip(line) {
            *sum += weight * i32::from(*byte);
        }
    }
    for (byte, sum) in target.iter_mut().zip(&*sums) {
        *byte = clip(*sum);
    }
}
