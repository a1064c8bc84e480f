//! Detecting the layout of the model at a path, and reading it.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::clip::Clip;
use crate::files::FolderError;
use crate::hugging_face;
use crate::manifest::Manifest;
use crate::model_weights::{self, Positions};
use crate::open_clip;
use crate::openai;
use crate::presets;
use crate::source::{Layout, ModelSource, find_hugging_face_tokenizer, find_tokenizer};
use crate::spec::{ModelSpec, PreprocessSpec};
use crate::tensors::NamedTensors;
use crate::weights::{self, Naming, ScriptCode, StoredModel, WeightsError};

/// A model read from disk.
#[derive(Debug)]
pub struct Loaded {
    pub model: Clip,
    /// The number of tensors that were read.
    pub tensors: usize,
    pub source: ModelSource,
}

/// Reads a model onto `device`: an open_clip folder or weights file, a Hugging Face CLIP folder,
/// or OpenAI's own file.
/// - arch: the architecture of weights that do not name theirs: a preset's name or an open_clip
///   config file.
///
/// # Errors
/// As [`inspect`]; and if a tensor cannot be read, or a value is NaN or infinite.
pub fn load(path: &Path, arch: Option<&str>, device: &Device) -> Result<Loaded, FolderError> {
    let found = find(path, arch.map_or(Arch::Unknown, Arch::Named))?;
    let tensors = model_weights::read(&found.weights, &found.source.spec, Positions::Exact)?;
    build(found.source, tensors, device)
}

/// As [`load`], for a model that continues as `spec`: position embeddings are resized to its
/// image size and context length.
/// - returns the model, and a description of each resized tensor.
///
/// # Errors
/// As [`load`].
pub fn load_as(
    path: &Path,
    spec: &ModelSpec,
    device: &Device,
) -> Result<(Loaded, Vec<String>), FolderError> {
    let Found {
        mut source,
        weights: stored,
    } = find(path, Arch::OrElse(spec))?;
    check_fits(path, &source.spec, spec)?;
    let mut tensors = model_weights::read(&stored, spec, Positions::Resizable)?;
    let resized = weights::fit_positions(&mut tensors, spec);
    source.spec = spec.clone();
    Ok((build(source, tensors, device)?, resized))
}

/// Describes the model at `path`, and holds its weights' names and shapes against its
/// architecture, without reading their values.
///
/// # Errors
/// If there is no model, or one that Couplet does not build; if a tensor is missing, superfluous
/// or of the wrong shape.
pub fn inspect(path: &Path, arch: Option<&str>) -> Result<ModelSource, FolderError> {
    let found = find(path, arch.map_or(Arch::Unknown, Arch::Named))?;
    model_weights::check_shapes(&found.weights, &found.source.spec, Positions::Exact)?;
    Ok(found.source)
}

/// Describes the model at `path` by what it says itself, without a look at its tensors' shapes.
///
/// # Errors
/// If there is no model, it does not name its architecture, or Couplet does not build that.
pub fn describe(path: &Path) -> Result<ModelSource, FolderError> {
    Ok(find(path, Arch::Unknown)?.source)
}

/// The presets whose tensors have the names and shapes of stored ones; position embeddings may be resized.
fn presets_that_fit(stored: &StoredModel) -> Vec<&'static str> {
    let fits = |name: &&str| {
        let spec = presets::find(name);
        spec.is_some_and(|spec| {
            model_weights::check_shapes(stored, &spec, Positions::Resizable).is_ok()
        })
    };
    presets::names().filter(fits).collect()
}

/// As [`inspect`], for weights that continue as `spec`, which is their architecture if nothing
/// else names one.
///
/// # Errors
/// As [`inspect`]; and if the weights have another architecture, with the differences.
pub fn inspect_as(path: &Path, spec: &ModelSpec) -> Result<ModelSource, FolderError> {
    let found = find(path, Arch::OrElse(spec))?;
    check_fits(path, &found.source.spec, spec)?;
    model_weights::check_shapes(&found.weights, spec, Positions::Resizable)?;
    Ok(found.source)
}

fn check_fits(path: &Path, found: &ModelSpec, wanted: &ModelSpec) -> Result<(), FolderError> {
    let differences = found.differences(wanted);
    if differences.is_empty() {
        return Ok(());
    }
    Err(FolderError::unsound(
        path,
        &[format!(
            "the weights have another architecture: {}",
            differences.join(", ")
        )],
    ))
}

/// What the caller knows about the architecture before the weights are read.
#[derive(Clone, Copy)]
enum Arch<'a> {
    Unknown,
    /// A preset's name, or an open_clip config file.
    Named(&'a str),
    /// This one, if the weights do not name theirs.
    OrElse(&'a ModelSpec),
}

/// A model on disk, with the header of its weights.
struct Found {
    source: ModelSource,
    weights: StoredModel,
}

fn build(
    source: ModelSource,
    tensors: NamedTensors,
    device: &Device,
) -> Result<Loaded, FolderError> {
    let blank = Clip::blank(&source.spec, device);
    let count = tensors.len();
    let model = weights::fill(blank, tensors, &source.weights)?;
    Ok(Loaded {
        model,
        tensors: count,
        source,
    })
}

/// The model at `path`. Every model that is opened is found here. A folder's config must agree with
/// a named architecture.
fn find(path: &Path, arch: Arch) -> Result<Found, FolderError> {
    if path.is_file() {
        return find_file(path, arch);
    }
    let found = find_folder(path)?;
    if let Arch::Named(name) = arch {
        check_fits(path, &found.source.spec, &architecture(name)?.spec)?;
    }
    Ok(found)
}

/// A folder with one config or both. With both, the weights' names decide.
fn find_folder(path: &Path) -> Result<Found, FolderError> {
    let config = path.join(open_clip::CONFIG_FILE);
    let has_open_clip = config.is_file();
    let has_hugging_face = path.join(hugging_face::CONFIG_FILE).is_file();
    if !has_open_clip && !has_hugging_face {
        return Err(FolderError::NoModel {
            path: path.to_path_buf(),
        });
    }
    if has_open_clip {
        check_description(path)?;
        let config = open_clip::read_config(&config)?;
        let candidates = open_clip::weights_candidates(path);
        // The names of another layout are refused later, tensor by tensor.
        let is_open_clips =
            |stored: &StoredModel| !has_hugging_face || stored.naming == Naming::OpenClip;
        if let Some((file, stored)) = first_opened(&candidates, is_open_clips)? {
            return Ok(Found {
                source: open_clip_source(config, path, file),
                weights: stored,
            });
        }
        if !has_hugging_face {
            return Err(FolderError::NoWeights {
                path: path.to_path_buf(),
                expected: open_clip::WEIGHTS_FILES[..3].join(", "),
            });
        }
    }
    let (spec, preprocess) = hugging_face::read_config(path)?;
    let candidates = hugging_face::weights_candidates(path);
    let is_hugging_faces =
        |stored: &StoredModel| !has_open_clip || stored.naming == Naming::HuggingFace;
    let Some((file, stored)) = first_opened(&candidates, is_hugging_faces)? else {
        return Err(FolderError::NoWeights {
            path: path.to_path_buf(),
            expected: "model.safetensors or pytorch_model.bin".into(),
        });
    };
    let source = ModelSource {
        tokenizer: find_hugging_face_tokenizer(path, &spec),
        spec,
        preprocess,
        layout: Layout::HuggingFace,
        weights: file,
    };
    Ok(Found {
        source,
        weights: stored,
    })
}

/// Opens weights in their order until some are `wanted`.
/// - candidates: files of weights, or indices of several.
fn first_opened(
    candidates: &[PathBuf],
    wanted: impl Fn(&StoredModel) -> bool,
) -> Result<Option<(PathBuf, StoredModel)>, FolderError> {
    for path in candidates {
        let stored = weights::open(&hugging_face::list_files(path)?)?;
        if wanted(&stored) {
            return Ok(Some((path.clone(), stored)));
        }
    }
    Ok(None)
}

/// Checks the files that describe a checkpoint's model. Its weights are checked when they are read.
fn check_description(folder: &Path) -> Result<(), FolderError> {
    Ok(Manifest::check_description(folder).map_err(WeightsError::from)?)
}

fn open_clip_source(config: open_clip::Config, folder: &Path, weights: PathBuf) -> ModelSource {
    ModelSource {
        tokenizer: find_tokenizer(folder, &config.spec, config.tokenizer),
        spec: config.spec,
        preprocess: config.preprocess,
        layout: Layout::OpenClip,
        weights,
    }
}

fn find_file(path: &Path, arch: Arch) -> Result<Found, FolderError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let stored = weights::open(&[path.to_path_buf()])?;
    let named = match arch {
        Arch::Named(name) => Some(architecture(name)?),
        Arch::Unknown | Arch::OrElse(_) => None,
    };
    let layout = match stored.naming {
        _ if stored.is_openai => Layout::OpenAi,
        Naming::OpenClip => Layout::OpenClip,
        Naming::HuggingFace => Layout::HuggingFace,
    };
    let in_code = stored.code.as_ref().and_then(ScriptCode::activation);
    let config = if stored.is_openai {
        let spec = openai::spec(path, &stored.tensors, in_code)?;
        match named {
            Some(named) => overrule(path, &spec.differences(&named.spec), named),
            None => preset_config(spec),
        }
    } else if let (Some(code), Some(named)) = (&stored.code, &named) {
        overrule(path, &code.differences(&named.spec), named.clone())
    } else {
        let config = match (config_nearby(folder)?, named, arch) {
            (Some(found), Some(named), _) => {
                check_fits(path, &found.spec, &named.spec)?;
                found
            }
            (Some(config), None, _) | (None, Some(config), _) => config,
            (None, None, Arch::OrElse(spec)) => preset_config(spec.clone()),
            (None, None, _) => {
                return Err(FolderError::UnknownArchitecture {
                    path: path.to_path_buf(),
                    hint: stored.code.as_ref().map(ScriptCode::describe),
                    fits: presets_that_fit(&stored),
                });
            }
        };
        let differences = (stored.code.as_ref()).map(|code| code.differences(&config.spec));
        if let Some(differences) = differences.filter(|list| !list.is_empty()) {
            return Err(FolderError::unsound(path, &differences));
        }
        config
    };
    let source = ModelSource {
        layout,
        ..open_clip_source(config, folder, path.to_path_buf())
    };
    Ok(Found {
        source,
        weights: stored,
    })
}

/// The named architecture, with a warning if the file itself says otherwise. Tensors of other
/// names or shapes are refused later.
fn overrule(path: &Path, differences: &[String], named: open_clip::Config) -> open_clip::Config {
    if !differences.is_empty() {
        let (path, list) = (path.display(), differences.join("; "));
        tracing::warn!("{path}: {list}; the named architecture is used");
    }
    named
}

/// What the files next to a file of weights say about it.
fn config_nearby(folder: &Path) -> Result<Option<open_clip::Config>, FolderError> {
    let config = folder.join(open_clip::CONFIG_FILE);
    if config.is_file() {
        check_description(folder)?;
        return Ok(Some(open_clip::read_config(&config)?));
    }
    open_clip::read_training_params(folder)
}

/// - name: a preset's, or the path of an open_clip config.
fn architecture(name: &str) -> Result<open_clip::Config, FolderError> {
    if let Some(spec) = presets::find(name) {
        return Ok(preset_config(spec));
    }
    let path = Path::new(name);
    if path.is_file() {
        return open_clip::read_config(path);
    }
    Err(FolderError::UnknownName { name: name.into() })
}

fn preset_config(spec: ModelSpec) -> open_clip::Config {
    open_clip::Config {
        spec,
        preprocess: PreprocessSpec::default(),
        tokenizer: open_clip::TokenizerCfg::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_folder_reads_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::flex();
        let spec = presets::find("ViT-Ti-16-64").unwrap();
        let model = Clip::init(&spec, 3, &device);
        open_clip::save(
            folder.path(),
            &model,
            &spec,
            &PreprocessSpec::default(),
            &open_clip::TokenizerCfg::default(),
        )
        .unwrap();
        let loaded = load(folder.path(), None, &device).unwrap();
        assert_eq!(loaded.source.spec, spec);
        assert_eq!(loaded.source.preprocess, PreprocessSpec::default());
        assert_eq!(
            weights::parameters(&loaded.model),
            weights::parameters(&model)
        );
    }
}
