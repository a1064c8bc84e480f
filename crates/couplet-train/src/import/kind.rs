//! Kinds of training data.

/// What kind of data a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    WebDataset,
    Csv,
    Synthetic,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::WebDataset => "webdataset",
            Self::Csv => "csv",
            Self::Synthetic => "shapes",
        }
    }
}
