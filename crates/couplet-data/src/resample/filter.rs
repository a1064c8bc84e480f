//! PIL's filters. Source: Pillow 13 `Resample.c`.

use std::f64::consts::PI;

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
pub(super) const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The first input pixel of one output pixel, and the weights from there on.
pub(super) struct Taps {
    pub first: usize,
    pub weights: Vec<i32>,
}

impl Taps {
    pub fn end(&self) -> usize {
        self.first + self.weights.len()
    }
}

/// The taps of output pixels `start..start + count` of `output`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as Pillow: positions inside the image, and coefficients of 24 bits"
)]
pub(super) fn taps(
    input: u32,
    output: u32,
    start: u32,
    count: u32,
    filter: Interpolation,
) -> Vec<Taps> {
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
