//! Ridge regression to targets of -1 and 1, in closed form.
//!
//! Source: big_vision's `evaluators/fewshot_lsr.py`, whose systems are solved there by eigenvectors in f32.

use rayon::prelude::*;

/// The constant feature: so large that its weight, the bias, is hardly regularized.
const BIAS: f64 = 100.0;
/// Added to standard deviations, of which some may be 0.
const SMALLEST_DEVIATION: f64 = 1e-5;
/// Rows whose products are computed together.
const ROWS: usize = 16;
/// Sums of a dot product that are computed together.
const LANES: usize = 8;

/// A fitted classifier: an image's class is that with the highest score.
#[derive(Debug)]
pub(super) struct Ridge {
    mean: Vec<f64>,
    deviation: Vec<f64>,
    /// `[classes][embed_dim + 1]`, row-major; the last weight of each is that of [`BIAS`].
    weights: Vec<f64>,
}

/// The system of equations has no solution in f64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Singular;

impl Ridge {
    /// Fits to features that are standardized by their own means and standard deviations.
    /// - features: `[images][embed_dim]`, row-major; l2: the strength of the regularization, above 0.
    ///
    /// # Errors
    /// If the regularization is too weak for f64.
    ///
    /// # Panics
    /// If there are no images or a label is not below `classes`.
    pub fn fit(
        features: &[f32],
        labels: &[usize],
        classes: usize,
        l2: f64,
    ) -> Result<Self, Singular> {
        let images = labels.len();
        let embed_dim = features.len() / images;
        let (mean, deviation) = moments(features, embed_dim);
        let mut fitted = Self {
            mean,
            deviation,
            weights: Vec::new(),
        };
        let width = embed_dim + 1;
        let rows: Vec<f64> = (features.chunks_exact(embed_dim))
            .flat_map(|row| fitted.standardized(row))
            .collect();
        let columns = transposed(&rows, width);
        let target = |class: usize| {
            let targets = labels.iter();
            targets.map(move |label| if *label == class { 1.0 } else { -1.0 })
        };
        let targets: Vec<f64> = (0..classes).flat_map(target).collect();
        // The smaller of two systems with the same solution.
        fitted.weights = if images >= width {
            // (XᵀX + l2)⁻¹ Xᵀy
            let system = Cholesky::of(products(&columns, &columns, images), width, l2)?;
            let sides = products(&targets, &columns, images);
            system.solve(sides)
        } else {
            // Xᵀ (XXᵀ + l2)⁻¹ y
            let system = Cholesky::of(products(&rows, &rows, width), images, l2)?;
            products(&system.solve(targets), &columns, images)
        };
        Ok(fitted)
    }

    /// The class of each image; of equal scores the first, as in `argmax`.
    /// - features: `[images][embed_dim]`, row-major.
    pub fn predict(&self, features: &[f32]) -> Vec<usize> {
        let (embed_dim, width) = (self.mean.len(), self.mean.len() + 1);
        let classes = self.weights.len() / width;
        let found = features.par_chunks(ROWS * embed_dim).flat_map_iter(|some| {
            let rows = some.chunks_exact(embed_dim);
            let rows: Vec<f64> = rows.flat_map(|row| self.standardized(row)).collect();
            let mut scores = vec![0.0; rows.len() / width * classes];
            multiply(&rows, &self.weights, width, &mut scores);
            scores
                .chunks_exact(classes)
                .map(highest)
                .collect::<Vec<_>>()
        });
        found.collect()
    }

    /// A row with the constant feature behind it.
    fn standardized<'a>(&'a self, row: &'a [f32]) -> impl Iterator<Item = f64> + 'a {
        let moments = self.mean.iter().zip(&self.deviation);
        let values = row.iter().zip(moments);
        let values =
            values.map(|(value, (mean, deviation))| (f64::from(*value) - mean) / deviation);
        values.chain(std::iter::once(BIAS))
    }
}

/// The mean and the standard deviation of each feature, the latter over the number of images, as NumPy's `std`.
#[expect(clippy::cast_precision_loss, reason = "images are far below 2^53")]
fn moments(features: &[f32], embed_dim: usize) -> (Vec<f64>, Vec<f64>) {
    let images = (features.len() / embed_dim) as f64;
    let mut mean = vec![0.0; embed_dim];
    for row in features.chunks_exact(embed_dim) {
        for (sum, value) in mean.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    for sum in &mut mean {
        *sum /= images;
    }
    let mut deviation = vec![0.0; embed_dim];
    for row in features.chunks_exact(embed_dim) {
        for ((sum, value), mean) in deviation.iter_mut().zip(row).zip(&mean) {
            let gap = f64::from(*value) - mean;
            *sum += gap * gap;
        }
    }
    for sum in &mut deviation {
        *sum = (*sum / images).sqrt() + SMALLEST_DEVIATION;
    }
    (mean, deviation)
}

/// - rows: `[rows][width]`; returns `[width][rows]`.
fn transposed(rows: &[f64], width: usize) -> Vec<f64> {
    let column = |at: usize| rows.iter().skip(at).step_by(width).copied();
    (0..width).flat_map(column).collect()
}

/// The first of the highest scores.
fn highest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

/// All dot products of the rows of two matrices.
/// - a: `[m][width]`; b: `[n][width]`; returns `[m][n]`.
fn products(a: &[f64], b: &[f64], width: usize) -> Vec<f64> {
    let columns = b.len() / width;
    let mut out = vec![0.0; a.len() / width * columns];
    out.par_chunks_mut(ROWS * columns)
        .zip(a.par_chunks(ROWS * width))
        .for_each(|(out, a)| multiply(a, b, width, out));
    out
}

/// As [`products`], on one core.
fn multiply(a: &[f64], b: &[f64], width: usize, out: &mut [f64]) {
    let columns = b.len() / width;
    for (column, b) in b.chunks_exact(width).enumerate() {
        for (a, out) in a.chunks_exact(width).zip(out.chunks_exact_mut(columns)) {
            out[column] = dot(a, b);
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    let rest: f64 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The lower triangle `L` of a symmetric matrix `LLᵀ`.
struct Cholesky {
    /// `[size][size]`, row-major; what is above the diagonal is not used.
    lower: Vec<f64>,
    size: usize,
}

impl Cholesky {
    /// Decomposes a symmetric matrix plus `l2` on its diagonal.
    fn of(mut matrix: Vec<f64>, size: usize, l2: f64) -> Result<Self, Singular> {
        for row in 0..size {
            matrix[row * size + row] += l2;
            let (above, own) = matrix.split_at_mut(row * size);
            for column in 0..row {
                let other = &above[column * size..=column * size + column];
                let rest = own[column] - dot(&own[..column], &other[..column]);
                own[column] = rest / other[column];
            }
            let rest = own[row] - dot(&own[..row], &own[..row]);
            if !(rest > 0.0 && rest.is_finite()) {
                return Err(Singular);
            }
            own[row] = rest.sqrt();
        }
        Ok(Self {
            lower: matrix,
            size,
        })
    }

    /// Solves the system for several right-hand sides.
    /// - sides: `[sides][size]`; returns the solutions in the same order.
    fn solve(&self, mut sides: Vec<f64>) -> Vec<f64> {
        let size = self.size;
        sides.par_chunks_exact_mut(size).for_each(|side| {
            for row in 0..size {
                let own = &self.lower[row * size..=row * size + row];
                side[row] = (side[row] - dot(&own[..row], &side[..row])) / own[row];
            }
            for row in (0..size).rev() {
                let own = &self.lower[row * size..=row * size + row];
                let value = side[row] / own[row];
                side[row] = value;
                for (other, factor) in side[..row].iter_mut().zip(own) {
                    *other -= value * factor;
                }
            }
        });
        sides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved_as_by_hand() {
        // [[4, 2], [2, 3]] + 1 = [[5, 2], [2, 4]]: its inverse is [[4, -2], [-2, 5]] / 16.
        let system = Cholesky::of(vec![4.0, 2.0, 2.0, 3.0], 2, 1.0).unwrap();
        let found = system.solve(vec![16.0, 0.0, 8.0, 16.0]);
        for (found, wanted) in found.iter().zip([4.0, -2.0, 0.0, 4.0]) {
            assert!((found - wanted).abs() < 1e-12, "{found}, not {wanted}");
        }
        let singular = Cholesky::of(vec![1.0, 1.0, 1.0, 1.0], 2, 0.0);
        assert!(singular.is_err());
    }

    #[test]
    fn the_smaller_system_has_the_solution_of_the_larger_one() {
        // One feature: 3 images make the primal system, 1 image the dual one.
        // x = (-1, 0, 1) has the deviation s = sqrt(2/3) + 1e-5, and z = (-1/s, 0, 1/s). Targets of class
        // 1 are (-1, -1, 1): w = 2/s / (2/s² + l2), and of the bias 100 · (-1) / (3 · 100² + l2).
        let fitted = Ridge::fit(&[-1.0, 0.0, 1.0], &[0, 0, 1], 2, 2.0).unwrap();
        let deviation = (2.0_f64 / 3.0).sqrt() + 1e-5;
        let slope = 2.0 / deviation / (2.0 / (deviation * deviation) + 2.0);
        let bias = -100.0 / 30_002.0;
        for (found, wanted) in fitted.weights.iter().zip([-slope, -bias, slope, bias]) {
            assert!((found - wanted).abs() < 1e-12, "{found}, not {wanted}");
        }
        assert_eq!(fitted.predict(&[-5.0, 5.0, 0.0]), [0, 1, 0]);
        // A single image: z is 0, and the bias is 100 · y / (100² + l2).
        let fitted = Ridge::fit(&[7.0], &[1], 2, 2.0).unwrap();
        for (found, wanted) in (fitted.weights.iter()).zip([0.0, -100.0, 0.0, 100.0]) {
            assert!((found - wanted / 10_002.0).abs() < 1e-12, "{found}");
        }
        assert_eq!(highest(&[1.0, 2.0, 2.0]), 1);
    }
}
