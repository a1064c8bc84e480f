//! The slowest of several ranks.

/// The expected maximum of as many independent draws from the standard normal distribution: 0 for one,
/// 0.564 for two, 3.24 for 1,024. `σ · E(K)` is how much later than the mean the slowest of K ranks ends.
///
/// `E(K) = ∫ x · K · Φ(x)^(K−1) · φ(x) dx` by the midpoint rule; its error is below 10⁻⁴ up to a million draws. The
/// common `√(2 ln K)` is too large by a fifth at 100. Source: Tippett 1925, "On the extreme individuals and the range of
/// samples taken from a normal population".
pub fn expected_maximum(draws: usize) -> f64 {
    const STEPS: u32 = 4000;
    const LIMIT: f64 = 8.0;
    if draws < 2 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "ranks are far below 2^53")]
    let draws = draws as f64;
    let width = 2.0 * LIMIT / f64::from(STEPS);
    let (mut below, mut sum) = (0.0, 0.0);
    for step in 0..STEPS {
        let x = (f64::from(step) + 0.5).mul_add(width, -LIMIT);
        let mass = width * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        let middle: f64 = below + 0.5 * mass;
        sum += x * draws * middle.powf(draws - 1.0) * mass;
        below += mass;
    }
    sum
}
