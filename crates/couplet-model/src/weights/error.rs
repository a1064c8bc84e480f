//! Why weights could not be read or written.

use std::path::PathBuf;

use crate::manifest::ManifestError;

/// An error of the safetensors crate. Its text quotes its own cause, so there is no `source()`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SafetensorsError(pub safetensors::SafeTensorError);

/// An error in a PyTorch file. The texts of `zip` and `pytorch-reader` quote their own
/// causes, so the chain ends with them.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    #[error("{0}")]
    Archive(std::io::Error),
    #[error("{0}")]
    Content(pytorch_reader::PytorchError),
    #[error("tensor {name} cannot be read")]
    Tensor { name: String, source: TensorError },
    #[error("it holds no weights")]
    Empty,
}

/// An error in one tensor of a PyTorch file.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    #[error("{0}")]
    Content(std::io::Error),
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
    Safetensors {
        path: PathBuf,
        source: SafetensorsError,
    },
    #[error("{}: not a readable PyTorch file", path.display())]
    Torch { path: PathBuf, source: TorchError },
    #[error("{}: tensor {name} has dtype {dtype}; f32, f16, bf16 and f64 are read", path.display())]
    Dtype {
        path: PathBuf,
        name: String,
        dtype: String,
    },
    #[error("{}: the tensors do not match the model:\n  {}", path.display(), list.join("\n  "))]
    Mismatch { path: PathBuf, list: Vec<String> },
}
