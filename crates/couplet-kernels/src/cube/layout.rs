//! Matrices in memory.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

/// Matrices of one size at equal distances.
#[derive(Debug, Clone)]
pub(super) struct Matrices {
    pub tensor: CubeTensor,
    pub rows: usize,
    pub columns: usize,
    /// Column after column instead of row after row.
    pub is_turned: bool,
    /// From a row to the next, or from a column to the next.
    pub distance: usize,
    pub count: usize,
    /// From a matrix to the next.
    pub stride: usize,
}

impl Matrices {
    /// The tensor's last two dimensions, copied if they are in another order.
    pub fn new(tensor: CubeTensor) -> Self {
        if let Some(found) = Self::as_is(&tensor) {
            return found;
        }
        let dense = into_contiguous(tensor);
        Self::as_is(&dense).expect("what is contiguous are rows at equal distances")
    }

    fn as_is(tensor: &CubeTensor) -> Option<Self> {
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        let outer = shape.len().checked_sub(2)?;
        let [rows, columns] = [shape[outer], shape[outer + 1]];
        let [of_row, of_column] = [strides[outer], strides[outer + 1]];
        let (is_turned, distance) =
            if (of_column == 1 || columns == 1) && (rows == 1 || of_row >= columns) {
                (false, of_row.max(columns))
            } else if (of_row == 1 || rows == 1) && (columns == 1 || of_column >= rows) {
                (true, of_column.max(rows))
            } else {
                return None;
            };
        let (mut count, mut stride) = (1, 0);
        for at in (0..outer).rev().filter(|at| shape[*at] > 1) {
            if count == 1 {
                stride = strides[at];
            } else if strides[at] != stride * count {
                return None;
            }
            count *= shape[at];
        }
        Some(Self {
            tensor: tensor.clone(),
            rows,
            columns,
            is_turned,
            distance,
            count,
            stride,
        })
    }
}
