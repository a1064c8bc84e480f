//! Products of bf16 by tiles.

use std::cell::Cell;
use std::mem::MaybeUninit;

use burn::tensor::DType;
use rayon::prelude::*;

use super::matrix::{Before, Matrix};
use super::tiles::{self, Instructions, LINES, Lines, Panels, Side, Sums, Target, Tile};
use crate::values::Value;

/// Most rows and columns of one task: its sums and rows stay in a core's second cache.
const MOST: [usize; 2] = [128, 256];
/// With fewer, a task would read more than it computes.
const FEWEST: usize = 32;
/// Tiles of the left operand at a time: 16 MiB.
const MOST_TILES: usize = 1 << 14;
/// Tiles of an operand that a thread keeps for its next product: 32 MiB.
const KEPT_TILES: usize = 1 << 15;
/// Values of the inner dimension at a time: where it is that of all tokens of a batch, operands are as large as activations.
const MOST_INNER: usize = 1 << 13;
/// Tasks of a core, so that all end at about the same time.
const TASKS: usize = 3;

thread_local! {
    /// Memory for the operands of a product and for its sums, which is not cleared each time.
    static OPERANDS: Cell<[Vec<Tile>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
    static SUMS: Cell<Vec<Sums>> = const { Cell::new(Vec::new()) };
}

/// `out = before + left right`.
/// - sides: checked and not empty, as is `out`.
pub(super) fn product<O: Value>(
    instructions: Instructions,
    out: &mut [MaybeUninit<O>],
    out_stride: usize,
    before: Before,
    [left, right]: [Matrix; 2],
    is_divided: bool,
) {
    let run = Run {
        instructions,
        is_divided,
    };
    // Parts of a sum would be rounded if they were put aside in bf16.
    let at_once = match O::DTYPE {
        DType::F32 => MOST_INNER,
        _ => left.columns,
    };
    let mut before = before;
    for start in (0..left.columns).step_by(at_once) {
        let count = at_once.min(left.columns - start);
        let sides = [left.of_columns(start, count), right.of_rows(start, count)];
        run.product(out, out_stride, before, sides);
        before = Before::Add;
    }
}

#[derive(Clone, Copy)]
struct Run {
    instructions: Instructions,
    is_divided: bool,
}

impl Run {
    fn product<O: Value>(
        self,
        out: &mut [MaybeUninit<O>],
        out_stride: usize,
        before: Before,
        [left, right]: [Matrix; 2],
    ) {
        let columns = right.columns;
        let mut operands = OPERANDS.take();
        let [left_tiles, right_tiles] = &mut operands;
        let right = self.pack(right_tiles, right.transposed(), Side::Right);
        let rows_at_once = (MOST_TILES / right.depth).max(FEWEST / LINES) * LINES;
        let all = Target::new(out, [left.rows, columns], out_stride);
        for rows in all.split([rows_at_once, columns]) {
            let (first, count) = (rows.row, rows.rows);
            let left = self.pack(left_tiles, left.of_rows(first, count), Side::Left);
            let task = |part: Target<O>| {
                let left = left.of_lines(part.row - first, part.rows);
                let right = right.of_lines(part.column, part.columns);
                let mut sums = SUMS.take();
                let own = at_least(&mut sums, left.count() * right.count(), Sums::ZERO);
                tiles::multiply(self.instructions, own, left, right);
                tiles::store(&part, own, before);
                SUMS.set(sums);
            };
            if self.is_divided {
                let parts: Vec<_> = rows.split(task_size(count, columns)).collect();
                parts.into_par_iter().for_each(task);
            } else {
                rows.split(MOST).for_each(task);
            }
        }
        if operands.iter().all(|tiles| tiles.len() <= KEPT_TILES) {
            OPERANDS.set(operands);
        }
    }

    /// - matrix: its rows are the lines.
    fn pack<'a>(self, tiles: &'a mut Vec<Tile>, matrix: Matrix, side: Side) -> Panels<'a> {
        let depth = tiles::depth(matrix.columns);
        let len = matrix.rows.div_ceil(LINES) * depth;
        let tiles = at_least(tiles, len, Tile::ZERO);
        let pack = |(at, tiles): (usize, &mut [Tile])| {
            let first = at * LINES;
            let lines = Lines {
                values: matrix.values.after(first * matrix.row_stride),
                count: LINES.min(matrix.rows - first),
                stride: matrix.row_stride,
                inner: matrix.columns,
                inner_stride: matrix.column_stride,
            };
            tiles::pack(tiles, lines, side);
        };
        if self.is_divided {
            tiles.par_chunks_mut(depth).enumerate().for_each(pack);
        } else {
            tiles.chunks_mut(depth).enumerate().for_each(pack);
        }
        Panels { tiles, depth }
    }
}

/// Rows and columns of a task. The values of a product do not depend on it.
fn task_size(rows: usize, columns: usize) -> [usize; 2] {
    let wanted = TASKS * rayon::current_num_threads();
    let [mut of_rows, mut of_columns] = MOST;
    while rows.div_ceil(of_rows) * columns.div_ceil(of_columns) < wanted
        && of_rows.max(of_columns) > FEWEST
    {
        if of_columns > of_rows {
            of_columns /= 2;
        } else {
            of_rows /= 2;
        }
    }
    [of_rows, of_columns]
}

/// The first `len` values of memory that only grows, so that it is not cleared again.
fn at_least<T: Clone>(values: &mut Vec<T>, len: usize, value: T) -> &mut [T] {
    if values.len() < len {
        values.resize(len, value);
    }
    &mut values[..len]
}
