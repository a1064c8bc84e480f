//! Detecting the layout of the model at a path, and reading it.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::clip::Clip;
use crate::files::{FolderError, read_text};
use crate::hugging_face;
use crate::manifest::Manifest;
use crate::open_clip;
use crate::openai;
use crate::presets;
use crate::source::{Layout, ModelSource, TokenizerSpec, find_tokenizer};
use crate::spec::{Activation, ModelSpec, PreprocessSpec};
use crate::weights::{self, WeightsError, WeightsFile};

/// The settings of a training run of open_clip, one folder above its checkpoints.
const OPEN_CLIP_PARAMS: &str = "params.txt";

/// A model read from disk.
#[derive(Debug)]
pub struct Loaded {
    pub model: Clip,
    pub source: ModelSource,
}

/// Reads a model onto `device`: an open_clip folder or weights file, a Hugging Face CLIP folder,
/// or OpenAI's own file.
/// - arch: the architecture of weights that do not name theirs: a preset's name or an open_clip
///   config file.
///
/// # Errors
/// As [`inspect`]; and if a tensor is missing, superfluous or of the wrong shape.
pub fn load(path: &Path, arch: Option<&str>, device: &Device) -> Result<Loaded, FolderError> {
    let (source, file) = find(path, arch.map_or(Arch::Unknown, Arch::Named))?;
    load_found(source, file, None, device)
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
    let (source, file) = find(path, Arch::OrElse(spec))?;
    check_fits(path, &source.spec, spec)?;
    let mut resized = Vec::new();
    let loaded = load_found(source, file, Some((spec, &mut resized)), device)?;
    Ok((loaded, resized))
}

/// Describes the model at `path` without reading its weights where its files allow.
///
/// # Errors
/// If there is no model, or one that Couplet does not build.
pub fn inspect(path: &Path, arch: Option<&str>) -> Result<ModelSource, FolderError> {
    Ok(find(path, arch.map_or(Arch::Unknown, Arch::Named))?.0)
}

/// As [`inspect`], for weights that continue as `spec`, which is their architecture if nothing
/// else names one.
///
/// # Errors
/// As [`inspect`]; and if the weights have another architecture, with the differences.
pub fn inspect_as(path: &Path, spec: &ModelSpec) -> Result<ModelSource, FolderError> {
    let (source, _) = find(path, Arch::OrElse(spec))?;
    check_fits(path, &source.spec, spec)?;
    Ok(source)
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
            differences.join("; ")
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

fn load_found(
    mut source: ModelSource,
    file: Option<WeightsFile>,
    target: Option<(&ModelSpec, &mut Vec<String>)>,
    device: &Device,
) -> Result<Loaded, FolderError> {
    let path = source.weights.clone();
    let mut tensors = match (file, source.layout) {
        (Some(file), _) => file.tensors,
        (None, Layout::HuggingFace) => hugging_face::read_weights(&path, &source.spec)?,
        (None, Layout::OpenClip | Layout::OpenAi) => weights::read(&path)?.tensors,
    };
    if let Some((spec, resized)) = target {
        *resized = weights::fit_positions(&mut tensors, spec);
        source.spec = spec.clone();
    }
    let model = weights::fill(Clip::blank(&source.spec, device), tensors, &path)?;
    Ok(Loaded { model, source })
}

/// The model at `path`, and its weights if they had to be read to describe it. A named
/// architecture must match the files.
fn find(path: &Path, arch: Arch) -> Result<(ModelSource, Option<WeightsFile>), FolderError> {
    let found = locate(path, arch)?;
    if let Arch::Named(name) = arch {
        check_fits(path, &found.0.spec, &architecture(name)?.spec)?;
    }
    Ok(found)
}

fn locate(path: &Path, arch: Arch) -> Result<(ModelSource, Option<WeightsFile>), FolderError> {
    if path.is_file() {
        return find_file(path, arch);
    }
    if path.join(open_clip::CONFIG_FILE).is_file() {
        check_description(path)?;
        let config = open_clip::read_config(&path.join(open_clip::CONFIG_FILE))?;
        let weights = open_clip::find_weights(path)?;
        return Ok((open_clip_source(config, path, weights), None));
    }
    if path.join(hugging_face::CONFIG_FILE).is_file() {
        return Ok((hugging_face::inspect(path)?, None));
    }
    Err(FolderError::NoModel {
        path: path.to_path_buf(),
    })
}

/// Checks the files that describe a checkpoint's model. Its weights are checked when they are read.
fn check_description(folder: &Path) -> Result<(), FolderError> {
    Ok(Manifest::check_description(folder).map_err(WeightsError::from)?)
}

fn open_clip_source(config: open_clip::Config, folder: &Path, weights: PathBuf) -> ModelSource {
    ModelSource {
        tokenizer: find_tokenizer(
            folder,
            &config.spec,
            config.foreign_tokenizer,
            open_clip::DEFAULT_CLEAN,
        ),
        spec: config.spec,
        preprocess: config.preprocess,
        layout: Layout::OpenClip,
        weights,
    }
}

fn find_file(path: &Path, arch: Arch) -> Result<(ModelSource, Option<WeightsFile>), FolderError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let config_path = folder.join(open_clip::CONFIG_FILE);
    let found = if config_path.is_file() {
        check_description(folder)?;
        Some(open_clip::read_config(&config_path)?)
    } else {
        read_training_params(folder)?
    };
    let config = match (found, arch) {
        (Some(config), _) => Some(config),
        (None, Arch::Named(name)) => Some(architecture(name)?),
        (None, Arch::OrElse(spec)) => Some(preset_config(spec.clone())),
        (None, Arch::Unknown) => None,
    };
    let file = weights::read(path)?;
    if file.is_openai {
        let source = ModelSource {
            spec: openai::spec(path, &file.tensors)?,
            preprocess: PreprocessSpec::default(),
            tokenizer: TokenizerSpec::Clip,
            layout: Layout::OpenAi,
            weights: path.to_path_buf(),
        };
        return Ok((source, Some(file)));
    }
    let config = config.ok_or_else(|| FolderError::UnknownArchitecture {
        path: path.to_path_buf(),
    })?;
    Ok((
        open_clip_source(config, folder, path.to_path_buf()),
        Some(file),
    ))
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
        foreign_tokenizer: None,
    }
}

/// The architecture of the open_clip training run that wrote these checkpoints, if there is one.
fn read_training_params(checkpoints: &Path) -> Result<Option<open_clip::Config>, FolderError> {
    let params = checkpoints.join("..").join(OPEN_CLIP_PARAMS);
    if !params.is_file() {
        return Ok(None);
    }
    let text = read_text(&params)?;
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
            .map(str::trim)
    };
    let Some(mut spec) = value("model").and_then(presets::find) else {
        return Ok(None);
    };
    if value("force_quick_gelu") == Some("True") {
        spec.activation = Activation::QuickGelu;
    }
    if let Some(size) = value("force_image_size").and_then(|size| size.parse().ok()) {
        spec.image.set_image_size(size);
    }
    Ok(Some(preset_config(spec)))
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
            None,
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
