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
    let looks_so = name.starts_with("hf:") || name.starts_with("hf-hub:") || name.contains('@');
    if looks_so {
        return Err(PretrainedError::Unavailable { name: name.into() });
    }
    Ok(None)
}
