//! What `torch.save` and TorchScript write: `.bin`, `.pt`, `.pth`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use burn::tensor::DType;
use pytorch_reader::{PickleValue, PytorchReader, Tensor};
use tempfile::NamedTempFile;
use zip::{CompressionMethod, ZipArchive};

use super::error::{TorchError, WeightsError};
use super::script_code::ScriptCode;
use super::stored::{StoredBytes, StoredTensor, StoredTensors};
use super::torch_script;
use crate::foreign;

/// Compressed storages may unpack to this many times what their tensors use, and this many bytes
/// more, as of a file whose tensors are views of larger ones.
const UNPACKED_PER_USED: u64 = 4;
const UNPACKED_MORE: u64 = 64 << 20;

/// A PyTorch file: everything but the values of its tensors.
pub(super) struct TorchContents {
    /// The floating-point tensors by their path through the file's dictionaries, joined by dots.
    pub tensors: StoredTensors,
    /// The names of all other tensors.
    pub others: Vec<String>,
    /// What its code says, if it is a TorchScript archive.
    pub code: Option<ScriptCode>,
}

/// Describes all tensors; reads the pickle only. Nothing in it is executed.
///
/// # Errors
/// If the file cannot be read, is damaged, or its storages unpack to far more than its tensors use.
pub(super) fn open(path: &Path) -> Result<TorchContents, WeightsError> {
    let opened = foreign::catch(|| open_contents(path));
    let opened = opened.map_err(TorchError::Panic).and_then(|opened| opened);
    opened.map_err(|source| WeightsError::Torch {
        path: path.to_path_buf(),
        source,
    })
}

fn open_contents(path: &Path) -> Result<TorchContents, TorchError> {
    let script = torch_script::open(path).map_err(TorchError::Archive)?;
    let (state_dict, code) = match script {
        Some(script) => (Some(script.state_dict), Some(script.code)),
        None => (None, None),
    };
    let readable = state_dict.as_ref().map_or(path, NamedTempFile::path);
    let reader = PytorchReader::new(readable).map_err(TorchError::Content)?;
    let mut contents = TorchContents {
        tensors: StoredTensors::new(),
        others: Vec::new(),
        code,
    };
    let mut used = 0u64;
    for (name, tensor) in reader.into_tensors() {
        used = used.saturating_add(tensor.byte_len() as u64);
        let Some(dtype) = float_type(&tensor) else {
            contents.others.push(name);
            continue;
        };
        let stored = StoredTensor {
            shape: tensor.shape().to_vec(),
            dtype,
            bytes: StoredBytes::Torch(Box::new(tensor)),
        };
        contents.tensors.insert(name, stored);
    }
    if contents.tensors.is_empty() {
        return Err(TorchError::Empty);
    }
    let unpacked = unpacked_bytes(path).map_err(TorchError::Archive)?;
    let allowed = (used.saturating_mul(UNPACKED_PER_USED)).saturating_add(UNPACKED_MORE);
    if unpacked > allowed {
        return Err(TorchError::Unpacks { unpacked, used });
    }
    Ok(contents)
}

/// The numbers of a file's dictionaries and lists that are no tensors, by their path, joined by dots.
///
/// # Errors
/// If the file cannot be read or is damaged.
pub(super) fn numbers(path: &Path) -> Result<BTreeMap<String, f64>, WeightsError> {
    let read = foreign::catch(|| PytorchReader::read_pickle_data(path, None));
    let value = (read.map_err(TorchError::Panic))
        .and_then(|read| read.map_err(TorchError::Content))
        .map_err(|source| WeightsError::Torch {
            path: path.to_path_buf(),
            source,
        })?;
    let mut numbers = BTreeMap::new();
    let mut left = vec![(String::new(), value)];
    while let Some((name, value)) = left.pop() {
        let inner = |key: &str| match name.as_str() {
            "" => key.to_string(),
            name => format!("{name}.{key}"),
        };
        match value {
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
            PickleValue::Int(number) => {
                numbers.insert(name, number as f64);
            }
            PickleValue::Float(number) => {
                numbers.insert(name, number);
            }
            PickleValue::Dict(entries) => {
                left.extend(entries.into_iter().map(|(key, value)| (inner(&key), value)));
            }
            PickleValue::List(list) => {
                let numbered = list.into_iter().enumerate();
                left.extend(numbered.map(|(index, value)| (inner(&index.to_string()), value)));
            }
            _ => {}
        }
    }
    Ok(numbers)
}

/// The size of all compressed storages when they are unpacked, as the archive declares it: no more
/// than that is ever unpacked. Zero for a file that is no archive.
fn unpacked_bytes(path: &Path) -> std::io::Result<u64> {
    let Ok(mut archive) = ZipArchive::new(File::open(path)?) else {
        return Ok(0);
    };
    let mut all = 0u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let is_storage = entry.name()?.contains("data/");
        if is_storage && entry.compression() != CompressionMethod::Stored {
            all = all.saturating_add(entry.size());
        }
    }
    Ok(all)
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
