//! Arithmetic without branches or calls, which compilers turn into vector instructions.

use std::f32::consts::LOG2_E;

use crate::values::Value;
pub(crate) use crate::vectors::wide;

/// The factor of `x σ(1.702 x)`.
pub(crate) const QUICK: f32 = 1.702;

/// Partial sums at a time: enough for four of the widest vectors.
const LANES: usize = 64;

/// The sum of `of(a, b)` over pairs, in a fixed order.
#[inline(always)]
fn sum_of<A: Value, B: Value>(a: &[A], b: &[B], of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut rest = 0.0;
    for (a, b) in a_chunks.remainder().iter().zip(b_chunks.remainder()) {
        rest += of(a.wide(), b.wide());
    }
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += of(a.wide(), b.wide());
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for at in 0..width {
            lanes[at] += lanes[at + width];
        }
    }
    lanes[0] + rest
}

#[inline(always)]
pub(crate) fn sum<E: Value>(values: &[E]) -> f32 {
    sum_of(values, values, |value, _| value)
}

/// The sum of squared distances to `from`.
#[inline(always)]
pub(crate) fn squares<E: Value>(values: &[E], from: f32) -> f32 {
    sum_of(values, values, |value, _| (value - from) * (value - from))
}

#[inline(always)]
pub(crate) fn dot<A: Value, B: Value>(a: &[A], b: &[B]) -> f32 {
    sum_of(a, b, |a, b| a * b)
}

/// The sum of `a (b - from)`.
#[inline(always)]
pub(crate) fn dot_from<A: Value, B: Value>(a: &[A], b: &[B], from: f32) -> f32 {
    sum_of(a, b, |a, b| a * (b - from))
}

/// The largest value; minus infinity if there is none.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let chunks = values.chunks_exact(LANES);
    let mut largest = f32::NEG_INFINITY;
    for value in chunks.remainder() {
        largest = larger(largest, *value);
    }
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *value);
        }
    }
    for lane in lanes {
        largest = larger(largest, lane);
    }
    largest
}

/// eˣ to a relative error of 2e-7; 0 below -87, where f32 loses precision, and infinite above
/// 88.3.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding and subtracting it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 and [`LN_2_LOW`], exact in products with small integers.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = 2.121_944_4e-4;
    let inside = x.clamp(-87.0, 88.3);
    let shifted = inside * LOG2_E + ROUND;
    let twos = shifted - ROUND;
    let r = inside - twos * LN_2_HIGH + twos * LN_2_LOW;
    // Taylor's series; |r| is at most ln(2) / 2.
    let series = 1.0 / 5040.0;
    let series = series * r + 1.0 / 720.0;
    let series = series * r + 1.0 / 120.0;
    let series = series * r + 1.0 / 24.0;
    let series = series * r + 1.0 / 6.0;
    let series = series * r + 0.5;
    let series = series * r + 1.0;
    let series = series * r + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let scale = f32::from_bits(power.wrapping_add(127) << 23);
    let value = series * scale;
    let value = if x < -87.0 { 0.0 } else { value };
    if x > 88.3 {
        f32::INFINITY
    } else if x.is_nan() {
        x
    } else {
        value
    }
}

/// The standard normal distribution's cumulative probability at `x`, to an absolute error of
/// 2e-7 and, in the lower tail, a relative error of 5e-6; and its density there.
///
/// The tail is `exp(-x²/2) t P(t)` with `t = 1 / (1 + 0.3 |x|)`, the form of Abramowitz and
/// Stegun 26.2.17; `P` is fitted to a relative error of 4e-9 over `|x| < 14`.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
    const FITTED: [f32; 10] = [
        0.119_686_64,
        0.119_572_79,
        0.110_227_74,
        0.078_423_56,
        0.096_063_86,
        -0.079_258_83,
        0.191_595_76,
        -0.228_078_2,
        0.112_380_37,
        -0.020_613_68,
    ];
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.3 * x.abs());
    let mut fitted = 0.0;
    for factor in FITTED.iter().rev() {
        fitted = fitted * t + factor;
    }
    let tail = bell * t * fitted;
    let below = if x > 0.0 { 1.0 - tail } else { tail };
    (below, bell * INVERSE_SQRT_TAU)
}

#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> impl Iterator<Item = f32> {
        (-10_000i16..=10_000).map(|at| f32::from(at) * 1e-2)
    }

    #[test]
    fn exp_is_exact_to_rounding() {
        for x in grid().filter(|x| (-87.0..88.3).contains(x)) {
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs();
            assert!(error <= 2e-7 * expected, "exp({x}) is off by {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-90.0), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    /// The upper tail by its series below 3, by its continued fraction above (Abramowitz and Stegun 7.1.5,
    /// 26.2.14), in f64.
    fn tail(x: f64) -> f64 {
        let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        if x < 3.0 {
            let mut term = x;
            let mut sum = x;
            for n in 1..200 {
                term *= -x * x / (2.0 * f64::from(n));
                sum += term / f64::from(2 * n + 1);
            }
            return 0.5 - sum / std::f64::consts::TAU.sqrt();
        }
        density
            / (1..400)
                .rev()
                .fold(x, |fraction, n| x + f64::from(n) / fraction)
    }

    #[test]
    fn the_normal_distribution_is_exact_in_its_tails_too() {
        for x in grid().filter(|x| (0.0..13.0).contains(x)) {
            let expected = tail(f64::from(x));
            let error = (f64::from(normal(-x).0) - expected).abs();
            assert!(error <= 5e-6 * expected, "{x}: {error} of {expected}");
            let error = (f64::from(normal(x).0) - (1.0 - expected)).abs();
            assert!(error <= 2e-7, "{x}: {error}");
        }
        assert_eq!(normal(0.0).0, 0.5);
        assert_eq!(normal(-40.0), (0.0, 0.0));
        assert_eq!(normal(40.0), (1.0, 0.0));
    }

    #[test]
    fn sums_take_every_value() {
        for len in [0u16, 1, 63, 64, 65, 200] {
            let values: Vec<f32> = (1..=len).map(f32::from).collect();
            let expected = f32::from(len) * (f32::from(len) + 1.0) / 2.0;
            assert_eq!(wide(|| sum(&values)), expected);
            assert_eq!(
                wide(|| max(&values)),
                if len == 0 {
                    f32::NEG_INFINITY
                } else {
                    len.into()
                }
            );
            let ones = vec![1.0; values.len()];
            assert_eq!(wide(|| dot(&values, &ones)), expected);
            assert_eq!(wide(|| squares(&ones, 3.0)), 4.0 * f32::from(len));
        }
    }

    #[test]
    fn sigmoid_and_tanh_keep_their_ends() {
        for x in grid() {
            let x64 = f64::from(x);
            assert!((f64::from(tanh(x)) - x64.tanh()).abs() < 2e-7, "tanh({x})");
            let expected = 1.0 / (1.0 + (-x64).exp());
            assert!(
                (f64::from(sigmoid(x)) - expected).abs() < 2e-7,
                "sigmoid({x})"
            );
        }
    }
}
