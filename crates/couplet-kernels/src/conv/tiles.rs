//! Output pixels whose patches are the columns of a matrix.

use super::sizes::Sizes;
use crate::linear::add_to;
use crate::product::{Before, Matrix, product};
use crate::values::Value;

/// About how many output pixels one matrix product computes: enough to run at full speed, few
/// enough for its columns to stay in the cache.
const TILE: usize = 1024;

/// Some output pixels: whole images, or some rows of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tile {
    pub image: usize,
    pub images: usize,
    pub row: usize,
    pub rows: usize,
}

impl Sizes {
    /// Images of one task, so that there are at most as many tasks as cores. A single image is
    /// divided within its products.
    pub(super) fn share(&self) -> usize {
        self.batch.div_ceil(rayon::current_num_threads()).max(1)
    }

    /// The tiles of `images` images.
    pub(super) fn tiles(&self, images: usize) -> Vec<Tile> {
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

    pub(super) fn columns(&self, tile: &Tile) -> usize {
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
    pub(super) fn scatter(&self, columns: &[f32], tile: &Tile, x: &mut [f32]) {
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
    pub(super) fn pixels<'a, E: Value>(
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
    pub(super) fn patches<'a, E: Value>(
        &self,
        x: &'a [E],
        tile: &Tile,
        buffer: &'a mut Vec<E>,
    ) -> Matrix<'a> {
        if self.is_pointwise() {
            return self.pixels(x, self.inputs, tile, buffer);
        }
        let count = self.columns(tile);
        buffer.resize(self.patch() * count, E::default());
        self.gather(x, tile, buffer);
        Matrix::new(buffer, self.patch(), count)
    }

    /// Writes `left right` to a tile's pixels in `values`.
    pub(super) fn put<E: Value>(
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
