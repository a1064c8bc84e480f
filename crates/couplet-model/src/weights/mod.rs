//! Parameters in and out of files, under open_clip's names.

mod safetensors_file;
mod torch_file;
mod torch_script;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{DType, Tensor, TensorData};

use crate::names::{ParameterMapper, ParameterVisitor, map_parameters, visit_parameters};
use crate::positions::{resize_context, resize_grid};
use crate::{Clip, ImageTowerSpec, ModelSpec};

pub use safetensors_file::{metadata, save, save_with};

/// Tensors by name: the host's copy of a file of weights.
pub type NamedTensors = BTreeMap<String, HostTensor>;

/// An f32 tensor on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// open_clip keeps these as scalars; here they are `[1]`.
const SCALARS: [&str; 2] = ["logit_scale", "logit_bias"];
/// What wrappers put before every name: DistributedDataParallel's and torch.compile's.
const WRAPPER_PREFIXES: [&str; 2] = ["module.", "_orig_mod."];
/// What open_clip puts before the text tower's names in some of its classes.
const TEXT_PREFIX: &str = "text.";
/// Tensors that are no weights, by the end of their names: counters and constants that
/// older releases saved with the model.
const NOT_WEIGHTS: [&str; 3] = ["num_batches_tracked", "attn_mask", "position_ids"];
/// The positions that change with the image size, by kind of tower.
const GRID_POSITIONS: [&str; 2] = [
    "visual.positional_embedding",
    "visual.attnpool.positional_embedding",
];
const TEXT_POSITIONS: &str = "positional_embedding";

/// What the safetensors crate says. Its text quotes its own cause, so there is no `source()`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SafetensorsError(pub safetensors::SafeTensorError);

/// What is wrong with a PyTorch file. The texts of `zip` and `pytorch-reader` quote their own
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

/// What is wrong with one tensor of a PyTorch file.
#[derive(Debug, thiserror::Error)]
pub enum TensorError {
    #[error("{0}")]
    Content(std::io::Error),
    #[error("it is cut off")]
    CutOff,
}

/// Why weights could not be read or written.
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
    #[error("{}: its tensors are not those of the model:\n  {}", path.display(), list.join("\n  "))]
    Mismatch { path: PathBuf, list: Vec<String> },
}

/// What a file of weights holds.
#[derive(Debug)]
pub struct WeightsFile {
    /// Every floating-point tensor, under open_clip's names as far as they follow from
    /// dropping the prefixes of wrappers.
    pub tensors: NamedTensors,
    /// Whether it is OpenAI's: a TorchScript archive, or a state dict with the constants
    /// that only theirs carry.
    pub is_openai: bool,
}

/// The kind of a file, by its first bytes.
enum Kind {
    Safetensors,
    Torch,
}

fn kind_of(path: &Path) -> std::io::Result<Kind> {
    let mut start = [0; 9];
    let read = File::open(path)?.take(9).read(&mut start)?;
    let is_zip = start.starts_with(b"PK\x03\x04");
    // A pickle opens with its protocol, a safetensors file with a length and a brace.
    let is_pickle = start[0] == 0x80 && read > 1 && start[1] <= 5 && start[8] != b'{';
    Ok(if is_zip || is_pickle {
        Kind::Torch
    } else {
        Kind::Safetensors
    })
}

/// Reads all weights of a safetensors file, or of what `torch.save` or TorchScript wrote;
/// f16 and bf16 are widened to f32. A training checkpoint gives its `state_dict`.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds weights of another dtype.
pub fn read(path: &Path) -> Result<WeightsFile, WeightsError> {
    let kind = kind_of(path).map_err(|source| WeightsError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let (tensors, is_openai) = match kind {
        Kind::Safetensors => (safetensors_file::read(path)?, false),
        Kind::Torch => torch_file::read(path)?,
    };
    Ok(WeightsFile {
        tensors: without_prefixes(tensors),
        is_openai,
    })
}

fn without_prefixes(mut tensors: NamedTensors) -> NamedTensors {
    for prefix in WRAPPER_PREFIXES {
        if tensors.keys().all(|name| name.starts_with(prefix)) {
            let strip = |(name, tensor): (String, _)| (name[prefix.len()..].to_string(), tensor);
            tensors = tensors.into_iter().map(strip).collect();
        }
    }
    tensors
        .into_iter()
        .filter(|(name, _)| !NOT_WEIGHTS.iter().any(|end| name.ends_with(end)))
        .map(|(name, tensor)| match name.strip_prefix(TEXT_PREFIX) {
            Some(stripped) => (stripped.to_string(), tensor),
            None => (name, tensor),
        })
        .collect()
}

/// A tensor's bytes as f32.
/// - returns `None` where `bytes` are not those of the shape.
fn widened(bytes: Vec<u8>, shape: &[usize], dtype: DType) -> Option<HostTensor> {
    if bytes.len() != shape.iter().product::<usize>() * dtype.size() {
        return None;
    }
    let data = TensorData::from_bytes_vec(bytes, shape.to_vec(), dtype);
    let values = data.convert::<f32>().try_to_vec().ok()?;
    Some(HostTensor {
        shape: shape.to_vec(),
        values,
    })
}

/// The model's parameters and buffers, copied to the host.
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
    for name in SCALARS {
        if let Some(scalar) = collect.0.get_mut(name) {
            scalar.shape.clear();
        }
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

/// Resizes position embeddings to another image size or context length, as open_clip
/// does when weights meet a model of another size. Other tensors stay as they are.
/// - returns what was resized, in words.
pub fn fit_positions(tensors: &mut NamedTensors, spec: &ModelSpec) -> Vec<String> {
    let mut done = Vec::new();
    let mut resize = |name: &str, rows: usize, to: usize, by: Resize| {
        let Some(tensor) = tensors.get_mut(name) else {
            return;
        };
        if tensor.shape.first() == Some(&rows) {
            return;
        }
        if let Some(resized) = by(tensor, to) {
            done.push(format!(
                "{name} from {:?} to {:?}",
                tensor.shape, resized.shape
            ));
            *tensor = resized;
        }
    };
    let grid = spec.image.grid();
    let name = match &spec.image {
        ImageTowerSpec::Vit(_) => GRID_POSITIONS[0],
        ImageTowerSpec::ResNet(_) => GRID_POSITIONS[1],
    };
    resize(name, 1 + grid * grid, grid, resize_grid);
    let context = spec.text.context_length;
    resize(TEXT_POSITIONS, context, context, resize_context);
    done
}

type Resize = fn(&HostTensor, usize) -> Option<HostTensor>;

/// Replaces every parameter of `model` with the tensor of that name.
/// - path: where the tensors come from, for errors.
///
/// # Errors
/// If any tensor is missing, surplus or misshapen, all of them listed.
pub fn fill(model: Clip, tensors: NamedTensors, path: &Path) -> Result<Clip, WeightsError> {
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
        if SCALARS.contains(&name) && tensor.shape.is_empty() {
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
        let error = fill(model, read(&path).unwrap().tensors, &path)
            .unwrap_err()
            .to_string();
        for part in [
            "ln_final.bias: missing",
            "visual.proj: [64, 96]",
            "stray: the model",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}
