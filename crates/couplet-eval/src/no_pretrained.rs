//! Models by name in a build that cannot download them.

use std::path::PathBuf;

/// Why a model could not be had by its name.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    #[error(
        "{name}: there is no such path. If it names pretrained weights: this build cannot download them; build with the \
         feature `hub`, or give the path of a downloaded model"
    )]
    Unavailable { name: String },
}

/// `None` for a text that does not look like a model's name.
///
/// # Errors
/// If it does.
pub fn named_model(name: &str) -> Result<Option<PathBuf>, PretrainedError> {
    if is_model_name(name) {
        return Err(PretrainedError::Unavailable { name: name.into() });
    }
    Ok(None)
}

/// Whether a text looks like a name of weights.
pub fn is_model_name(text: &str) -> bool {
    let is_tagged = text.contains('@') && !text.contains(['/', '\\']);
    text.starts_with("hf:") || text.starts_with("hf-hub:") || is_tagged
}

/// What a text that is neither a path nor a name was probably meant to be: this build knows no names.
pub fn name_hint(_text: &str) -> Option<String> {
    None
}
