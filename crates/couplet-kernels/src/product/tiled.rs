//! Products of bf16 by tiles.

use std::cell::Cell;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::matrix::{Before, Matrix};
use super::tiles::{self, Instructions, LINES, Lines, Panels, Side, Sums, Target, Tile};
use crate::values::Value;

/// Most rows and columns of one task: its sums and rows stay in a core's second cache.
const MOST: [usize; 2] = [128, 256];
/// With fewer, a task would read more than it computes.
const FEWEST: usize = 32;
/// Tasks of a core, so that all end at about the same time.
const TASKS: usize = 3;

thread_local! {
    /// Memory for the operands of a product and for its sums, which is not cleared each time.
    static OPERANDS: Cell<[Vec<Tile>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
    static SUMS: Cell<Vec<Sums>> = const { Cell::new(Vec::new()) };
}

/// `out = left right`, or `out += left right`.
/// - sides: checked and not empty, as is `out`.
pub(super) fn product<O: Value>(
    instructions: Instructions,
    out: &mut [MaybeUninit<O>],
    out_stride: usize,
    before: Before,
    [left, right]: [Matrix; 2],
    is_divided: bool,
) {
    let (rows, columns) = (left.rows, right.columns);
    let mut operands = OPERANDS.take();
    let [left_tiles, right_tiles] = &mut operands;
    let left = pack(left_tiles, left, Side::Left, is_divided);
    let right = pack(right_tiles, right.transposed(), Side::Right, is_divided);
    let task = |part: Target<O>| {
        let [left, right] = [
            left.of_lines(part.row, part.rows),
            right.of_lines(part.column, part.columns),
        ];
        let mut sums = SUMS.take();
        resize(&mut sums, left.count() * right.count(), Sums::ZERO);
        tiles::multiply(instructions, &mut sums, left, right);
        tiles::store(&part, &sums, before);
        SUMS.set(sums);
    };
    let target = Target::new(out, [rows, columns], out_stride);
    if is_divided {
        let parts: Vec<_> = target.split(task_size(rows, columns)).collect();
        parts.into_par_iter().for_each(task);
    } else {
        target.split(MOST).for_each(task);
    }
    OPERANDS.set(operands);
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

/// - matrix: its rows are the lines.
fn pack<'a>(tiles: &'a mut Vec<Tile>, matrix: Matrix, side: Side, is_divided: bool) -> Panels<'a> {
    let depth = tiles::depth(matrix.columns);
    resize(tiles, matrix.rows.div_ceil(LINES) * depth, Tile::ZERO);
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
    if is_divided {
        tiles.par_chunks_mut(depth).enumerate().for_each(pack);
    } else {
        tiles.chunks_mut(depth).enumerate().for_each(pack);
    }
    Panels { tiles, depth }
}

fn resize<T: Clone>(values: &mut Vec<T>, len: usize, value: T) {
    values.truncate(len);
    values.resize(len, value);
}
