//! Reading and writing parameters under open_clip's names.

mod error;
mod mismatches;
mod safetensors_file;
mod script_code;
mod search;
mod stored;
mod torch_file;
mod torch_script;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::clip::Clip;
use crate::names::{ParameterMapper, ParameterVisitor, map_parameters, visit_parameters};
use crate::positions::{resize_context, resize_grid};
use crate::printable::printable;
use crate::spec::ModelSpec;

pub use crate::tensors::{HostTensor, NamedTensors};
pub use error::{
    HeaderError, ReaderPanic, SafetensorsError, TensorError, TorchError, WeightsError,
};
pub(crate) use mismatches::Mismatches;
pub use safetensors_file::{metadata, save, save_with};
pub(crate) use script_code::ScriptCode;
pub(crate) use search::Naming;
use stored::PIECE;
pub(crate) use stored::{StoredTensor, StoredTensors};

/// open_clip keeps these as scalars; here they are `[1]`.
const SCALARS: [&str; 2] = ["logit_scale", "logit_bias"];
pub(crate) const TEXT_POSITIONS: &str = "positional_embedding";
/// Constants that OpenAI's files hold in addition to the weights.
const OPENAI_CONSTANTS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];
/// A file may unpack to this many times its own size, and this many bytes more: half precision is
/// widened, and compression gains little on weights.
const READ_PER_FILE: u64 = 16;
const READ_MORE: u64 = 64 << 20;

/// The contents of a weights file.
#[derive(Debug)]
pub struct WeightsFile {
    /// Every floating-point tensor under its name in the file.
    pub tensors: NamedTensors,
}

/// The model in a file of weights, or in several: everything but the values of its tensors.
#[derive(Debug)]
pub(crate) struct StoredModel {
    /// The file, or the first of several, for errors.
    pub path: PathBuf,
    pub naming: Naming,
    /// The tensors under the model's names, without the prefixes of wrappers and dictionaries.
    pub tensors: StoredTensors,
    /// Whether it has the constants that only OpenAI's files have.
    pub is_openai: bool,
    /// What the code of a TorchScript archive says.
    pub code: Option<ScriptCode>,
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

/// Describes all tensors of a file.
/// - returns the floating-point tensors, the names of others, and the code of an archive.
fn open_file(
    path: &Path,
) -> Result<(StoredTensors, Vec<String>, Option<ScriptCode>), WeightsError> {
    let kind = detect_kind(path).map_err(|source| WeightsError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    match kind {
        Kind::Safetensors => Ok((safetensors_file::open(path)?, Vec::new(), None)),
        Kind::Torch => {
            let contents = torch_file::open(path)?;
            Ok((contents.tensors, contents.others, contents.code))
        }
    }
}

/// Describes all floating-point tensors of files, whatever they are.
///
/// # Errors
/// If a file cannot be read, is damaged, or holds floats of another dtype.
pub(crate) fn open_all(paths: &[PathBuf]) -> Result<StoredTensors, WeightsError> {
    let mut all = StoredTensors::new();
    for path in paths {
        all.extend(open_file(path)?.0);
    }
    Ok(all)
}

/// Finds the model in a safetensors, `torch.save` or TorchScript file, whatever dictionaries and
/// wrappers hold it, without reading its values.
/// - paths: at least one; all together hold one model.
///
/// # Errors
/// If a file cannot be read, is damaged, or holds floats of another dtype; if there are several
/// models.
pub(crate) fn open(paths: &[PathBuf]) -> Result<StoredModel, WeightsError> {
    let path = paths.first().cloned().unwrap_or_default();
    let mut all = StoredTensors::new();
    let (mut others, mut code) = (Vec::new(), None);
    for file in paths {
        let (tensors, other_names, own_code) = open_file(file)?;
        all.extend(tensors);
        others.extend(other_names);
        code = code.or(own_code);
    }
    let place = search::find(all.keys().map(String::as_str)).map_err(|doubt| match doubt {
        search::Doubt::Several(candidates) => WeightsError::Ambiguous {
            path: path.clone(),
            candidates,
        },
        search::Doubt::Twice {
            name,
            first,
            second,
        } => WeightsError::Twice {
            path: path.clone(),
            name,
            first,
            second,
        },
    })?;
    if let Some(left_out) = place.left_out {
        let file = path.display();
        let left_out = printable(left_out);
        tracing::warn!("{file}: the averaged weights under {left_out} are not used");
    }
    let named = |(name, in_file): (String, String)| Some((name, all.remove(&in_file)?));
    let is_constant = |name: &String| {
        let last = name.rsplit('.').next().unwrap_or(name);
        OPENAI_CONSTANTS.contains(&last)
    };
    let mut tensors: StoredTensors = place.names.into_iter().filter_map(named).collect();
    let mut is_openai = others.iter().any(is_constant);
    tensors.retain(|name, _| {
        let constant = is_constant(name);
        is_openai |= constant;
        !constant
    });
    Ok(StoredModel {
        path,
        naming: place.naming,
        tensors,
        is_openai,
        code,
    })
}

/// Reads all floating-point tensors of a safetensors, `torch.save` or TorchScript file as f32,
/// whatever they are.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds floats of another dtype; if its tensors are far
/// larger than the file.
pub fn read(path: &Path) -> Result<WeightsFile, WeightsError> {
    let (stored, _, _) = open_file(path)?;
    let file_len = std::fs::metadata(path).map_err(|source| WeightsError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let allowed = (file_len.len().saturating_mul(READ_PER_FILE)).saturating_add(READ_MORE);
    let sizes = stored
        .values()
        .map(|tensor| tensor.byte_len().unwrap_or(usize::MAX) as u64);
    let used = sizes.fold(0u64, u64::saturating_add);
    if used > allowed {
        return Err(WeightsError::Larger {
            path: path.to_path_buf(),
            used,
            file: file_len.len(),
        });
    }
    let read = |(name, tensor): (String, StoredTensor)| match tensor.read() {
        Ok(tensor) => Ok((name, tensor)),
        Err(source) => Err(WeightsError::Tensor {
            path: path.to_path_buf(),
            name,
            source,
        }),
    };
    let tensors = stored.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(WeightsFile { tensors })
}

/// The shapes of all floating-point tensors of a file, by their names.
///
/// # Errors
/// If the file cannot be read, is damaged, or holds floats of another dtype.
pub fn shapes(path: &Path) -> Result<BTreeMap<String, Vec<usize>>, WeightsError> {
    let (stored, _, _) = open_file(path)?;
    let shapes = stored
        .into_iter()
        .map(|(name, tensor)| (name, tensor.shape));
    Ok(shapes.collect())
}

/// Reads the numbers of a `torch.save` file that are no tensors, such as `epoch`, by their path through
/// its dictionaries and lists, joined by dots.
///
/// # Errors
/// If the file cannot be read, is damaged, or is no such file.
pub fn read_numbers(path: &Path) -> Result<BTreeMap<String, f64>, WeightsError> {
    torch_file::numbers(path)
}

/// Checks that no value is NaN or infinite: a model of such weights gives no usable feature.
/// - path: the tensors' file, for errors.
///
/// # Errors
/// If there are such values, with the first tensor and their number.
pub(crate) fn check_finite<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a HostTensor)>,
) -> Result<(), WeightsError> {
    let bad_of = |values: &[f32]| values.iter().filter(|value| !value.is_finite()).count() as u64;
    let mut first = None;
    let mut count = 0;
    for (name, tensor) in tensors {
        let pieces = tensor.values.par_chunks(PIECE);
        let bad: u64 = pieces.map(bad_of).sum();
        if bad > 0 {
            first.get_or_insert(name);
            count += bad;
        }
    }
    match first {
        None => Ok(()),
        Some(name) => Err(WeightsError::NotFinite {
            path: path.to_path_buf(),
            name: name.to_string(),
            count,
        }),
    }
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
    let mut resize = |name: &str, rows: usize, by: &dyn Fn(&HostTensor) -> Option<HostTensor>| {
        let Some(tensor) = tensors.get_mut(name) else {
            return;
        };
        if tensor.shape.first() == Some(&rows) {
            return;
        }
        if let Some(resized) = by(tensor) {
            resized_names.push(format!(
                "{name} from {:?} to {:?}",
                tensor.shape, resized.shape
            ));
            *tensor = resized;
        }
    };
    let grid = spec.image.grid();
    let name = spec.image.positions_name();
    let before = spec.image.positions_before_grid();
    resize(name, before + grid * grid, &|tensor| {
        resize_grid(tensor, before, grid)
    });
    let context = spec.text.position_embeddings();
    resize(TEXT_POSITIONS, context, &|tensor| {
        resize_context(tensor, context)
    });
    resized_names
}

/// Replaces every parameter of `model` with the tensor of that name.
/// - path: the tensors' file, for errors.
///
/// # Errors
/// If tensors are missing, superfluous or of the wrong shape; all of them are listed.
pub fn fill(model: Clip, tensors: NamedTensors, path: &Path) -> Result<Clip, WeightsError> {
    replace(model, tensors, path, true)
}

/// Replaces those parameters of `model` of which there is a tensor.
/// - path: the tensors' file, for errors.
///
/// # Errors
/// If tensors are superfluous or of the wrong shape; all of them are listed.
pub fn fill_some(model: Clip, tensors: NamedTensors, path: &Path) -> Result<Clip, WeightsError> {
    replace(model, tensors, path, false)
}

/// - is_all: whether every parameter must have a tensor.
fn replace(
    model: Clip,
    tensors: NamedTensors,
    path: &Path,
    is_all: bool,
) -> Result<Clip, WeightsError> {
    let mut replace = Replace {
        tensors,
        mismatches: Mismatches::default(),
        is_all,
    };
    let model = map_parameters(model, &mut replace);
    let mut mismatches = replace.mismatches;
    for name in replace.tensors.keys() {
        mismatches.surplus(name);
    }
    mismatches.check(path)?;
    Ok(model)
}

struct Replace {
    tensors: NamedTensors,
    mismatches: Mismatches,
    is_all: bool,
}

impl ParameterMapper for Replace {
    fn map<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(mut tensor) = self.tensors.remove(name) else {
            if self.is_all {
                self.mismatches.missing(name);
            }
            return param;
        };
        if SCALARS.contains(&name) && tensor.shape.is_empty() {
            tensor.shape = vec![1];
        }
        let expected = param.lazy_shape().to_vec();
        if tensor.shape != expected {
            self.mismatches.misshapen(name, &tensor.shape, &expected);
            return param;
        }
        // Keeps device and gradient requirement without making the values that are replaced.
        let (id, device) = (param.id, param.lazy_device());
        param.transform_for_load(tensor.into_tensor(&device), id)
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
