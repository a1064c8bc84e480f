//! safetensors files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::DType;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::error::{SafetensorsError, WeightsError};
use crate::tensors::{HostTensor, NamedTensors};

/// Writes tensors to a safetensors file and syncs it to disk.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: &Path, tensors: &NamedTensors) -> Result<(), WeightsError> {
    save_with(path, tensors, BTreeMap::new())
}

/// As [`save`], with texts by name in the file's own metadata.
///
/// # Errors
/// If the file cannot be written.
pub fn save_with(
    path: &Path,
    tensors: &NamedTensors,
    metadata: BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let metadata = (!metadata.is_empty()).then(|| metadata.into_iter().collect());
    let cannot_write = |error| WeightsError::Write {
        path: path.to_path_buf(),
        source: SafetensorsError(error),
    };
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name, &tensor.shape, bytes)
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes)?;
            Ok(((*name).clone(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(cannot_write)?;
    safetensors::serialize_to_file(views, metadata, path).map_err(cannot_write)?;
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| cannot_write(error.into()))
}

/// Reads all floating-point tensors, widened to f32.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds floats of another dtype.
pub(super) fn read(path: &Path) -> Result<NamedTensors, WeightsError> {
    let bytes = fs::read(path).map_err(|source| WeightsError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| WeightsError::Safetensors {
        path: path.to_path_buf(),
        source: SafetensorsError(error),
    })?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.iter() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            // Counters and indices; a weight that should be here is missed by name.
            Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::I16
            | Dtype::U16
            | Dtype::I32
            | Dtype::U32
            | Dtype::I64
            | Dtype::U64 => continue,
            dtype => {
                return Err(WeightsError::Dtype {
                    path: path.to_path_buf(),
                    name: name.to_string(),
                    dtype: format!("{dtype:?}"),
                });
            }
        };
        let tensor: HostTensor = HostTensor::from_bytes(view.data().to_vec(), view.shape(), dtype)
            .expect("safetensors checks each tensor's length");
        tensors.insert(name.to_string(), tensor);
    }
    Ok(tensors)
}

/// The texts by name that [`save_with`] wrote.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let bytes = fs::read(path).map_err(|source| WeightsError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| WeightsError::Safetensors {
            path: path.to_path_buf(),
            source: SafetensorsError(error),
        })?;
    let texts = header.metadata().clone().unwrap_or_default();
    Ok(texts.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_widened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        // 1.5 and -2.0 in bf16, little endian.
        let bytes = [0xC0, 0x3F, 0x00, 0xC0];
        let view = TensorView::new(Dtype::BF16, vec![2], &bytes).unwrap();
        safetensors::serialize_to_file([("x", view)], None, &path).unwrap();
        assert_eq!(read(&path).unwrap()["x"].values, [1.5, -2.0]);
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.safetensors");
        fs::write(&path, [1, 2, 3]).unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("cut.safetensors")
        );
    }
}
