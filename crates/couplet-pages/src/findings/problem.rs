//! Why a dataset was not looked at.

/// Why a dataset was not looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Texts(#[from] couplet_eval::ClassifierError),
    #[error(transparent)]
    Features(#[from] couplet_eval::NotFinite),
    #[error(transparent)]
    Dataset(#[from] couplet_eval::DatasetError),
    #[error("{0}")]
    Other(String),
}
