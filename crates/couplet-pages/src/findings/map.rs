//! The features of both towers in two dimensions, by principal components.

use serde::{Deserialize, Serialize};

/// Points of each tower that are drawn at most.
const POINTS: usize = 400;
/// Passes of the iteration, far more than two components of clouds need.
const PASSES: usize = 200;

/// Points `[x, y]`, in the order of the pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Map {
    images: Vec<[f32; 2]>,
    texts: Vec<[f32; 2]>,
    /// The part of the variance that each axis has.
    variance: [f64; 2],
}

/// The distance of the means of two sets of rows.
pub(super) fn gap(a: &[f32], b: &[f32], width: usize) -> f64 {
    let squares = mean(a, width)
        .into_iter()
        .zip(mean(b, width))
        .map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn mean(rows: &[f32], width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let count = (rows.len() / width).max(1) as f64;
    sum.into_iter().map(|sum| sum / count).collect()
}

impl Map {
    /// - images, texts: `[pairs, width]`, row-major.
    pub fn of(images: &[f32], texts: &[f32], width: usize) -> Self {
        let both = [images, texts].concat();
        let center = mean(&both, width);
        let rows: Vec<Vec<f64>> = (both.chunks_exact(width))
            .map(|row| {
                row.iter()
                    .zip(&center)
                    .map(|(value, center)| f64::from(*value) - center)
                    .collect()
            })
            .collect();
        let total: f64 = rows.iter().flatten().map(|value| value * value).sum();
        let axes = axes(&rows, width);
        let points: Vec<[f32; 2]> = rows
            .iter()
            .map(|row| {
                #[expect(clippy::cast_possible_truncation, reason = "points are drawn")]
                let along = |axis: &Vec<f64>| dot(row, axis) as f32;
                [along(&axes[0]), along(&axes[1])]
            })
            .collect();
        let part = |axis: &Vec<f64>| {
            let own: f64 = rows.iter().map(|row| dot(row, axis).powi(2)).sum();
            if total > 0.0 { own / total } else { 0.0 }
        };
        let (of_images, of_texts) = points.split_at(images.len() / width);
        Self {
            images: thinned(of_images),
            texts: thinned(of_texts),
            variance: [part(&axes[0]), part(&axes[1])],
        }
    }
}

fn thinned(points: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let count = POINTS.min(points.len());
    (0..count)
        .map(|at| points[at * points.len() / count])
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The two directions of the most variance, by orthogonal iteration on the rows.
fn axes(rows: &[Vec<f64>], width: usize) -> [Vec<f64>; 2] {
    // Not along any one feature, nor the same for both.
    #[expect(clippy::cast_precision_loss, reason = "widths are small")]
    let start = |salt: f64| {
        (0..width)
            .map(|at| (salt * (at as f64 + 1.0)).sin())
            .collect::<Vec<f64>>()
    };
    let mut axes = [start(1.0), start(1.7)];
    for _ in 0..PASSES {
        for axis in &mut axes {
            let mut next = vec![0.0; width];
            for row in rows {
                let along = dot(row, axis);
                for (next, value) in next.iter_mut().zip(row) {
                    *next += along * value;
                }
            }
            *axis = next;
        }
        let [first, second] = &mut axes;
        normalize(first);
        let shared = dot(first, second);
        for (second, first) in second.iter_mut().zip(first.iter()) {
            *second -= shared * first;
        }
        normalize(second);
    }
    axes
}

fn normalize(axis: &mut [f64]) {
    let norm = dot(axis, axis).sqrt();
    if norm > 0.0 {
        for value in axis {
            *value /= norm;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axes_are_those_of_the_most_variance() {
        // Along (3, 4)/5 with deviation 2, across it with 0.5, in the third dimension with 0.01.
        let mut rows = Vec::new();
        for at in 0..200_u16 {
            let turn = f32::from(at) * 0.7;
            let (along, across, rest) = (
                2.0 * turn.sin(),
                0.5 * (turn * 1.3).cos(),
                0.01 * (turn * 2.1).sin(),
            );
            rows.extend([
                0.6 * along - 0.8 * across + 5.0,
                0.8 * along + 0.6 * across,
                rest - 1.0,
            ]);
        }
        let (images, texts) = rows.split_at(300);
        let map = Map::of(images, texts, 3);
        assert!(
            map.variance[0] > 0.9 && map.variance[1] > 0.03,
            "{:?}",
            map.variance
        );
        assert!((map.variance[0] + map.variance[1] - 1.0).abs() < 1e-3);
        let widest = map
            .images
            .iter()
            .map(|point| point[0].abs())
            .fold(0.0, f32::max);
        assert!((widest - 2.0).abs() < 0.1, "{widest}");
        assert!((gap(&[1.0, 0.0, 3.0, 0.0], &[2.0, 3.0], 2) - 3.0).abs() < 1e-9);
        // Nothing varies.
        let same = Map::of(&[1.0; 6], &[1.0; 6], 3);
        assert_eq!(same.variance, [0.0, 0.0]);
    }
}
