//! What `torch.save` and TorchScript write: `.bin`, `.pt`, `.pth`.

use std::path::Path;

use burn::tensor::DType;
use pytorch_reader::{PytorchReader, Tensor};
use tempfile::NamedTempFile;

use super::error::{TensorError, TorchError, WeightsError};
use super::torch_script;
use crate::tensors::{HostTensor, NamedTensors};

/// Where a training checkpoint keeps its model.
const STATE_DICT: &str = "state_dict.";
/// Constants that OpenAI's state dicts hold in addition to the weights.
const OPENAI_CONSTANTS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// Reads all floating-point tensors, widened to f32; of a training checkpoint those of its
/// `state_dict`.
/// - returns them, and whether the file is OpenAI's.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds floats of another dtype.
pub(super) fn read(path: &Path) -> Result<(NamedTensors, bool), WeightsError> {
    read_tensors(path).map_err(|source| WeightsError::Torch {
        path: path.to_path_buf(),
        source,
    })
}

fn read_tensors(path: &Path) -> Result<(NamedTensors, bool), TorchError> {
    let archive = torch_script::as_state_dict(path).map_err(TorchError::Archive)?;
    let is_torch_script = archive.is_some();
    let readable = archive.as_ref().map_or(path, NamedTempFile::path);
    let reader = PytorchReader::new(readable).map_err(TorchError::Content)?;
    let all = reader.into_tensors();
    let is_checkpoint = all.keys().any(|name| name.starts_with(STATE_DICT));
    let mut is_openai = is_torch_script;
    let mut tensors = NamedTensors::new();
    for (name, tensor) in &all {
        let name = match (name.strip_prefix(STATE_DICT), is_checkpoint) {
            (Some(name), _) => name,
            (None, false) => name.as_str(),
            // The optimiser's moments and the like.
            (None, true) => continue,
        };
        if OPENAI_CONSTANTS.contains(&name) {
            is_openai = true;
            continue;
        }
        let Some(dtype) = float_type(tensor) else {
            continue;
        };
        let tensor = (tensor.read().map_err(TensorError::Content))
            .and_then(|bytes| {
                HostTensor::from_bytes(bytes, tensor.shape(), dtype).ok_or(TensorError::CutOff)
            })
            .map_err(|source| TorchError::Tensor {
                name: name.to_string(),
                source,
            })?;
        tensors.insert(name.to_string(), tensor);
    }
    if tensors.is_empty() {
        return Err(TorchError::Empty);
    }
    Ok((tensors, is_openai))
}

/// `None` for counters and indices; a weight that should be a float is missed by name.
fn float_type(tensor: &Tensor) -> Option<DType> {
    use pytorch_reader::DType as Stored;
    match tensor.dtype() {
        Stored::F32 => Some(DType::F32),
        Stored::F16 => Some(DType::F16),
        Stored::BF16 => Some(DType::BF16),
        Stored::F64 => Some(DType::F64),
        Stored::Bool
        | Stored::U8
        | Stored::I8
        | Stored::I16
        | Stored::U16
        | Stored::I32
        | Stored::U32
        | Stored::I64
        | Stored::U64 => None,
    }
}
