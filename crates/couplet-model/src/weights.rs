//! Parameters in and out of safetensors files, under open_clip's names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{DType, Tensor, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::Clip;
use crate::names::{ParameterMapper, ParameterVisitor, map_parameters, visit_parameters};

/// Tensors by name: the host's copy of a safetensors file.
pub type NamedTensors = BTreeMap<String, HostTensor>;

/// An f32 tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// open_clip keeps this one as a scalar; here it is `[1]`.
const SCALAR: &str = "logit_scale";
/// What open_clip puts before the text tower's names in some of its classes.
const TEXT_PREFIX: &str = "text.";

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: not a readable safetensors file: {source}", path.display())]
    Format {
        path: PathBuf,
        source: safetensors::SafeTensorError,
    },
    #[error("{}: tensor {name} has dtype {dtype}; f32, f16 and bf16 are read", path.display())]
    Dtype {
        path: PathBuf,
        name: String,
        dtype: Dtype,
    },
    #[error("{}: its tensors are not those of the model:\n  {}", path.display(), list.join("\n  "))]
    Mismatch { path: PathBuf, list: Vec<String> },
}

/// The model's parameters, copied to the host.
pub fn parameters(model: &Clip) -> NamedTensors {
    struct Collect(NamedTensors);
    impl ParameterVisitor for Collect {
        fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
            self.0
                .insert(name.into(), HostTensor::from_tensor(param.val()));
        }
    }
    let mut collect = Collect(NamedTensors::new());
    visit_parameters(model, &mut collect);
    if let Some(scalar) = collect.0.get_mut(SCALAR) {
        scalar.shape.clear();
    }
    collect.0
}

impl HostTensor {
    /// Copies a device tensor to the host.
    ///
    /// # Panics
    /// If the device fails or the tensor is not f32.
    pub fn from_tensor<const D: usize>(tensor: Tensor<D>) -> Self {
        Self {
            shape: tensor.dims().to_vec(),
            values: tensor.into_data().try_to_vec().expect("parameters are f32"),
        }
    }

    /// The tensor as burn takes it.
    pub fn into_data(self) -> TensorData {
        TensorData::new(self.values, self.shape)
    }
}

/// Writes tensors to a safetensors file and syncs it to disk.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: &Path, tensors: &NamedTensors) -> Result<(), WeightsError> {
    let format = |source| WeightsError::Format {
        path: path.to_path_buf(),
        source,
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
        .map_err(format)?;
    safetensors::serialize_to_file(views, None, path).map_err(format)?;
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| WeightsError::Io {
            path: path.to_path_buf(),
            source,
        })
}

/// Reads all tensors of a safetensors file; f16 and bf16 are widened to f32.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds another dtype.
pub fn read(path: &Path) -> Result<NamedTensors, WeightsError> {
    let bytes = fs::read(path).map_err(|source| WeightsError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let file = SafeTensors::deserialize(&bytes).map_err(|source| WeightsError::Format {
        path: path.to_path_buf(),
        source,
    })?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let dtype = match view.dtype() {
                Dtype::F32 => DType::F32,
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                dtype => {
                    return Err(WeightsError::Dtype {
                        path: path.to_path_buf(),
                        name,
                        dtype,
                    });
                }
            };
            let shape = view.shape().to_vec();
            let data = TensorData::from_bytes_vec(view.data().to_vec(), shape.clone(), dtype);
            let values = data
                .convert::<f32>()
                .try_to_vec()
                .expect("converted to f32 just above");
            Ok((name, HostTensor { shape, values }))
        })
        .collect()
}

/// Replaces every parameter of `model` with the file's tensor of that name.
///
/// # Errors
/// As [`read`]; and if any tensor is missing, surplus or misshapen, all of them listed.
pub fn load(path: &Path, model: Clip) -> Result<Clip, WeightsError> {
    let tensors = read(path)?
        .into_iter()
        .map(|(name, tensor)| match name.strip_prefix(TEXT_PREFIX) {
            Some(stripped) => (stripped.to_string(), tensor),
            None => (name, tensor),
        })
        .collect();
    let mut replace = Replace {
        tensors,
        mismatches: Vec::new(),
    };
    let model = map_parameters(model, &mut replace);
    let mut list = replace.mismatches;
    list.extend(
        replace
            .tensors
            .keys()
            .map(|name| format!("{name}: the model has no such tensor")),
    );
    if list.is_empty() {
        Ok(model)
    } else {
        Err(WeightsError::Mismatch {
            path: path.to_path_buf(),
            list,
        })
    }
}

struct Replace {
    tensors: NamedTensors,
    mismatches: Vec<String>,
}

impl ParameterMapper for Replace {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(mut tensor) = self.tensors.remove(name) else {
            self.mismatches
                .push(format!("{name}: missing from the file"));
            return param;
        };
        if name == SCALAR && tensor.shape.is_empty() {
            tensor.shape = vec![1];
        }
        let expected = param.dims();
        if tensor.shape != expected {
            self.mismatches.push(format!(
                "{name}: {:?} in the file, {expected:?} in the model",
                tensor.shape
            ));
            return param;
        }
        param.map(|old| {
            Tensor::from_data(tensor.into_data(), &old.device())
                .set_require_grad(old.is_require_grad())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;
    use burn::tensor::Device;

    #[test]
    fn every_mismatch_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let spec = presets::find("ViT-Ti-16-64").unwrap();
        let model = Clip::init(&spec, 0, &Device::flex());
        let mut tensors = parameters(&model);
        tensors.remove("ln_final.bias");
        tensors.get_mut("visual.proj").unwrap().shape.reverse();
        let stray = tensors["logit_scale"].clone();
        tensors.insert("stray".into(), stray);
        save(&path, &tensors).unwrap();
        let error = load(&path, model).unwrap_err().to_string();
        for part in [
            "ln_final.bias: missing",
            "visual.proj: [64, 96]",
            "stray: the model",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }

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
