//! Why a model was not written.

use std::path::PathBuf;

use couplet_model::FolderError;

/// Why a model could not be written as ONNX.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("{}: cannot be written", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("the model has no weights {name}")]
    Missing { name: String },
    #[error("weights {name}: {found:?}, expected {expected:?}")]
    Shape {
        name: String,
        found: Vec<usize>,
        expected: Vec<usize>,
    },
    #[error("the model's weights {} have no place in the ONNX graphs", names.join(", "))]
    Unused { names: Vec<String> },
    #[error(
        "weights {name}: {value:e} is beyond f16, whose largest value is 65504; write fp32 or int8"
    )]
    Overflow { name: String, value: f32 },
    #[error("cannot be written as ONNX: {reasons}")]
    NotWritable { reasons: String },
}
