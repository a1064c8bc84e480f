//! Tensors of a weights file whose values are still on disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use burn::tensor::DType;
use rayon::prelude::*;

use super::error::TensorError;
use crate::foreign;
use crate::tensors::HostTensor;

/// Values that a thread reads at once: enough for a disk, and few enough that a model's largest tensor is
/// shared among all threads.
pub(super) const PIECE: usize = 1 << 18;

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

    /// Reads the values, widened to f32, by all threads. Allocates what the shape needs.
    ///
    /// # Errors
    /// If the file has ended or is damaged.
    pub fn read(&self) -> Result<HostTensor, TensorError> {
        let bytes = match &self.bytes {
            StoredBytes::At { file, start } => return self.read_pieces(file, *start),
            StoredBytes::Torch(tensor) => foreign::catch(|| tensor.read())
                .map_err(TensorError::Panic)?
                .map_err(TensorError::Content)?,
        };
        HostTensor::from_bytes(bytes, &self.shape, self.dtype).ok_or(TensorError::CutOff)
    }

    fn read_pieces(&self, file: &File, start: u64) -> Result<HostTensor, TensorError> {
        let len = self.byte_len().ok_or(TensorError::CutOff)?;
        let size = self.dtype.size();
        let mut values = vec![0.0; len / size];
        let pieces = values.par_chunks_mut(PIECE).enumerate();
        pieces.try_for_each(|(at, piece)| {
            let start = start + (at * PIECE * size) as u64;
            if self.dtype == DType::F32 && cfg!(target_endian = "little") {
                let bytes = bytemuck::cast_slice_mut(piece);
                return read_exact_at(file, bytes, start).map_err(TensorError::Content);
            }
            let mut bytes = vec![0; piece.len() * size];
            read_exact_at(file, &mut bytes, start).map_err(TensorError::Content)?;
            let read = HostTensor::from_bytes(bytes, &[piece.len()], self.dtype);
            piece.copy_from_slice(&read.ok_or(TensorError::CutOff)?.values);
            Ok(())
        })?;
        Ok(HostTensor {
            shape: self.shape.clone(),
            values,
        })
    }
}

/// Reads from a position, whatever other threads read from the file.
#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], start: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

/// As on Unix: Windows moves the file's own position too, which nothing here reads from.
#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut start: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, start)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        start += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use burn::tensor::{bf16, f16};

    use super::*;

    /// A tensor of more values than one piece has, in several dtypes, behind other bytes.
    #[test]
    fn pieces_are_read_where_they_belong() {
        const VALUES: usize = 2 * PIECE + 5;
        let value = |at: usize| f32::from(u8::try_from(at * 31 % 251).unwrap()) - 7.0;
        let expected: Vec<f32> = (0..VALUES).map(value).collect();
        let bytes_of = |dtype| -> Vec<u8> {
            let bytes = |value: &f32| match dtype {
                DType::F32 => value.to_le_bytes().to_vec(),
                DType::F64 => f64::from(*value).to_le_bytes().to_vec(),
                DType::BF16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
                _ => f16::from_f32(*value).to_le_bytes().to_vec(),
            };
            expected.iter().flat_map(bytes).collect()
        };
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"head").unwrap();
            file.write_all(&bytes_of(dtype)).unwrap();
            let stored = |len| StoredTensor {
                shape: vec![len],
                dtype,
                bytes: StoredBytes::At {
                    file: Arc::new(file.try_clone().unwrap()),
                    start: 4,
                },
            };
            let read = stored(VALUES).read().unwrap();
            assert!(
                read.values == expected && read.shape == [VALUES],
                "{dtype:?}"
            );
            let cut_off = stored(VALUES + 1).read().unwrap_err();
            assert!(matches!(cut_off, TensorError::Content(_)), "{cut_off}");
        }
    }
}
