//! Tensors of a weights file whose values are still on disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use burn::tensor::DType;

use super::error::TensorError;
use crate::foreign;
use crate::tensors::HostTensor;

/// The floating-point tensors of a file, by name.
pub(crate) type StoredTensors = BTreeMap<String, StoredTensor>;

/// A floating-point tensor in a file.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    pub shape: Vec<usize>,
    pub dtype: DType,
    pub bytes: StoredBytes,
}

/// Where the bytes of a tensor are.
#[derive(Debug, Clone)]
pub(crate) enum StoredBytes {
    /// In the file from `start`, row-major.
    At { file: Arc<File>, start: u64 },
    /// In a PyTorch file, perhaps strided or compressed.
    Torch(Box<pytorch_reader::Tensor>),
}

impl StoredTensor {
    /// The number of bytes in the file's dtype; `None` if it overflows.
    pub fn byte_len(&self) -> Option<usize> {
        let elements = (self.shape.iter()).try_fold(1usize, |all, size| all.checked_mul(*size))?;
        elements.checked_mul(self.dtype.size())
    }

    /// Reads the values, widened to f32. Allocates what the shape needs.
    ///
    /// # Errors
    /// If the file has ended or is damaged.
    pub fn read(&self) -> Result<HostTensor, TensorError> {
        let bytes = match &self.bytes {
            StoredBytes::At { file, start } => {
                let mut bytes = vec![0; self.byte_len().ok_or(TensorError::CutOff)?];
                let mut file = file.as_ref();
                (file.seek(SeekFrom::Start(*start)))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(TensorError::Content)?;
                bytes
            }
            StoredBytes::Torch(tensor) => foreign::catch(|| tensor.read())
                .map_err(TensorError::Panic)?
                .map_err(TensorError::Content)?,
        };
        HostTensor::from_bytes(bytes, &self.shape, self.dtype).ok_or(TensorError::CutOff)
    }
}
