//! Models by name: `ViT-B-32@openai`, `ViT-B/32`, `hf:org/name`. What a name stands for is downloaded when it is first used,
//! and then found in the cache.

mod described;
mod error;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use couplet_hub::{Environment, Fetched, Hub, ModelName, Plan, Progress, hint, parse};

pub use error::PretrainedError;

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
        return Ok(None);
    };
    download(&parsed).map(|(path, _)| Some(path))
}

/// Whether a text is a name of weights, which a file of that name on the disk goes before.
pub fn is_model_name(text: &str) -> bool {
    matches!(parse(text), Ok(Some(_)))
}

/// What a text that is neither a path nor a name was probably meant to be. `None` where it is more likely a misspelt path:
/// a file of weights, or something in a folder that is there.
pub fn name_hint(text: &str) -> Option<String> {
    let path = Path::new(text);
    let is_in_a_folder = path
        .parent()
        .is_some_and(|folder| folder != Path::new("") && folder.is_dir());
    let is_a_file = path.extension().is_some_and(|extension| {
        let known = ["pt", "pth", "bin", "safetensors", "ckpt"];
        known
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    });
    hint(text).filter(|_| !is_in_a_folder && !is_a_file)
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
    Ok((described::opened_as(&fetched, &beside)?, fetched))
}

struct Silent;

impl Progress for Silent {}

impl DownloadListener for Silent {
    fn planned(&mut self, _: &Plan) {}

    fn noted(&mut self, note: &str) {
        tracing::warn!("{note}");
    }
}
