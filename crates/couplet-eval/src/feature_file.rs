//! Features in safetensors files, as written by `couplet embed` or by other tools.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use couplet_model::weights::{HostTensor, SafetensorsError};
use safetensors::{Dtype, SafeTensors};

use crate::features::IMAGE_FEATURES;

const TEXT_FEATURES: &str = "text_features";
const LABELS: &str = "labels";
const IMAGE_OF_TEXT: &str = "image_of_text";

/// The contents of a feature file.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureFile {
    /// `[images, embed_dim]`
    pub image_features: Option<HostTensor>,
    /// `[texts, embed_dim]`
    pub text_features: Option<HostTensor>,
    /// The class of each image.
    pub labels: Option<Vec<usize>>,
    /// The index of the image of each text.
    pub image_of_text: Option<Vec<usize>>,
}

/// Why a feature file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FeatureFileError {
    #[error("{}: cannot be read; check the path", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: not a readable safetensors file, as `couplet embed` writes them", path.display())]
    Format {
        path: PathBuf,
        source: SafetensorsError,
    },
    #[error("{}: {message}", path.display())]
    Tensor { path: PathBuf, message: String },
}

impl FeatureFile {
    /// Reads `image_features` and `text_features` (f32), `labels` and `image_of_text` (integers) from a
    /// safetensors file; each may be missing.
    ///
    /// # Errors
    /// If the file cannot be read, or a tensor has another type or shape.
    pub fn read(path: &Path) -> Result<Self, FeatureFileError> {
        let bytes = read_regular(path).map_err(|source| FeatureFileError::Io {
            path: path.to_path_buf(),
            source,
        })?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| FeatureFileError::Format {
            path: path.to_path_buf(),
            source: SafetensorsError(error),
        })?;
        let fail = |message: String| FeatureFileError::Tensor {
            path: path.to_path_buf(),
            message,
        };
        Ok(Self {
            image_features: matrix(&file, IMAGE_FEATURES).map_err(fail)?,
            text_features: matrix(&file, TEXT_FEATURES).map_err(fail)?,
            labels: numbers(&file, LABELS).map_err(fail)?,
            image_of_text: numbers(&file, IMAGE_OF_TEXT).map_err(fail)?,
        })
    }
}

/// The bytes of a regular file: a pipe or a device may have no end.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        fs::read(path)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

fn matrix(file: &SafeTensors, name: &str) -> Result<Option<HostTensor>, String> {
    let Ok(tensor) = file.tensor(name) else {
        return Ok(None);
    };
    if tensor.dtype() != Dtype::F32 || !matches!(tensor.shape(), [_, 1..=usize::MAX]) {
        let (dtype, shape) = (tensor.dtype(), tensor.shape());
        return Err(format!(
            "{name} is {dtype:?} {shape:?}; expected F32 [rows, embed_dim]"
        ));
    }
    let values = tensor.data().chunks_exact(4);
    let values = values.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let values: Vec<f32> = values.collect();
    if let Some(at) = values.iter().position(|value| !value.is_finite()) {
        let row = at / tensor.shape()[1];
        return Err(format!(
            "{name} has a NaN or infinite value in row {row}; check the weights and the precision of the \
             model that computed it"
        ));
    }
    Ok(Some(HostTensor {
        shape: tensor.shape().to_vec(),
        values,
    }))
}

fn numbers(file: &SafeTensors, name: &str) -> Result<Option<Vec<usize>>, String> {
    let Ok(tensor) = file.tensor(name) else {
        return Ok(None);
    };
    let size = match tensor.dtype() {
        Dtype::I64 | Dtype::U64 => 8,
        Dtype::I32 | Dtype::U32 => 4,
        Dtype::U8 => 1,
        other => return Err(format!("{name} is {other:?}; expected integers")),
    };
    let number = |bytes: &[u8]| {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(wide))
            .ok()
            .filter(|number| *number < 1 << 31)
    };
    let numbers = tensor
        .data()
        .chunks_exact(size)
        .map(number)
        .collect::<Option<Vec<_>>>();
    numbers
        .map(Some)
        .ok_or_else(|| format!("{name} has a number below 0 or above 2^31 - 1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    #[test]
    fn numbers_and_features_are_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.safetensors");
        let floats: Vec<u8> = [1.0_f32, 2.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let labels: Vec<u8> = [3_i64].iter().flat_map(|v| v.to_le_bytes()).collect();
        let write = |labels: &[u8]| {
            let tensors = [
                (
                    IMAGE_FEATURES,
                    TensorView::new(Dtype::F32, vec![1, 2], &floats).unwrap(),
                ),
                (
                    LABELS,
                    TensorView::new(Dtype::I64, vec![1], labels).unwrap(),
                ),
            ];
            fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        };
        write(&labels);
        let file = FeatureFile::read(&path).unwrap();
        assert_eq!(file.image_features.unwrap().values, [1.0, 2.0]);
        assert_eq!((file.labels, file.text_features), (Some(vec![3]), None));
        write(&(-1_i64).to_le_bytes());
        assert!(
            FeatureFile::read(&path)
                .unwrap_err()
                .to_string()
                .contains("below 0")
        );
    }
    #[test]
    fn hostile_headers_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.safetensors");
        let of_header = |header: &str, data: &[u8]| {
            let length = (header.len() as u64).to_le_bytes();
            [&length[..], header.as_bytes(), data].concat()
        };
        let of = |dtype: &str, shape: &str, end: u64, data: &[u8]| {
            let tensor = format!(
                "{{\"image_features\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}"
            );
            of_header(&tensor, data)
        };
        let sound = of("F32", "[1,2]", 8, &[0; 8]);
        fs::write(&path, &sound).unwrap();
        assert!(FeatureFile::read(&path).is_ok());
        let hostile = [
            Vec::new(),
            vec![0xff; 64],
            sound[..sound.len() - 1].to_vec(),
            of("F32", "[4611686018427387904,4]", 8, &[0; 8]),
            of("F32", "[1000000000,1000]", 4_000_000_000_000, &[0; 8]),
            of("F32", "[1,2]", u64::MAX, &[0; 8]),
            of("F64", "[1,1]", 8, &[0; 8]),
            of("F32", "[2]", 8, &[0; 8]),
            of("F32", "[5,0]", 0, &[]),
            of("F32", "[-1,2]", 8, &[0; 8]),
            of_header("{}}", &[]),
        ];
        for bytes in hostile {
            fs::write(&path, &bytes).unwrap();
            let error = FeatureFile::read(&path).unwrap_err().to_string();
            assert!(error.contains("f.safetensors: "), "{error}");
        }
        assert!(FeatureFile::read(folder.path()).is_err());
        #[cfg(unix)]
        assert!(FeatureFile::read(Path::new("/dev/zero")).is_err());
    }
}
