//! Antialiased resizing, bit for bit as PIL's. Source: Pillow 13 `Resample.c`, 8 bits per channel,
//! rounded to 8 bits between the horizontal and the vertical pass.

mod filter;
mod passes;

use image::RgbImage;

pub use self::filter::Interpolation;
use self::filter::{Taps, taps};
use self::passes::{CHANNELS, LINES, LONG, across, along, down};

/// A rectangle, in pixels.
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

/// A part of an image, beyond which a resize does not look.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// From its first pixel to its last, with what is between its lines.
    pixels: &'a [u8],
    /// Bytes from a line to the next.
    stride: usize,
    size: [u32; 2],
}

impl<'a> Source<'a> {
    pub fn whole(image: &'a RgbImage) -> Self {
        Self::part(image, Window::whole(image.dimensions().into()))
    }

    /// - area: inside the image.
    pub fn part(image: &'a RgbImage, area: Window) -> Self {
        let stride = image.width() as usize * CHANNELS;
        let first = area.top as usize * stride + area.left as usize * CHANNELS;
        Self {
            pixels: &image.as_raw()[first..],
            stride,
            size: [area.width, area.height],
        }
    }

    fn line(&self, row: usize) -> &'a [u8] {
        &self.pixels[row * self.stride..][..self.size[0] as usize * CHANNELS]
    }
}

/// Resizes an image to `[width, height]` and writes only the pixels of `window`.
/// - out: `[window.height, window.width, 3]`, row-major.
pub(crate) fn resize(
    source: Source,
    [width, height]: [u32; 2],
    window: Window,
    filter: Interpolation,
    out: &mut [u8],
) {
    if filter == Interpolation::Nearest {
        return pick_nearest(source, [width, height], window, out);
    }
    let columns = taps(source.size[0], width, window.left, window.width, filter);
    let rows = taps(source.size[1], height, window.top, window.height, filter);
    let out_len = window.width as usize * CHANNELS;
    if is_vertical_first(source.size, [width, height]) {
        let mut lowered = vec![0; rows.len() * source.size[0] as usize * CHANNELS];
        let line_len = source.size[0] as usize * CHANNELS;
        lower(
            &rows,
            |row| source.line(row),
            lowered.chunks_exact_mut(line_len),
        );
        let lines: Vec<&[u8]> = lowered.chunks_exact(line_len).collect();
        return narrow(&lines, columns, out_len, out);
    }
    let first = rows.iter().map(|taps| taps.first).min().unwrap_or(0);
    let last = rows.iter().map(Taps::end).max().unwrap_or(0);
    let lines: Vec<&[u8]> = (first..last).map(|row| source.line(row)).collect();
    let mut narrowed = vec![0; lines.len() * out_len];
    narrow(&lines, columns, out_len, &mut narrowed);
    let line = |row: usize| &narrowed[(row - first) * out_len..][..out_len];
    lower(&rows, line, out.chunks_exact_mut(out_len));
}

/// Resizes all lines horizontally.
/// - out_len: of a line of `out`, in bytes.
fn narrow(lines: &[&[u8]], mut columns: Vec<Taps>, out_len: usize, out: &mut [u8]) {
    let first = columns.iter().map(|taps| taps.first).min().unwrap_or(0);
    let last = columns.iter().map(Taps::end).max().unwrap_or(0);
    for taps in &mut columns {
        taps.first -= first;
    }
    // Copies of so long lines would need more memory than their image.
    if last - first > LONG {
        for (line, out) in lines.iter().zip(out.chunks_mut(out_len)) {
            along(&line[first * CHANNELS..], &columns, out);
        }
        return;
    }
    let mut space = [Vec::new(), Vec::new()];
    for (lines, out) in lines.chunks(LINES).zip(out.chunks_mut(LINES * out_len)) {
        // The last one fills up the block.
        let read = |at: usize| &lines[at.min(lines.len() - 1)][first * CHANNELS..last * CHANNELS];
        across(&std::array::from_fn(read), &columns, &mut space, out);
    }
}

/// Resizes lines vertically.
/// - line: a line of the input.
fn lower<'a, 'b>(
    rows: &[Taps],
    line: impl Fn(usize) -> &'a [u8],
    out: impl Iterator<Item = &'b mut [u8]>,
) {
    let mut lines = Vec::new();
    for (taps, target) in rows.iter().zip(out) {
        lines.clear();
        lines.extend((taps.first..taps.end()).map(&line));
        down(&lines, &taps.weights, target);
    }
}

/// Copies the nearest pixel. Source: Pillow 13 `ImagingScaleAffine`.
fn pick_nearest(source: Source, [width, height]: [u32; 2], window: Window, out: &mut [u8]) {
    let columns = nearest(source.size[0], width, window.left, window.width);
    let rows = nearest(source.size[1], height, window.top, window.height);
    let out_len = window.width as usize * CHANNELS;
    out.fill(0);
    for (row, target) in rows.iter().zip(out.chunks_exact_mut(out_len)) {
        let Some(row) = row else { continue };
        let line = source.line(*row);
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
fn is_vertical_first(from: [u32; 2], to: [u32; 2]) -> bool {
    let [lost_columns, lost_rows] = [0, 1].map(|axis| i64::from(from[axis]) - i64::from(to[axis]));
    lost_rows > 0 && lost_rows > 2 * lost_columns
}

#[cfg(test)]
mod tests;
