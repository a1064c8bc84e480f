//! Tensors in the host's memory, as weights files hold them.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};

/// Tensors by name: a weights file in the host's memory.
pub type NamedTensors = BTreeMap<String, HostTensor>;

/// An f32 tensor in the host's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

impl HostTensor {
    /// Copies a device tensor to the host.
    ///
    /// # Panics
    /// If the device fails or the tensor is not f32.
    pub fn from_tensor<const D: usize>(tensor: Tensor<D>) -> Self {
        Self {
            shape: tensor.dims().to_vec(),
            values: tensor.into_data().try_to_vec().expect("parameters are f32"),
        }
    }

    /// Converts the bytes of a float tensor to f32.
    /// - returns `None` if `bytes` has the wrong length for the shape.
    pub(crate) fn from_bytes(bytes: Vec<u8>, shape: &[usize], dtype: DType) -> Option<Self> {
        if bytes.len() != shape.iter().product::<usize>() * dtype.size() {
            return None;
        }
        let data = TensorData::from_bytes_vec(bytes, shape.to_vec(), dtype);
        let values = data.convert::<f32>().try_to_vec().ok()?;
        Some(Self {
            shape: shape.to_vec(),
            values,
        })
    }

    /// The tensor as Burn takes it.
    pub fn into_data(self) -> TensorData {
        TensorData::new(self.values, self.shape)
    }
}
