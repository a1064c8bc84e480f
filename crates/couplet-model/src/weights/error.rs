//! Why weights could not be read or written.

use std::path::PathBuf;

pub use crate::foreign::ReaderPanic;
use crate::manifest::ManifestError;

/// An error of the safetensors crate. Its text quotes its own cause, so there is no `source()`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SafetensorsError(pub safetensors::SafeTensorError);

/// An error in a safetensors file.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("{0}")]
    Content(SafetensorsError),
    #[error("invalid JSON in header: {0}")]
    Json(serde_json::Error),
    #[error("invalid header: {0}")]
    Invalid(serde_json::Error),
    #[error("its header has {declared} bytes, and the file {file}")]
    Length { declared: u64, file: u64 },
    #[error("its header has {0} bytes; 100 MB are the most that the format allows")]
    TooLong(u64),
    #[error("its tensors end at byte {expected}, and the file at byte {file}")]
    CutOff { expected: u64, file: u64 },
}

/// An error in a PyTorch file. The texts of `zip` and `pytorch-reader` quote their own
/// causes, so the chain ends with them.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    #[error("{0}")]
    Archive(std::io::Error),
    #[error("{0}")]
    Content(pytorch_reader::PytorchError),
    #[error(transparent)]
    Panic(ReaderPanic),
    #[error(
        "its compressed storages unpack to {unpacked} bytes, of which its tensors use {used}; such \
         a file is refused before it fills the memory"
    )]
    Unpacks { unpacked: u64, used: u64 },
    #[error("it holds no weights")]
    Empty,
}

/// An error in one tensor of a file.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    #[error("{0}")]
    Content(std::io::Error),
    #[error(transparent)]
    Panic(ReaderPanic),
    #[error("it is cut off")]
    CutOff,
}

/// An error of reading or writing weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("{}: cannot be read", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: cannot be written", path.display())]
    Write {
        path: PathBuf,
        source: SafetensorsError,
    },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{}: not a readable safetensors file", path.display())]
    Safetensors { path: PathBuf, source: HeaderError },
    #[error("{}: not a readable PyTorch file", path.display())]
    Torch { path: PathBuf, source: TorchError },
    #[error("{}: tensor {name} cannot be read", path.display())]
    Tensor {
        path: PathBuf,
        name: String,
        source: TensorError,
    },
    #[error("{}: tensor {name} has dtype {dtype}; f32, f16, bf16 and f64 are read", path.display())]
    Dtype {
        path: PathBuf,
        name: String,
        dtype: String,
    },
    #[error(
        "{}: more than one model: {}; save the one that you want in a file of its own",
        path.display(),
        candidates.join(", ")
    )]
    Ambiguous {
        path: PathBuf,
        candidates: Vec<String>,
    },
    #[error("{}: tensor {name} is there twice, as {first} and as {second}", path.display())]
    Twice {
        path: PathBuf,
        name: String,
        first: String,
        second: String,
    },
    #[error(
        "{}: its tensors take {used} bytes, and the file has {file}; such a file is refused before it \
         fills the memory",
        path.display()
    )]
    Larger { path: PathBuf, used: u64, file: u64 },
    #[error(
        "{}: {count} values of the weights are NaN or infinite, the first in tensor {name}; use an \
         earlier checkpoint or the weights' source",
        path.display()
    )]
    NotFinite {
        path: PathBuf,
        name: String,
        count: u64,
    },
    #[error("{}: the tensors do not match the model:\n  {}", path.display(), list.join("\n  "))]
    Mismatch { path: PathBuf, list: Vec<String> },
}
