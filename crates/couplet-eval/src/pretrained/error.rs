use std::io;
use std::path::PathBuf;

use couplet_hub::HubError;
use couplet_model::FolderError;

/// Why a model could not be had by its name.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    #[error(transparent)]
    Hub(Box<HubError>),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{}: cannot be written", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl From<HubError> for PretrainedError {
    fn from(error: HubError) -> Self {
        Self::Hub(Box::new(error))
    }
}
