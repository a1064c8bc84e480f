//! Reading and writing parameters under open_clip's names.

mod error;
mod safetensors_file;
mod torch_file;
mod torch_script;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use burn::module::Param;
use burn::tensor::Tensor;

use crate::clip::Clip;
use crate::names::{ParameterMapper, ParameterVisitor, map_parameters, visit_parameters};
use crate::positions::{resize_context, resize_grid};
use crate::spec::ModelSpec;

pub use crate::tensors::{HostTensor, NamedTensors};
pub use error::{SafetensorsError, TensorError, TorchError, WeightsError};
pub use safetensors_file::{metadata, save, save_with};

/// open_clip keeps these as scalars; here they are `[1]`.
const SCALARS: [&str; 2] = ["logit_scale", "logit_bias"];
/// Prefixes of wrapped modules: DistributedDataParallel and torch.compile.
const WRAPPER_PREFIXES: [&str; 2] = ["module.", "_orig_mod."];
/// The prefix of the text tower's names in some of open_clip's classes.
const TEXT_PREFIX: &str = "text.";
/// Suffixes of tensors that are not weights: counters and constants that older releases saved
/// with the model.
const NOT_WEIGHTS: [&str; 3] = ["num_batches_tracked", "attn_mask", "position_ids"];
const TEXT_POSITIONS: &str = "positional_embedding";

/// The contents of a weights file.
#[derive(Debug)]
pub struct WeightsFile {
    /// Every floating-point tensor, without the prefixes of wrappers.
    pub tensors: NamedTensors,
    /// Whether it is OpenAI's: a TorchScript archive, or a state dict with the constants that only
    /// theirs have.
    pub is_openai: bool,
}

/// A file's format.
enum Kind {
    Safetensors,
    Torch,
}

/// Reads the first bytes.
fn detect_kind(path: &Path) -> std::io::Result<Kind> {
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

/// Reads all weights of a safetensors, `torch.save` or TorchScript file as f32. Of a training
/// checkpoint it reads the `state_dict`.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds weights of another dtype.
pub fn read(path: &Path) -> Result<WeightsFile, WeightsError> {
    let kind = detect_kind(path).map_err(|source| WeightsError::Read {
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

/// Resizes position embeddings to another image size or context length, as open_clip does when
/// it loads weights into a model of another size. Other tensors are unchanged.
/// - returns a description of each resized tensor.
pub fn fit_positions(tensors: &mut NamedTensors, spec: &ModelSpec) -> Vec<String> {
    let mut resized_names = Vec::new();
    let mut resize = |name: &str, rows: usize, to: usize, by: Resize| {
        let Some(tensor) = tensors.get_mut(name) else {
            return;
        };
        if tensor.shape.first() == Some(&rows) {
            return;
        }
        if let Some(resized) = by(tensor, to) {
            resized_names.push(format!(
                "{name} from {:?} to {:?}",
                tensor.shape, resized.shape
            ));
            *tensor = resized;
        }
    };
    let grid = spec.image.grid();
    let name = spec.image.positions_name();
    resize(name, 1 + grid * grid, grid, resize_grid);
    let context = spec.text.context_length;
    resize(TEXT_POSITIONS, context, context, resize_context);
    resized_names
}

type Resize = fn(&HostTensor, usize) -> Option<HostTensor>;

/// Replaces every parameter of `model` with the tensor of that name.
/// - path: the tensors' file, for errors.
///
/// # Errors
/// If tensors are missing, superfluous or of the wrong shape; all of them are listed.
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
