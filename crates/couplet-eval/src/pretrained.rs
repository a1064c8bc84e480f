//! Models by name: `ViT-B-32@openai`, `ViT-B/32`, `hf:org/name`. What a name stands for is downloaded when it is first used,
//! and then found in the cache.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use couplet_hub::{
    Activation, Environment, Fetched, Hub, HubError, ModelName, Plan, Preprocess, Progress, hint,
    parse,
};
use couplet_model::{
    FolderError, Interpolation, ModelSpec, PreprocessSpec, ResizeMode, TOKENIZER_FILE, describe,
    open_clip, presets,
};

/// Why a model could not be had by its name.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    #[error(transparent)]
    Hub(Box<HubError>),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{}: cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// Neither a path nor a name.
    #[error("{name}: there is no such path, and no such name: {hint}")]
    Unknown { name: String, hint: String },
}

impl From<HubError> for PretrainedError {
    fn from(error: HubError) -> Self {
        Self::Hub(Box::new(error))
    }
}

/// Hears of downloads.
pub trait DownloadListener: Progress {
    /// What will be downloaded is known, and nothing is yet.
    fn planned(&mut self, plan: &Plan);
    /// What a user should know of how it was found.
    fn noted(&mut self, note: &str);
}

/// Makes a listener for each model that is looked up.
type MakeListener = fn() -> Box<dyn DownloadListener>;
static LISTENER: OnceLock<MakeListener> = OnceLock::new();

/// Says who hears of downloads in this process. Without anyone, they are silent.
pub fn hear_downloads(make: MakeListener) {
    // The first one stays, as with a logger.
    let _ = LISTENER.set(make);
}

/// The model that a name stands for, downloaded if the cache lacks it; `None` for a text that is not such a name.
///
/// # Errors
/// If the name is misspelt, or the model cannot be downloaded.
pub fn named_model(name: &str) -> Result<Option<PathBuf>, PretrainedError> {
    let Some(parsed) = parse(name)? else {
        return match hint(name) {
            Some(hint) => Err(PretrainedError::Unknown {
                name: name.into(),
                hint,
            }),
            None => Ok(None),
        };
    };
    download(&parsed).map(|(path, _)| Some(path))
}

/// Downloads a model, if the cache lacks it.
/// - returns the path that opens it, and what was found.
///
/// # Errors
/// If it cannot be downloaded.
pub fn download(name: &ModelName) -> Result<(PathBuf, Fetched), PretrainedError> {
    let hub = Hub::from_environment(&Environment::of_process())?;
    let mut listener = match LISTENER.get() {
        Some(make) => make(),
        None => Box::new(Silent),
    };
    let plan = hub.plan(name, listener.as_mut())?;
    listener.planned(&plan);
    let fetched = hub.fetch_plan(plan, listener.as_mut())?;
    for note in &fetched.notes {
        listener.noted(note);
    }
    let beside = hub
        .settings()
        .link_cache()
        .join("models")
        .join(name.to_string());
    Ok((opened_as(&fetched, &beside)?, fetched))
}

struct Silent;

impl Progress for Silent {}

impl DownloadListener for Silent {
    fn planned(&mut self, _: &Plan) {}

    fn noted(&mut self, note: &str) {
        tracing::warn!("{note}");
    }
}

/// The path that opens the model as its name says: the files themselves where they say the same, else a folder that
/// does.
/// - folder: to be made if it is needed.
fn opened_as(fetched: &Fetched, folder: &Path) -> Result<PathBuf, PretrainedError> {
    let path = &fetched.path;
    let Some(spec) = fetched.architecture.and_then(presets::find) else {
        return Ok(path.clone());
    };
    let stated = describe(path).ok();
    let is_stated = stated.is_some_and(|source| {
        source.spec.image.image_size() == spec.image.image_size()
            && (path.is_dir() || source.layout == couplet_model::Layout::OpenAi)
    });
    if is_stated {
        return Ok(path.clone());
    }
    write_described(fetched, spec, folder)?;
    Ok(folder.to_path_buf())
}

/// Writes a folder with a config of the name's architecture, and links to the files.
fn write_described(
    fetched: &Fetched,
    mut spec: ModelSpec,
    folder: &Path,
) -> Result<(), PretrainedError> {
    let path = &fetched.path;
    let write = |source| PretrainedError::Write {
        path: folder.to_path_buf(),
        source,
    };
    fs::create_dir_all(folder).map_err(write)?;
    if fetched.activation == Some(Activation::QuickGelu) {
        spec.activation = couplet_model::Activation::QuickGelu;
    }
    let preprocess = preprocess(fetched.preprocess.as_ref());
    let mut tokenizer = open_clip::TokenizerCfg::default();
    if path.is_dir() {
        if let Ok(config) = open_clip::read_config(&path.join(open_clip::CONFIG_FILE)) {
            tokenizer = config.tokenizer;
        }
        for entry in fs::read_dir(path).map_err(write)? {
            let entry = entry.map_err(write)?;
            if entry.file_name() != open_clip::CONFIG_FILE {
                link(&entry.path(), &folder.join(entry.file_name())).map_err(write)?;
            }
        }
        if tokenizer.hugging_face.is_none() && folder.join(TOKENIZER_FILE).is_file() {
            tokenizer.hugging_face = Some(TOKENIZER_FILE.into());
        }
    } else {
        link(path, &folder.join("open_clip_pytorch_model.bin")).map_err(write)?;
    }
    open_clip::write_config(folder, &spec, &preprocess, &tokenizer)?;
    Ok(())
}

/// Makes `to` the same file as `from`, or a copy where the file system has no links.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    if to.is_file() {
        return Ok(());
    }
    let from = fs::canonicalize(from)?;
    fs::hard_link(&from, to).or_else(|_| fs::copy(&from, to).map(|_| ()))
}

fn preprocess(of_name: Option<&Preprocess>) -> PreprocessSpec {
    let default = PreprocessSpec::default();
    let Some(given) = of_name else {
        return default;
    };
    #[expect(clippy::cast_possible_truncation, reason = "as PyTorch's tensors")]
    let channels = |values: [f64; 3]| values.map(|value| value as f32);
    PreprocessSpec {
        mean: channels(given.mean),
        std: channels(given.std),
        interpolation: match given.interpolation {
            "bilinear" => Interpolation::Bilinear,
            _ => Interpolation::Bicubic,
        },
        resize_mode: match given.resize_mode {
            "squash" => ResizeMode::Squash,
            "longest" => ResizeMode::Longest,
            _ => ResizeMode::Shortest,
        },
        ..default
    }
}
