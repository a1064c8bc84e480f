//! Transforms images of any size to the model's square input, as torchvision does with PIL images.

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::augment::{Augment, RandomResizedCrop};
use crate::resample::{Interpolation, Source, Window, resize};

/// A transform from images of any size to squares.
#[derive(Debug, Clone)]
pub struct Transform {
    image_size: u32,
    /// Side that `fit` resizes to, at least `image_size`.
    resize_size: u32,
    fit: ResizeMode,
    crop_rounding: CropRounding,
    filter: Interpolation,
    augment: Augment,
}

/// How an oblong image becomes a square.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResizeMode {
    /// Resize the shorter side to the square and crop the longer side.
    #[default]
    Shortest,
    /// Resize the longer side to the square and pad the shorter side with this gray level.
    Longest(u8),
    /// Resize both sides to the square.
    Squash,
}

/// How the offset of a center crop is rounded if the number of surplus pixels is odd.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CropRounding {
    /// Half to even. Source: `torchvision.transforms.CenterCrop`.
    #[default]
    HalfEven,
    /// Down. Source: transformers `center_crop`.
    Down,
}

/// The same part of an image of another size, at least a pixel of it.
fn scaled(area: Window, from: [u32; 2], to: [u32; 2]) -> Window {
    if from == to {
        return area;
    }
    let scale = |start: u32, length: u32, axis: usize| {
        let at = |edge: u32| {
            let scaled = u64::from(edge) * u64::from(to[axis]) / u64::from(from[axis]);
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        let start_at = at(start).min(to[axis] - 1);
        (start_at, (at(start + length)).max(start_at + 1) - start_at)
    };
    let (left, width) = scale(area.left, area.width, 0);
    let (top, height) = scale(area.top, area.height, 1);
    Window {
        left,
        top,
        width,
        height,
    }
}

impl Transform {
    /// For evaluation: resized, and center-cropped or padded.
    pub fn eval(image_size: u32, fit: ResizeMode, filter: Interpolation) -> Self {
        Self {
            image_size,
            resize_size: image_size,
            fit,
            crop_rounding: CropRounding::default(),
            filter,
            augment: Augment::default(),
        }
    }

    /// Resizes to squares (or shorter sides) of `resize_size` pixels, of which the center is cropped.
    ///
    /// # Panics
    /// If `resize_size` is less than the image size, or shorter sides are padded.
    #[must_use]
    pub fn with_center_crop(self, resize_size: u32, crop_rounding: CropRounding) -> Self {
        let is_padded = matches!(self.fit, ResizeMode::Longest(_));
        assert!(resize_size == self.image_size || (resize_size > self.image_size && !is_padded));
        Self {
            resize_size,
            crop_rounding,
            ..self
        }
    }

    /// For training, with the given augmentations; without any, as for evaluation.
    #[must_use]
    pub fn augmented(self, augment: &Augment) -> Self {
        Self {
            augment: augment.clone(),
            ..self
        }
    }

    /// The number of bytes that [`Self::apply`] writes: `image_size² · 3`.
    pub fn output_len(&self) -> usize {
        let side = self.image_size as usize;
        side * side * 3
    }

    /// Side of the output, in pixels.
    pub fn image_size(&self) -> u32 {
        self.image_size
    }

    /// Writes the transformed image to `out`, `[image_size, image_size, 3]`, row-major.
    ///
    /// # Panics
    /// If `out` is not [`Self::output_len`] bytes long.
    pub fn apply(&self, image: &RgbImage, rng: &mut ChaCha8Rng, out: &mut [u8]) {
        self.apply_reduced(image, image.dimensions().into(), rng, out);
    }

    /// As [`Self::apply`], for an image that may have been decoded at a reduced size.
    /// - size: `[width, height]` of the full-size image, from which crops are drawn.
    pub(crate) fn apply_reduced(
        &self,
        image: &RgbImage,
        size: [u32; 2],
        rng: &mut ChaCha8Rng,
        out: &mut [u8],
    ) {
        assert_eq!(out.len(), self.output_len());
        let output = self.image_size;
        if let Some(crop) = &self.augment.random_resized_crop {
            let area = random_area(crop, size, rng);
            let source = Source::part(image, scaled(area, size, image.dimensions().into()));
            // As open_clip's, whatever evaluation takes.
            let filter = Interpolation::Bicubic;
            resize(source, [output; 2], Window::whole([output; 2]), filter, out);
        } else {
            self.fit(image, rng, out);
        }
        self.augment.paint(out, output as usize, rng);
    }

    /// The factor by which an image may be reduced when it is decoded, and still have a pixel for each
    /// output pixel: 1, 2, 4 or 8.
    /// - size: `[width, height]` of the full-size image.
    /// - rng: in the state in which [`Self::apply`] will get it.
    pub(crate) fn reduction(&self, size: [u32; 2], rng: &mut ChaCha8Rng) -> u32 {
        let [width, height] = match &self.augment.random_resized_crop {
            Some(crop) => {
                let area = random_area(crop, size, rng);
                [area.width, area.height]
            }
            None => size,
        };
        let read = match self.fit {
            ResizeMode::Longest(_) if self.augment.random_resized_crop.is_none() => {
                width.max(height)
            }
            _ => width.min(height),
        };
        let needed = match self.augment.random_resized_crop {
            Some(_) => self.image_size,
            None => self.resize_size,
        };
        let enough = |by: &u32| read / by >= needed;
        [8, 4, 2].into_iter().find(enough).unwrap_or(1)
    }

    /// Resizes, and crops or pads.
    fn fit(&self, image: &RgbImage, rng: &mut ChaCha8Rng, out: &mut [u8]) {
        let (side, source) = (self.image_size, Source::whole(image));
        let (width, height) = (image.width(), image.height());
        match self.fit {
            ResizeMode::Shortest => {
                let resized_to = shorter_side_to(self.resize_size, width, height);
                self.crop(source, resized_to, rng, out);
            }
            ResizeMode::Squash if self.resize_size == side => {
                resize(
                    source,
                    [side; 2],
                    Window::whole([side; 2]),
                    self.filter,
                    out,
                );
            }
            ResizeMode::Squash => self.crop(source, [self.resize_size; 2], rng, out),
            ResizeMode::Longest(grey) => {
                let resized_to = longer_side_to(side, width, height);
                let mut resized = vec![0; resized_to[0] as usize * resized_to[1] as usize * 3];
                resize(
                    source,
                    resized_to,
                    Window::whole(resized_to),
                    self.filter,
                    &mut resized,
                );
                out.fill(grey);
                paste_centred(&resized, resized_to, side, out);
            }
        }
    }

    /// Resizes, and crops the center or, if augmented so, a random square.
    fn crop(&self, source: Source, resized_to: [u32; 2], rng: &mut ChaCha8Rng, out: &mut [u8]) {
        let side = self.image_size;
        let [left, top] = resized_to.map(|length| {
            if self.augment.random_crop {
                rng.random_range(0..=length - side)
            } else {
                center(length, side, self.crop_rounding)
            }
        });
        let window = Window {
            left,
            top,
            width: side,
            height: side,
        };
        resize(source, resized_to, window, self.filter, out);
    }
}

/// Copies an image into the center of a square that is large enough.
fn paste_centred(image: &[u8], [width, height]: [u32; 2], side: u32, out: &mut [u8]) {
    let (left, top) = ((side - width) / 2, (side - height) / 2);
    let row_len = width as usize * 3;
    for (row, line) in image.chunks_exact(row_len).enumerate() {
        let start = ((top as usize + row) * side as usize + left as usize) * 3;
        out[start..start + row_len].copy_from_slice(line);
    }
}

/// `[width, height]` with the shorter side at `side`, and the longer one rounded down.
/// Source: `torchvision.transforms.Resize`.
pub(crate) fn shorter_side_to(side: u32, width: u32, height: u32) -> [u32; 2] {
    let longer = |long: u32, short: u32| {
        let long = u64::from(side) * u64::from(long) / u64::from(short);
        u32::try_from(long).unwrap_or(u32::MAX)
    };
    if width <= height {
        [side, longer(height, width)]
    } else {
        [longer(width, height), side]
    }
}

/// `[width, height]` with the longer side at `side`, and the shorter one rounded, at least 1.
/// Source: open_clip `ResizeKeepRatio`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and side"
)]
fn longer_side_to(side: u32, width: u32, height: u32) -> [u32; 2] {
    let ratio = f64::from(width.max(height)) / f64::from(side);
    [width, height].map(|length| (f64::from(length) / ratio).round_ties_even().max(1.0) as u32)
}

/// Where a center crop starts: after half of the remaining pixels.
fn center(length: u32, side: u32, rounding: CropRounding) -> u32 {
    let rest = length - side;
    let half = rest / 2;
    match rounding {
        CropRounding::HalfEven => half + (rest % 2) * (half % 2),
        CropRounding::Down => half,
    }
}

/// Draws a random crop.
/// Source: `torchvision.transforms.RandomResizedCrop.get_params`, including its fallback.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sides are positive and bounded by the image's"
)]
fn random_area(
    crop: &RandomResizedCrop,
    [width, height]: [u32; 2],
    rng: &mut ChaCha8Rng,
) -> Window {
    let area = f64::from(width) * f64::from(height);
    let [low, high] = crop.ratio;
    for _ in 0..10 {
        let target = area * rng.random_range(crop.scale[0]..=crop.scale[1]);
        let ratio = rng.random_range(low.ln()..=high.ln()).exp();
        let w = (target * ratio).sqrt().round_ties_even() as u32;
        let h = (target / ratio).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            return Window {
                left: rng.random_range(0..=width - w),
                top: rng.random_range(0..=height - h),
                width: w,
                height: h,
            };
        }
    }
    let in_ratio = f64::from(width) / f64::from(height);
    let (w, h) = if in_ratio < low {
        (width, (f64::from(width) / low).round_ties_even() as u32)
    } else if in_ratio > high {
        ((f64::from(height) * high).round_ties_even() as u32, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    Window {
        left: (width - w) / 2,
        top: (height - h) / 2,
        width: w,
        height: h,
    }
}

#[cfg(test)]
mod tests;
