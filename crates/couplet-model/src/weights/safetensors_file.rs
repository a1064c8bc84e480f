//! safetensors files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::DType;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorView};

use super::error::{HeaderError, SafetensorsError, WeightsError};
use super::stored::{StoredBytes, StoredTensor, StoredTensors};
use crate::tensors::NamedTensors;

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

/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header's length, which a file begins with.
const LENGTH_BYTES: u64 = size_of::<u64>() as u64;

/// Describes all floating-point tensors; reads the header only.
///
/// # Errors
/// If the file cannot be read, its header does not describe it, or it holds floats of another
/// dtype.
pub(super) fn open(path: &Path) -> Result<StoredTensors, WeightsError> {
    let (file, header, data_start) = read_header(path)?;
    let file = Arc::new(file);
    let mut tensors = StoredTensors::new();
    for (name, info) in header.tensors() {
        let dtype = match info.dtype {
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
                    name,
                    dtype: format!("{dtype:?}"),
                });
            }
        };
        let tensor = StoredTensor {
            shape: info.shape.clone(),
            dtype,
            bytes: StoredBytes::At {
                file: file.clone(),
                start: data_start + info.data_offsets.0 as u64,
            },
        };
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// - returns the file, its header, and the position of the first tensor's bytes. The tensors fill
///   the rest of the file without gaps or overlaps.
fn read_header(path: &Path) -> Result<(File, Metadata, u64), WeightsError> {
    let cannot_read = |source| WeightsError::Read {
        path: path.to_path_buf(),
        source,
    };
    let damaged = |source| WeightsError::Safetensors {
        path: path.to_path_buf(),
        source,
    };
    let mut file = File::open(path).map_err(cannot_read)?;
    let file_len = file.metadata().map_err(cannot_read)?.len();
    let mut length = [0; size_of::<u64>()];
    if file_len < LENGTH_BYTES {
        let error = SafetensorsError(SafeTensorError::HeaderTooSmall);
        return Err(damaged(HeaderError::Content(error)));
    }
    file.read_exact(&mut length).map_err(cannot_read)?;
    let declared = u64::from_le_bytes(length);
    if declared > file_len - LENGTH_BYTES {
        return Err(damaged(HeaderError::Length {
            declared,
            file: file_len,
        }));
    }
    if declared > MAX_HEADER {
        return Err(damaged(HeaderError::TooLong(declared)));
    }
    let mut bytes = Vec::new();
    (&mut file)
        .take(declared)
        .read_to_end(&mut bytes)
        .map_err(cannot_read)?;
    // Checks every tensor's offsets against its shape, and that they follow one another.
    let header: Metadata = serde_json::from_slice(&bytes).map_err(|error| {
        damaged(if error.is_data() {
            HeaderError::Invalid(error)
        } else {
            HeaderError::Json(error)
        })
    })?;
    let data_start = LENGTH_BYTES + declared;
    let expected = data_start.saturating_add(header.data_len() as u64);
    if expected != file_len {
        return Err(damaged(HeaderError::CutOff {
            expected,
            file: file_len,
        }));
    }
    Ok((file, header, data_start))
}

/// The texts by name that [`save_with`] wrote.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let (_, header, _) = read_header(path)?;
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
        let tensor = open(&path).unwrap().remove("x").unwrap();
        assert_eq!(tensor.read().unwrap().values, [1.5, -2.0]);
    }

    #[test]
    fn a_truncated_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.safetensors");
        fs::write(&path, [1, 2, 3]).unwrap();
        assert!(
            open(&path)
                .unwrap_err()
                .to_string()
                .contains("cut.safetensors")
        );
    }
}
