//! What a first config is made from, besides the data.

use couplet_data::source::SourceConfig;

/// What a user decides about a first config; the rest follows from the data.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The run's name.
    pub name: String,
    /// What the config's file is called, for the commands in its head.
    pub file: String,
    /// A preset, instead of one for the number of pairs and the size of images.
    pub preset: Option<String>,
    pub device: Option<String>,
    /// Held-out pairs.
    pub val: Option<SourceConfig>,
}

/// Sizes that follow from the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub batch: usize,
    pub micro: Option<usize>,
    pub epochs: usize,
}
