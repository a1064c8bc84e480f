//! Position embeddings that are computed: sines, and learned ones for another grid or
//! context.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "positions are small and not negative; weights are f32"
)]

use crate::weights::HostTensor;

/// Sines and cosines of row and column, zeros for what is before the grid.
/// - returns `[before + grid², width]`, rows first.
///
/// Source: open_clip `get_2d_sincos_pos_embed`.
pub(crate) fn sin_cos_2d(grid: usize, width: usize, before: usize) -> Vec<f32> {
    let quarter = width / 4;
    let mut values = vec![0.0; before * width];
    for cell in 0..grid * grid {
        let (row, column) = (cell / grid, cell % grid);
        // open_clip's meshgrid puts the column first.
        for position in [column, row] {
            let angle = |at: usize| angle(position, at, quarter);
            values.extend((0..quarter).map(|at| angle(at).sin() as f32));
            values.extend((0..quarter).map(|at| angle(at).cos() as f32));
        }
    }
    values
}

fn angle(position: usize, at: usize, quarter: usize) -> f64 {
    position as f64 / 10_000f64.powf(at as f64 / quarter as f64)
}

/// Whether so many position embeddings are those of a square grid and of `before` rows more.
pub(crate) fn is_grid(rows: usize, before: usize) -> bool {
    let side = rows.saturating_sub(before).isqrt();
    side > 0 && side * side + before == rows
}

/// Resizes a grid's position embeddings, bicubic and antialiased. The first `before` rows (the class
/// token's, or the mean's) are unchanged.
/// - tensor: `[before + from², width]`; returns `[before + to², width]`, or `None` if the tensor is not
///   that of a square grid.
///
/// Source: open_clip `resize_pos_embed`.
pub(crate) fn resize_grid(tensor: &HostTensor, before: usize, to: usize) -> Option<HostTensor> {
    let &[rows, width] = tensor.shape.as_slice() else {
        return None;
    };
    if !is_grid(rows, before) {
        return None;
    }
    let from = (rows - before).isqrt();
    let (first, cells) = tensor.values.split_at(before * width);
    // Columns first, then rows, as PyTorch.
    let across = Resample::antialiased_cubic(from, to);
    let columns: Vec<f32> = cells
        .chunks_exact(from * width)
        .flat_map(|line| across.apply(line, width))
        .collect();
    let mut values = first.to_vec();
    values.extend(across.apply(&columns, to * width));
    Some(HostTensor {
        shape: vec![before + to * to, width],
        values,
    })
}

/// Resizes a text's position embeddings to another context length, linearly.
/// - tensor: `[from, width]`; returns `[to, width]`, or `None` if it has another rank.
///
/// Source: open_clip `resize_text_pos_embed`.
pub(crate) fn resize_context(tensor: &HostTensor, to: usize) -> Option<HostTensor> {
    let &[from, width] = tensor.shape.as_slice() else {
        return None;
    };
    Some(HostTensor {
        shape: vec![to, width],
        values: Resample::linear(from, to).apply(&tensor.values, width),
    })
}

/// For each output position, its first input position and the inputs' weights.
struct Resample(Vec<(usize, Vec<f32>)>);

impl Resample {
    /// Source: PyTorch `upsample_bicubic2d_aa`, as PIL's (a = -0.5).
    fn antialiased_cubic(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let taps = (0..to).map(|at| {
            let center = scale * (at as f64 + 0.5);
            let first = (center - support + 0.5).max(0.0) as usize;
            let last = ((center + support + 0.5) as usize).min(from);
            let weights: Vec<f64> = (first..last)
                .map(|input| cubic((input as f64 - center + 0.5) / stretch))
                .collect();
            let sum: f64 = weights.iter().sum();
            (first, weights.iter().map(|w| (w / sum) as f32).collect())
        });
        Self(taps.collect())
    }

    /// Source: PyTorch `upsample_linear1d`, `align_corners=False`.
    fn linear(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let taps = (0..to).map(|at| {
            let center = (scale * (at as f64 + 0.5) - 0.5).max(0.0);
            let first = (center as usize).min(from - 1);
            let share = (center - first as f64) as f32;
            if first + 1 < from {
                (first, vec![1.0 - share, share])
            } else {
                (first, vec![1.0])
            }
        });
        Self(taps.collect())
    }

    /// - values: `[from, width]`; returns `[to, width]`.
    fn apply(&self, values: &[f32], width: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.0.len() * width);
        for (first, weights) in &self.0 {
            let start = out.len();
            out.resize(start + width, 0.0);
            for (input, weight) in weights.iter().enumerate() {
                let row = &values[(first + input) * width..][..width];
                for (sum, value) in out[start..].iter_mut().zip(row) {
                    *sum += weight * value;
                }
            }
        }
        out
    }
}

/// The bicubic kernel with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// Made by `tests/fixtures/make_positions.py`. Each case is the new size, the values before and
    /// after, of width 3.
    #[derive(Deserialize)]
    struct Fixture {
        grids: Vec<(usize, Vec<f32>, Vec<f32>)>,
        contexts: Vec<(usize, Vec<f32>, Vec<f32>)>,
        fixed: Vec<f32>,
    }

    fn fixture() -> Fixture {
        serde_json::from_str(include_str!("../tests/fixtures/positions.json")).unwrap()
    }

    fn tensor(values: Vec<f32>) -> HostTensor {
        HostTensor {
            shape: vec![values.len() / 3, 3],
            values,
        }
    }

    fn assert_near(ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len());
        for (a, b) in ours.iter().zip(theirs) {
            assert!((a - b).abs() < 2e-6, "{a} {b}");
        }
    }

    #[test]
    fn embeddings_are_resized_as_by_open_clip() {
        for (to, before, after) in fixture().grids {
            let resized = resize_grid(&tensor(before), 1, to).unwrap();
            assert_eq!(resized.shape, [1 + to * to, 3]);
            assert_near(&resized.values, &after);
        }
        for (to, before, after) in fixture().contexts {
            let resized = resize_context(&tensor(before), to).unwrap();
            assert_near(&resized.values, &after);
        }
    }

    #[test]
    fn fixed_embeddings_match_open_clip() {
        assert_near(&sin_cos_2d(3, 8, 1), &fixture().fixed);
    }

    #[test]
    fn only_square_grids_are_resized() {
        assert!(resize_grid(&tensor(vec![0.0; 3 * 6]), 1, 4).is_none());
    }
}
