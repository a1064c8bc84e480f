//! Matrix products into slices: of f32 by the crate `gemm`, which burn-flex uses too; of bf16 by tiles, where the
//! processor has instructions for them.

mod matrix;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiled;
#[cfg(target_arch = "x86_64")]
mod tiles;

use std::mem::MaybeUninit;

use burn::tensor::bf16;
use rayon::prelude::*;

pub(crate) use self::matrix::{Before, Matrix};
use crate::fresh::fresh;
use crate::values::{CHUNK, Value, Values};
use crate::vectors::wide;

/// Products of fewer multiplications run on one core: dividing them costs more than it saves.
const WORTH_DIVIDING: usize = 192 * 192 * 192;
/// Rows that one task begins.
const ROWS: usize = 64;

/// Whether this processor multiplies bf16 faster than f32.
pub fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return tiles::Instructions::detect().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `out = before + left right`. If any of the three is in bf16, the operands are rounded to it. Sums
/// are in f32.
/// - out: `[left.rows, right.columns]`, rows `out_stride` values after one another.
///
/// # Panics
/// If a matrix is larger than its slice, or the sides do not match.
pub(crate) fn product<O: Value>(
    out: &mut [O],
    out_stride: usize,
    before: Before,
    left: Matrix,
    right: Matrix,
) {
    write_product(as_missing(out), out_stride, before, left, right);
}

/// Values as memory that may hold none. Only values are written to it.
fn as_missing<O>(out: &mut [O]) -> &mut [MaybeUninit<O>] {
    #[expect(unsafe_code, reason = "the same memory")]
    // SAFETY: the types have one layout, and nothing here takes a value away.
    unsafe {
        &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<O>])
    }
}

/// As [`product`], as new values, one row after the other. Nothing clears them before.
/// - before: not [`Before::Add`].
///
/// # Panics
/// As [`product`].
pub(crate) fn new_product<O: Value>(before: Before, left: Matrix, right: Matrix) -> Vec<O> {
    assert!(!matches!(before, Before::Add), "there is nothing to add to");
    let (len, columns) = (left.rows * right.columns, right.columns);
    if left.rows == 1 || columns == 1 {
        // `gemm` takes vectors as slices.
        let mut out = vec![O::default(); len];
        product(&mut out, columns, before, left, right);
        return out;
    }
    let mut out = Vec::with_capacity(len);
    write_product(
        &mut out.spare_capacity_mut()[..len],
        columns,
        before,
        left,
        right,
    );
    #[expect(unsafe_code, reason = "a product writes all of its output")]
    // SAFETY: it did.
    unsafe {
        out.set_len(len);
    }
    out
}

/// - out: its values are read only for [`Before::Add`].
fn write_product<O: Value>(
    out: &mut [MaybeUninit<O>],
    out_stride: usize,
    before: Before,
    left: Matrix,
    right: Matrix,
) {
    let (m, k, n) = (left.rows, left.columns, right.columns);
    assert_eq!(k, right.rows, "sides of a product");
    assert!(out_stride >= n, "rows of a product overlap");
    if let Before::Bias(bias) | Before::Rows { bias, .. } = before {
        assert_eq!(bias.len(), n, "a bias is as long as a row");
    }
    if let Before::Rows { rows, .. } = before {
        assert_eq!(rows.len(), m * n, "rows to add to");
    }
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        begin(out, out_stride, before, [m, n]);
        return;
    }
    assert!((m - 1) * out_stride + n - 1 < out.len(), "out of a product");
    assert!(left.last() < left.values.len(), "left of a product");
    assert!(right.last() < right.values.len(), "right of a product");
    let is_divided = m * n * k >= WORTH_DIVIDING && rayon::current_num_threads() > 1;
    if let (Values::Wide(left_values), Values::Wide(right_values)) = (left.values, right.values)
        && let Some(out) = O::as_wide_memory(out)
    {
        let sides = [(left, left_values), (right, right_values)];
        wide_product(out, out_stride, before, sides, is_divided);
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = tiles::Instructions::detect() {
        let sides = [left, right];
        tiled::product(instructions, out, out_stride, before, sides, is_divided);
        return;
    }
    rounded_product(out, out_stride, before, [left, right], is_divided);
}

/// Writes what a product is added to.
fn begin<O: Value>(
    out: &mut [MaybeUninit<O>],
    out_stride: usize,
    before: Before,
    [rows, columns]: [usize; 2],
) {
    let all = &mut out[..(rows - 1) * out_stride + columns];
    let tasks = all.par_chunks_mut(ROWS * out_stride).enumerate();
    tasks.for_each(|(task, part)| {
        for (at, row) in part.chunks_mut(out_stride).enumerate() {
            let row = &mut row[..columns];
            match before {
                Before::Rows { rows, bias } => {
                    let start = &rows[(task * ROWS + at) * columns..];
                    for ((out, start), bias) in row.iter_mut().zip(start).zip(bias) {
                        out.write(O::narrow(start + bias));
                    }
                }
                Before::Overwrite => row.fill(MaybeUninit::new(O::default())),
                Before::Add => {}
                Before::Bias(bias) => {
                    for (out, bias) in row.iter_mut().zip(bias) {
                        out.write(O::narrow(*bias));
                    }
                }
            }
        }
    });
}

/// The product of operands rounded to bf16, where the processor multiplies f32 alone.
fn rounded_product<O: Value>(
    out: &mut [MaybeUninit<O>],
    out_stride: usize,
    before: Before,
    sides: [Matrix; 2],
    is_divided: bool,
) {
    let values = sides.map(|side| rounded(side.values, side.last() + 1));
    let [left, right] = &values;
    let wide = [(sides[0], &left[..]), (sides[1], &right[..])];
    if let Some(out) = O::as_wide_memory(out) {
        wide_product(out, out_stride, before, wide, is_divided);
        return;
    }
    let [rows, columns] = [sides[0].rows, sides[1].columns];
    let mut sums = vec![0.0; rows * columns];
    let place = as_missing(&mut sums);
    wide_product(place, columns, Before::Overwrite, wide, is_divided);
    let all = &mut out[..(rows - 1) * out_stride + columns];
    let lines = all.par_chunks_mut(out_stride).zip(sums.par_chunks(columns));
    lines.enumerate().for_each(|(row, (out, sums))| {
        for (at, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
            let before = match before {
                Before::Overwrite => 0.0,
                #[expect(unsafe_code, reason = "there are values to add to")]
                // SAFETY: the caller of `product` had values.
                Before::Add => unsafe { out.assume_init().wide() },
                Before::Bias(bias) => bias[at],
                Before::Rows { rows, bias } => rows[row * columns + at] + bias[at],
            };
            out.write(O::narrow(before + sum));
        }
    });
}

/// The first `len` values, rounded to bf16, as f32.
fn rounded(values: Values, len: usize) -> Vec<f32> {
    let round = |at: usize, out: &mut [f32]| {
        let start = at * CHUNK;
        wide(
            #[inline(always)]
            || match values {
                Values::Wide(values) => {
                    for (out, value) in out.iter_mut().zip(&values[start..]) {
                        *out = bf16::narrow(*value).wide();
                    }
                }
                Values::Narrow(values) => {
                    for (out, value) in out.iter_mut().zip(&values[start..]) {
                        *out = value.wide();
                    }
                }
            },
        );
    };
    fresh(len, CHUNK, round).0
}

/// - sides: each with its values in f32. They were checked, as was `out`.
fn wide_product(
    out: &mut [MaybeUninit<f32>],
    out_stride: usize,
    before: Before,
    [(left, left_values), (right, right_values)]: [(Matrix, &[f32]); 2],
    is_divided: bool,
) {
    if matches!(before, Before::Bias(_) | Before::Rows { .. }) {
        begin(out, out_stride, before, [left.rows, right.columns]);
    }
    let parallelism = if is_divided {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    let stride = |stride: usize| isize::try_from(stride).expect("slices are shorter");
    #[expect(
        unsafe_code,
        reason = "gemm takes pointers, and reads `out` only to add to it"
    )]
    // SAFETY: the caller's assertions keep the last value of each matrix in its slice, strides
    // are not negative, and rows of `out` do not overlap.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out.as_mut_ptr().cast::<f32>(),
            1,
            stride(out_stride),
            !matches!(before, Before::Overwrite),
            left_values.as_ptr(),
            stride(left.column_stride),
            stride(left.row_stride),
            right_values.as_ptr(),
            stride(right.column_stride),
            stride(right.row_stride),
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
