//! The inner products of a query with all rows, of which the best are kept.

use std::cmp::Ordering;

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Rows that a thread takes at once: about a megabyte.
const ROWS: usize = 512;
/// Sums that are added to side by side, which fill the widest registers of any machine several times.
const LANES: usize = 64;

/// A row and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scored {
    pub row: usize,
    pub score: f32,
}

impl Scored {
    /// The best first; of equal scores, the first row.
    fn order(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(self.row.cmp(&other.row))
    }
}

/// The rows with the largest inner products, the best first.
/// - rows: `[rows, width]`, row-major; query: `[width]`.
pub(crate) fn best(rows: &[f32], query: &[f32], limit: usize) -> Vec<Scored> {
    if limit == 0 || rows.is_empty() {
        return Vec::new();
    }
    let parts = rows.par_chunks(ROWS * query.len()).enumerate();
    let kept = parts.fold(Kept::default, |mut kept, (part, rows)| {
        let mut scores = [0.0; ROWS];
        let scores = &mut scores[..rows.len() / query.len()];
        Arch::new().dispatch(Products {
            rows,
            query,
            scores,
        });
        for (at, score) in scores.iter().enumerate() {
            if *score >= kept.least {
                kept.rows.push(Scored {
                    row: part * ROWS + at,
                    score: *score,
                });
            }
        }
        // Not with each row: a selection takes as long as there are rows.
        if kept.rows.len() >= 2 * limit + ROWS {
            kept.shorten(limit);
        }
        kept
    });
    let mut best = kept.reduce(Kept::default, |mut all, some| {
        all.rows.extend(some.rows);
        all.shorten(limit);
        all
    });
    best.shorten(limit);
    best.rows.sort_unstable_by(Scored::order);
    best.rows
}

/// Rows that may be among the best.
struct Kept {
    rows: Vec<Scored>,
    /// A row with a lower score is not among them.
    least: f32,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            least: f32::NEG_INFINITY,
        }
    }
}

impl Kept {
    fn shorten(&mut self, limit: usize) {
        if self.rows.len() > limit {
            let (_, last, _) = self.rows.select_nth_unstable_by(limit - 1, Scored::order);
            self.least = last.score;
            self.rows.truncate(limit);
        }
    }
}

struct Products<'a> {
    rows: &'a [f32],
    query: &'a [f32],
    scores: &'a mut [f32],
}

impl NullaryFnOnce for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (row, score) in self.rows.chunks_exact(self.query.len()).zip(self.scores) {
            *score = dot(row, self.query);
        }
    }
}

#[inline(always)]
fn dot(row: &[f32], query: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (rows, row_rest) = row.as_chunks::<LANES>();
    let (queries, query_rest) = query.as_chunks::<LANES>();
    for (row, query) in rows.iter().zip(queries) {
        for lane in 0..LANES {
            sums[lane] += row[lane] * query[lane];
        }
    }
    for (lane, (row, query)) in row_rest.iter().zip(query_rest).enumerate() {
        sums[lane] += row * query;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(at: usize) -> f32 {
        let hash = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        #[expect(clippy::cast_precision_loss, reason = "24 bits")]
        let value = hash as f32 / (1 << 24) as f32 - 0.5;
        value
    }

    #[test]
    fn the_best_rows_are_those_of_a_full_sort_in_f64() {
        for (count, width) in [(1, 3), (700, 64), (5000, 100), (1500, 1)] {
            let rows: Vec<f32> = (0..count * width).map(value).collect();
            let query: Vec<f32> = (0..width).map(|at| value(at + 7_777_777)).collect();
            let exact = |row: usize| -> f64 {
                let row = &rows[row * width..(row + 1) * width];
                row.iter()
                    .zip(&query)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            };
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|a, b| exact(*b).total_cmp(&exact(*a)));
            for limit in [1, 10, count, count + 5] {
                let found = best(&rows, &query, limit);
                assert_eq!(found.len(), limit.min(count));
                for (one, wanted) in found.iter().zip(&order) {
                    let gap = exact(one.row) - exact(*wanted);
                    assert!(gap.abs() < 1e-5, "{count} {width} {limit}: {gap}");
                    assert!((f64::from(one.score) - exact(one.row)).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn of_equal_rows_the_first_come_first() {
        let rows = vec![0.5; 3000 * 2];
        let found: Vec<usize> = best(&rows, &[1.0, 1.0], 5)
            .iter()
            .map(|one| one.row)
            .collect();
        assert_eq!(found, [0, 1, 2, 3, 4]);
        assert_eq!(best(&[], &[1.0], 3), []);
    }
}
