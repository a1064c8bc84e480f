//! Sums of tiles as the values of a matrix.
#![expect(unsafe_code, reason = "vector instructions and their pointers")]

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, _mm256_mask_storeu_epi16, _mm256_maskz_loadu_epi16, _mm512_add_ps,
    _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_slli_epi32,
};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use burn::tensor::DType;

use super::{Instructions, LINES, Sums, first_16};
use crate::product::matrix::Before;
use crate::values::Value;

/// A rectangle of a matrix that a product writes.
pub(crate) struct Target<'a, O> {
    start: *mut O,
    pub rows: usize,
    pub columns: usize,
    stride: usize,
    /// Of the whole.
    pub row: usize,
    pub column: usize,
    slice: PhantomData<&'a mut [O]>,
}

// SAFETY: no two rectangles have a value in common.
unsafe impl<O: Send> Send for Target<'_, O> {}

impl<'a, O> Target<'a, O> {
    /// # Panics
    /// If the matrix is larger than its slice, or rows overlap.
    pub fn new(
        values: &'a mut [MaybeUninit<O>],
        [rows, columns]: [usize; 2],
        stride: usize,
    ) -> Self {
        assert!(stride >= columns, "rows of a product overlap");
        assert!(
            (rows - 1) * stride + columns <= values.len(),
            "out of a product"
        );
        Self {
            start: values.as_mut_ptr().cast(),
            rows,
            columns,
            stride,
            row: 0,
            column: 0,
            slice: PhantomData,
        }
    }

    /// Divides it into rectangles of at most so many rows and columns.
    pub fn split(self, [rows, columns]: [usize; 2]) -> impl Iterator<Item = Self> {
        let starts = move |at: usize| {
            (0..self.columns)
                .step_by(columns)
                .map(move |column| (at, column))
        };
        (0..self.rows)
            .step_by(rows)
            .flat_map(starts)
            .map(move |(row, column)| Self {
                // SAFETY: within the rectangle.
                start: unsafe { self.start.add(row * self.stride + column) },
                rows: rows.min(self.rows - row),
                columns: columns.min(self.columns - column),
                stride: self.stride,
                row: self.row + row,
                column: self.column + column,
                slice: PhantomData,
            })
    }
}

/// Writes the first `count` values.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn write<O: Value>(to: *mut O, values: __m512, count: usize) {
    let mask = first_16(count);
    // SAFETY: the caller's; `O` is one of two types.
    unsafe {
        if O::DTYPE == DType::F32 {
            _mm512_mask_storeu_ps(to.cast(), mask, values);
        } else {
            let values = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values));
            _mm256_mask_storeu_epi16(to.cast(), mask, values);
        }
    }
}

/// The first `count` values.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn read<O: Value>(from: *const O, count: usize) -> __m512 {
    let mask = first_16(count);
    // SAFETY: as above.
    unsafe {
        if O::DTYPE == DType::F32 {
            _mm512_maskz_loadu_ps(mask, from.cast())
        } else {
            let values = _mm256_maskz_loadu_epi16(mask, from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(values)))
        }
    }
}

/// Writes the sums of tiles.
/// - sums: by 16 rows, then by 16 columns.
pub(crate) fn store<O: Value>(target: &Target<O>, sums: &[Sums], before: Before) {
    let panels = target.columns.div_ceil(LINES);
    assert_eq!(
        sums.len(),
        target.rows.div_ceil(LINES) * panels,
        "sums of a rectangle"
    );
    assert!(Instructions::detect().is_some());
    // SAFETY: the instructions were found; only values of the rectangle are written.
    unsafe { store_all(target, sums, before) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn store_all<O: Value>(target: &Target<O>, sums: &[Sums], before: Before) {
    let panels = target.columns.div_ceil(LINES);
    for row in 0..target.rows {
        for panel in 0..panels {
            let column = panel * LINES;
            let count = target.columns - column;
            // SAFETY: within the rectangle; `count` bounds what is read and written.
            unsafe {
                let sums = &sums[row / LINES * panels + panel].0[row % LINES * LINES..][..LINES];
                let mut values = _mm512_loadu_ps(sums.as_ptr());
                let to = target.start.add(row * target.stride + column);
                let at = target.column + column;
                let within = at..at + count.min(LINES);
                let before = match before {
                    Before::Overwrite => None,
                    Before::Add => Some(read(to, count)),
                    Before::Bias(bias) => Some(read(bias[within].as_ptr(), count)),
                    Before::Rows { rows, bias } => {
                        let row = &rows[(target.row + row) * bias.len()..];
                        let row = read(row[within.clone()].as_ptr(), count);
                        Some(_mm512_add_ps(row, read(bias[within].as_ptr(), count)))
                    }
                };
                if let Some(before) = before {
                    values = _mm512_add_ps(values, before);
                }
                write(to, values, count);
            }
        }
    }
}
