//! Tensors of the CPU backend as slices.

use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};

/// Values that one task of an elementwise operation computes.
pub(crate) const CHUNK: usize = 1 << 14;

/// A contiguous tensor.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    tensor: FlexTensor,
    start: usize,
    len: usize,
}

impl Dense {
    /// Copies the values only if they are not contiguous.
    pub fn new(tensor: FlexTensor) -> Self {
        let tensor = match tensor.layout().contiguous_offsets() {
            Some(_) => tensor,
            None => tensor.to_contiguous(),
        };
        let (start, end) = (tensor.layout().contiguous_offsets()).expect("a copy is contiguous");
        Self {
            start,
            len: end - start,
            tensor,
        }
    }

    pub fn values(&self) -> &[f32] {
        &self.tensor.storage()[self.start..self.start + self.len]
    }

    pub fn shape(&self) -> &[usize] {
        self.tensor.layout().shape()
    }

    /// The last dimension.
    pub fn width(&self) -> usize {
        self.shape().last().copied().unwrap_or(1)
    }

    /// Copies the values only if the tensor has other owners.
    pub fn into_values(self) -> Vec<f32> {
        let data = self.tensor.into_data();
        data.try_into_vec().expect("kernels take f32")
    }
}

/// - values: contiguous, as many as `shape` holds.
pub(crate) fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    let shape = Shape::from(shape.to_vec());
    assert_eq!(values.len(), shape.num_elements(), "values of {shape:?}");
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape),
        DType::F32,
    )
}
