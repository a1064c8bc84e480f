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
    /// Nothing of this kind is found of it, however often one looks.
    #[error("{0}")]
    Unfit(String),
}
