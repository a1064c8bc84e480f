//! Random augmentations of training images, each drawn from (seed, epoch, sample).

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[data.train.augment]`: augmentation of the training images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Crops a random area and resizes it to the model's input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_resized_crop: Option<RandomResizedCrop>,
    /// Resizes the shorter side, then crops a random square: the CLIP paper's only
    /// augmentation.
    #[serde(default)]
    pub random_crop: bool,
    /// Share of images that are flipped. Off by default: captions say left and right, and
    /// flipped letters are unreadable.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub horizontal_flip: f64,
    /// Changes brightness, contrast, saturation and hue at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color_jitter: Option<ColorJitter>,
    /// Share of images that are converted to grayscale.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub grayscale: f64,
    /// Erases a random rectangle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_erasing: Option<RandomErasing>,
}

/// A random area, resized to the model's input. Source:
/// `torchvision.transforms.RandomResizedCrop`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Smallest and largest share of the image's area.
    #[schemars(extend("examples" = [[0.9, 1.0]]))]
    pub scale: [f64; 2],
    /// Smallest and largest ratio of width to height.
    #[serde(default = "default_ratio")]
    pub ratio: [f64; 2],
}

pub(crate) fn default_ratio() -> [f64; 2] {
    [0.75, 4.0 / 3.0]
}

impl RandomResizedCrop {
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        range_problems(self.scale, self.ratio)
    }
}

/// Brightness, contrast, saturation and hue, in random order. Source:
/// `torchvision.transforms.ColorJitter`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// Range of the brightness factor: from 1 - x (at least 0) to 1 + x.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub brightness: f32,
    /// Range of the contrast factor: from 1 - x (at least 0) to 1 + x.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub contrast: f32,
    /// Range of the saturation factor: from 1 - x (at least 0) to 1 + x.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub saturation: f32,
    /// Range of the hue shift, in turns of the color circle: from -x to x.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub hue: f32,
    /// Share of images that are changed.
    #[serde(default = "always")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
}

/// An erased rectangle. Source: `torchvision.transforms.RandomErasing`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    /// Share of images that lose a rectangle.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub probability: f64,
    /// Range of the rectangle's area, as a fraction of the image's area.
    #[serde(default = "default_erased")]
    pub scale: [f64; 2],
    /// Smallest and largest ratio of width to height.
    #[serde(default = "default_erased_ratio")]
    pub ratio: [f64; 2],
    /// RGB color of the rectangle, each from 0 to 255; CLIP's mean by default.
    #[serde(default = "mean_colour")]
    pub fill: [u8; 3],
}

fn always() -> f64 {
    1.0
}

fn default_erased() -> [f64; 2] {
    [0.02, 0.33]
}

fn default_erased_ratio() -> [f64; 2] {
    [0.3, 3.3]
}

fn mean_colour() -> [u8; 3] {
    [123, 117, 104]
}

impl Augment {
    /// Invalid values, as (key, message) pairs.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut probability = |key: &str, value: f64| {
            if !(0.0..=1.0).contains(&value) {
                problems.push((
                    key.to_string(),
                    format!("{value} is not a probability; give a number from 0 to 1"),
                ));
            }
        };
        probability("horizontal_flip", self.horizontal_flip);
        probability("grayscale", self.grayscale);
        if let Some(jitter) = &self.color_jitter {
            probability("color_jitter.probability", jitter.probability);
        }
        if let Some(erasing) = &self.random_erasing {
            probability("random_erasing.probability", erasing.probability);
        }
        if let Some(jitter) = &self.color_jitter {
            for (key, value, most) in [
                ("brightness", jitter.brightness, f32::MAX),
                ("contrast", jitter.contrast, f32::MAX),
                ("saturation", jitter.saturation, f32::MAX),
                ("hue", jitter.hue, 0.5),
            ] {
                if !(0.0..=most).contains(&value) {
                    let range = if key == "hue" {
                        "from 0 to 0.5"
                    } else {
                        "0 or positive"
                    };
                    problems.push((format!("color_jitter.{key}"), format!("must be {range}")));
                }
            }
        }
        if let Some(crop) = &self.random_resized_crop {
            for (key, message) in crop.problems() {
                problems.push((format!("random_resized_crop.{key}"), message));
            }
            if self.random_crop {
                let message = "cannot be combined with random_resized_crop; remove one of them";
                problems.push(("random_crop".into(), message.into()));
            }
        }
        if let Some(erasing) = &self.random_erasing {
            for (key, message) in range_problems(erasing.scale, erasing.ratio) {
                problems.push((format!("random_erasing.{key}"), message));
            }
        }
        problems
    }

    /// Augments the square image left by the crop, in place.
    /// - pixels: `[side, side, 3]`, row-major.
    pub(crate) fn paint(&self, pixels: &mut [u8], side: usize, rng: &mut ChaCha8Rng) {
        if self.horizontal_flip > 0.0 && rng.random_bool(self.horizontal_flip) {
            mirror(pixels, side);
        }
        if let Some(jitter) = &self.color_jitter
            && rng.random_bool(jitter.probability)
        {
            jitter.apply(pixels, rng);
        }
        if self.grayscale > 0.0 && rng.random_bool(self.grayscale) {
            for pixel in pixels.as_chunks_mut::<3>().0 {
                *pixel = [luma(*pixel); 3];
            }
        }
        if let Some(erasing) = &self.random_erasing
            && rng.random_bool(erasing.probability)
        {
            erasing.apply(pixels, side, rng);
        }
    }
}

fn range_problems(scale: [f64; 2], ratio: [f64; 2]) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    let [low, high] = scale;
    if !(low > 0.0 && low <= high && high <= 1.0) {
        let message =
            format!("[{low}, {high}] is not a range of fractions, each above 0 and at most 1");
        problems.push(("scale", message));
    }
    let [low, high] = ratio;
    if !(low > 0.0 && low <= high && high.is_finite()) {
        let message = format!("[{low}, {high}] is not a range of positive ratios");
        problems.push(("ratio", message));
    }
    problems
}

fn mirror(pixels: &mut [u8], side: usize) {
    for row in pixels.chunks_exact_mut(side * 3) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// Luma by ITU-R 601-2, as PIL's `convert("L")` computes it.
#[expect(clippy::cast_possible_truncation, reason = "weights add up to 2^16")]
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a byte"
)]
fn byte(value: f32) -> u8 {
    value.clamp(0.0, 255.0) as u8
}

/// `factor` parts of `pixel` and `1 - factor` of `other`, cut to bytes as PIL's `Image.blend` does.
fn blend(pixel: [u8; 3], other: [f32; 3], factor: f32) -> [u8; 3] {
    [0, 1, 2].map(|c| byte(other[c] + factor * (f32::from(pixel[c]) - other[c])))
}

impl ColorJitter {
    fn apply(&self, pixels: &mut [u8], rng: &mut ChaCha8Rng) {
        let mut order = [0, 1, 2, 3];
        order.shuffle(rng);
        let mut factor = |width: f32| rng.random_range((1.0 - width).max(0.0)..=1.0 + width);
        let factors = [self.brightness, self.contrast, self.saturation].map(&mut factor);
        let hue = rng.random_range(-self.hue..=self.hue);
        let pixels = pixels.as_chunks_mut::<3>().0;
        for change in order {
            match change {
                0 if self.brightness > 0.0 => {
                    for pixel in pixels.iter_mut() {
                        *pixel = blend(*pixel, [0.0; 3], factors[0]);
                    }
                }
                1 if self.contrast > 0.0 => {
                    let mean = mean_luma(pixels);
                    for pixel in pixels.iter_mut() {
                        *pixel = blend(*pixel, [mean; 3], factors[1]);
                    }
                }
                2 if self.saturation > 0.0 => {
                    for pixel in pixels.iter_mut() {
                        *pixel = blend(*pixel, [f32::from(luma(*pixel)); 3], factors[2]);
                    }
                }
                3 if self.hue > 0.0 => {
                    for pixel in pixels.iter_mut() {
                        *pixel = turn_hue(*pixel, hue);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The mean luma, rounded as in PIL's `ImageEnhance.Contrast`.
#[expect(
    clippy::cast_precision_loss,
    reason = "sums of bytes are far below 2^53"
)]
fn mean_luma(pixels: &[[u8; 3]]) -> f32 {
    let sum: u64 = pixels.iter().map(|pixel| u64::from(luma(*pixel))).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a byte's mean")]
    let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5).floor() as f32;
    mean
}

/// Shifts the hue of a color by a fraction of a turn; keeps its value and saturation.
fn turn_hue(pixel: [u8; 3], turn: f32) -> [u8; 3] {
    let [r, g, b] = pixel.map(|c| f32::from(c) / 255.0);
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = max - min;
    if chroma == 0.0 {
        return pixel;
    }
    let sixth = if max == r {
        ((g - b) / chroma).rem_euclid(6.0)
    } else if max == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    let sixth = (sixth + 6.0 * turn).rem_euclid(6.0);
    // How far each channel is below the maximum. Source: Wikipedia, "HSL and HSV".
    [5.0f32, 3.0, 1.0].map(|n| {
        let k = (n + sixth).rem_euclid(6.0);
        byte(255.0 * (max - chroma * k.min(4.0 - k).clamp(0.0, 1.0)) + 0.5)
    })
}

impl RandomErasing {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "sides of a small square"
    )]
    fn apply(&self, pixels: &mut [u8], side: usize, rng: &mut ChaCha8Rng) {
        let area = (side * side) as f64;
        let [low, high] = self.ratio;
        for _ in 0..10 {
            let target = area * rng.random_range(self.scale[0]..=self.scale[1]);
            let ratio = rng.random_range(low.ln()..=high.ln()).exp();
            let width = (target * ratio).sqrt().round_ties_even() as usize;
            let height = (target / ratio).sqrt().round_ties_even() as usize;
            if width >= side || height >= side || width == 0 || height == 0 {
                continue;
            }
            let left = rng.random_range(0..=side - width);
            let top = rng.random_range(0..=side - height);
            for row in pixels.chunks_exact_mut(side * 3).skip(top).take(height) {
                row[left * 3..(left + width) * 3]
                    .as_chunks_mut::<3>()
                    .0
                    .fill(self.fill);
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests;
