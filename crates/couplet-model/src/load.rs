//! Which kind of model stands at a path, found out and read.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::files::{FolderError, read_text};
use crate::weights::{self, WeightsFile};
use crate::{
    Activation, Clip, ModelSpec, PreprocessSpec, hugging_face, open_clip, openai, presets,
};

/// What a training run of open_clip writes about itself, one folder above its checkpoints.
const OPEN_CLIP_PARAMS: &str = "params.txt";

/// A model on disk: everything but its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSource {
    pub spec: ModelSpec,
    pub preprocess: PreprocessSpec,
    pub tokenizer: TokenizerSpec,
    pub layout: Layout,
    /// The file of weights, or the index of several.
    pub weights: PathBuf,
}

/// Which text becomes which ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenizerSpec {
    /// CLIP's, which every program brings along.
    Clip,
    /// A `tokenizer.json`, and what is done to a text before: open_clip's `none`,
    /// `whitespace`, `lower` or `canonicalize`.
    File { path: PathBuf, clean: String },
    /// One that is not on disk; texts cannot be encoded.
    Missing { name: String },
}

/// Whose names and shapes the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    OpenClip,
    HuggingFace,
    OpenAi,
}

/// A model read from disk.
#[derive(Debug)]
pub struct Loaded {
    pub model: Clip,
    pub source: ModelSource,
}

/// Reads a model onto `device`: an open_clip folder or file of weights, a Hugging Face
/// CLIP folder, or OpenAI's own file.
/// - arch: for weights that do not say which architecture they are of: a preset's name or
///   an open_clip config file.
///
/// # Errors
/// As [`inspect`]; and if any tensor is missing, surplus or misshapen.
pub fn load(path: &Path, arch: Option<&str>, device: &Device) -> Result<Loaded, FolderError> {
    let (source, file) = find(path, arch.map_or(Arch::Unknown, Arch::Named))?;
    load_found(source, file, None, device)
}

/// As [`load`] of a model that is to go on as `spec`: position embeddings are resized to
/// its image size and context length.
/// - returns what was resized too, in words.
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

/// What stands at `path`, without its weights.
///
/// # Errors
/// If no model is found there, or it is of a kind that Couplet does not build.
pub fn inspect(path: &Path, arch: Option<&str>) -> Result<ModelSource, FolderError> {
    Ok(find(path, arch.map_or(Arch::Unknown, Arch::Named))?.0)
}

/// As [`inspect`] of weights that are to go on as `spec`, which names the architecture
/// where nothing else does.
///
/// # Errors
/// As [`inspect`]; and if the weights are of another architecture, with what differs.
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
            "these weights are of another architecture: {}",
            differences.join("; ")
        )],
    ))
}

/// What is known of an architecture before the weights are seen.
#[derive(Clone, Copy)]
enum Arch<'a> {
    Unknown,
    /// A preset's name, or an open_clip config file.
    Named(&'a str),
    /// This one, where the weights do not say.
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

/// The model at `path`; with its weights where they had to be read to know it. An
/// architecture that is named must be the one that the files tell.
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
        let config = open_clip::read_config(&path.join(open_clip::CONFIG_FILE))?;
        let weights = open_clip::find_weights(path)?;
        return Ok((of_open_clip(config, path, weights), None));
    }
    if path.join(hugging_face::CONFIG_FILE).is_file() {
        return Ok((hugging_face::inspect(path)?, None));
    }
    Err(FolderError::NoModel {
        path: path.to_path_buf(),
    })
}

fn of_open_clip(config: open_clip::Config, folder: &Path, weights: PathBuf) -> ModelSource {
    ModelSource {
        tokenizer: tokenizer(
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

/// The tokenizer of a folder: its `tokenizer.json` unless the vocabulary is CLIP's.
/// - foreign: one that is known not to be CLIP's.
/// - clean: what is done to texts where the folder does not say.
pub(crate) fn tokenizer(
    folder: &Path,
    spec: &ModelSpec,
    foreign: Option<open_clip::ForeignTokenizer>,
    clean: &str,
) -> TokenizerSpec {
    let path = folder.join(TOKENIZER_FILE);
    // With more ids than CLIP's there is room to spare; all of CLIP's are there.
    let is_clips = foreign.is_none()
        && (spec.text.vocab_size == CLIP_VOCABULARY
            || (spec.text.vocab_size > CLIP_VOCABULARY && !path.is_file()));
    if is_clips {
        return TokenizerSpec::Clip;
    }
    let (name, own_clean) =
        foreign.map_or((None, None), |foreign| (Some(foreign.name), foreign.clean));
    if path.is_file() {
        return TokenizerSpec::File {
            path,
            clean: own_clean.unwrap_or_else(|| clean.to_string()),
        };
    }
    TokenizerSpec::Missing {
        name: name.unwrap_or_else(|| TOKENIZER_FILE.to_string()),
    }
}

/// A tokenizer's file in a model folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Tokens of CLIP's vocabulary.
const CLIP_VOCABULARY: usize = 49_408;

fn find_file(path: &Path, arch: Arch) -> Result<(ModelSource, Option<WeightsFile>), FolderError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = folder.join(open_clip::CONFIG_FILE);
    let told = if beside.is_file() {
        Some(open_clip::read_config(&beside)?)
    } else {
        of_open_clip_run(folder)?
    };
    let config = match (told, arch) {
        (Some(config), _) => Some(config),
        (None, Arch::Named(name)) => Some(architecture(name)?),
        (None, Arch::OrElse(spec)) => Some(of_preset(spec.clone())),
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
    Ok((of_open_clip(config, folder, path.to_path_buf()), Some(file)))
}

/// - name: a preset's, or the path of an open_clip config.
fn architecture(name: &str) -> Result<open_clip::Config, FolderError> {
    if let Some(spec) = presets::find(name) {
        return Ok(of_preset(spec));
    }
    let path = Path::new(name);
    if path.is_file() {
        return open_clip::read_config(path);
    }
    Err(FolderError::UnknownName { name: name.into() })
}

fn of_preset(spec: ModelSpec) -> open_clip::Config {
    open_clip::Config {
        spec,
        preprocess: PreprocessSpec::default(),
        foreign_tokenizer: None,
    }
}

/// The architecture that open_clip's training noted above its folder of checkpoints.
fn of_open_clip_run(checkpoints: &Path) -> Result<Option<open_clip::Config>, FolderError> {
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
    Ok(Some(of_preset(spec)))
}
