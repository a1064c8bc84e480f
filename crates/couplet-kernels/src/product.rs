//! Matrix products into slices, by the crate `gemm`, which burn-flex uses too.

/// A strided matrix in a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Rows that begin `row_stride` values after one another.
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self {
            values,
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
}

/// What happens to the values that `out` holds before the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Overwrite,
    Add,
}

/// Products of fewer multiplications run on one core: dividing them costs more than it saves.
const WORTH_DIVIDING: usize = 192 * 192 * 192;

/// `out = left right`, or `out += left right`.
/// - out: `[left.rows, right.columns]`, rows `out_stride` values after one another.
///
/// # Panics
/// If a matrix is larger than its slice, or the sides do not match.
pub(crate) fn product(
    out: &mut [f32],
    out_stride: usize,
    before: Before,
    left: Matrix,
    right: Matrix,
) {
    let (m, k, n) = (left.rows, left.columns, right.columns);
    assert_eq!(k, right.rows, "sides of a product");
    assert!(out_stride >= n, "rows of a product overlap");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if before == Before::Overwrite {
            out.chunks_mut(out_stride)
                .take(m)
                .for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    let last = |matrix: &Matrix| {
        (matrix.rows - 1) * matrix.row_stride + (matrix.columns - 1) * matrix.column_stride
    };
    assert!((m - 1) * out_stride + n - 1 < out.len(), "out of a product");
    assert!(last(&left) < left.values.len(), "left of a product");
    assert!(last(&right) < right.values.len(), "right of a product");
    let is_worth_dividing = m * n * k >= WORTH_DIVIDING && rayon::current_num_threads() > 1;
    let parallelism = if is_worth_dividing {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    let stride = |stride: usize| isize::try_from(stride).expect("slices are shorter");
    #[expect(unsafe_code, reason = "gemm takes pointers")]
    // SAFETY: the assertions above keep the last value of each matrix in its slice, strides
    // are not negative, and rows of `out` do not overlap.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride(out_stride),
            before == Before::Add,
            left.values.as_ptr(),
            stride(left.column_stride),
            stride(left.row_stride),
            right.values.as_ptr(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_may_have_gaps_and_matrices_may_be_transposed() {
        let left = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0];
        let right = [5.0, 7.0, 6.0, 8.0];
        let left = Matrix::strided(&left, 2, 2, 3);
        // [[5, 6], [7, 8]]
        let right = Matrix::new(&right, 2, 2).transposed();
        let mut out = [1.0; 6];
        product(&mut out, 3, Before::Overwrite, left, right);
        assert_eq!(out, [19.0, 22.0, 1.0, 43.0, 50.0, 1.0]);
        product(&mut out, 3, Before::Add, left, right);
        assert_eq!(out, [38.0, 44.0, 1.0, 86.0, 100.0, 1.0]);
    }

    #[test]
    #[should_panic(expected = "right of a product")]
    fn a_matrix_larger_than_its_slice_is_rejected() {
        let values = [0.0; 6];
        let left = Matrix::new(&values, 2, 3);
        let right = Matrix::new(&values[..5], 3, 2);
        product(&mut [0.0; 4], 2, Before::Overwrite, left, right);
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let mut out = [1.0; 2];
        let (left, right) = (Matrix::new(&[], 1, 0), Matrix::new(&[], 0, 2));
        product(&mut out, 2, Before::Add, left, right);
        assert_eq!(out, [1.0; 2]);
        product(&mut out, 2, Before::Overwrite, left, right);
        assert_eq!(out, [0.0; 2]);
    }
}
