//! The speed of a large matrix product, a device's practical peak.

use std::ops::Range;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use couplet_model::Precision;

use super::wait::wait_for;

/// Range of side lengths of the square matrices. The side doubles until a product takes
/// `MATMUL_SECONDS`.
const MATMUL: Range<usize> = 2048..16_384;
const MATMUL_SECONDS: f64 = 0.005;
/// Total seconds after which no further round starts.
const MATMUL_PATIENCE: f64 = 5.0;
const MATMUL_ROUNDS: usize = 5;

/// Floating-point operations per second of a product of square matrices that are large enough to
/// keep the device busy.
pub(super) fn matmul_flops(device: &Device, precision: Precision) -> f64 {
    let mut side = MATMUL.start;
    loop {
        let seconds = matmul_seconds(device, precision, side);
        if seconds > MATMUL_SECONDS || side >= MATMUL.end {
            #[expect(clippy::cast_precision_loss, reason = "a matrix's side")]
            return 2.0 * (side as f64).powi(3) / seconds;
        }
        side *= 2;
    }
}

/// Seconds of the fastest of several products. Values are random: with constant values a GPU
/// draws less power and runs faster than on real data.
fn matmul_seconds(device: &Device, precision: Precision, side: usize) -> f64 {
    let matrix = || {
        let values = Tensor::<2>::random([side, side], Distribution::Uniform(-1.0, 1.0), device);
        match precision.dtype() {
            Some(dtype) => values.cast(dtype),
            None => values,
        }
    };
    let (a, b) = (matrix(), matrix());
    wait_for(device);
    let (mut best, mut spent) = (f64::INFINITY, 0.0);
    for _ in 0..MATMUL_ROUNDS {
        let start = Instant::now();
        // The same operation as in the towers.
        let product = couplet_kernels::linear(a.clone(), b.clone(), None);
        wait_for(device);
        drop(product);
        let seconds = start.elapsed().as_secs_f64();
        best = best.min(seconds);
        spent += seconds;
        if spent > MATMUL_PATIENCE {
            break;
        }
    }
    best
}
