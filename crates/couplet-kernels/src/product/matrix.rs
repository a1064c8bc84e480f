//! The operands of products.

use crate::values::{Value, Values};

/// A strided matrix in a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub values: Values<'a>,
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub fn new<E: Value>(values: &'a [E], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Rows that begin `row_stride` values after one another.
    pub fn strided<E: Value>(
        values: &'a [E],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        Self {
            values: E::values(values),
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// - first, count: of the rows.
    #[cfg(target_arch = "x86_64")]
    pub fn of_rows(self, first: usize, count: usize) -> Self {
        Self {
            values: self.values.after(first * self.row_stride),
            rows: count,
            ..self
        }
    }

    /// - first, count: of the columns.
    #[cfg(target_arch = "x86_64")]
    pub fn of_columns(self, first: usize, count: usize) -> Self {
        self.transposed().of_rows(first, count).transposed()
    }

    /// Where the last value is.
    pub fn last(&self) -> usize {
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride
    }
}

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Before<'a> {
    Overwrite,
    Add,
    /// Every row begins as this one, which is as long.
    Bias(&'a [f32]),
    /// Rows of their own, one after the other, and one that is added to each.
    Rows {
        rows: &'a [f32],
        bias: &'a [f32],
    },
}
