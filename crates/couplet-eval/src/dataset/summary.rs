//! What is known of a dataset before its images are opened.

use std::path::PathBuf;

use couplet_data::labelled::{LabelledConfig, Split};
use serde::Serialize;

use super::DatasetConfig;
use super::main_metric::MainMetric;

/// Side of drawn images that are only counted, in pixels.
const ANY_SIZE: u32 = 32;

/// What a dataset file says, and whether its files are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetSummary {
    pub name: String,
    /// `classification` or `retrieval`.
    pub task: &'static str,
    /// `None` if the file does not say.
    pub classes: Option<usize>,
    /// The first file or folder of the test images, where it is or should be; `None` if Couplet draws them.
    pub path: Option<PathBuf>,
    /// Whether the files of the test images are there.
    pub is_there: bool,
    /// Where to get the files.
    pub origin: Option<String>,
    pub citation: Option<String>,
    /// The metric by which results are compared; `None` if the file does not say.
    pub metric: Option<MainMetric>,
}

impl DatasetConfig {
    /// What the dataset file says.
    pub fn summary(&self) -> DatasetSummary {
        let task = if self.source.has_captions() {
            "retrieval"
        } else {
            "classification"
        };
        let given = self.given_class_names().ok().flatten();
        let drawn = match &self.source {
            LabelledConfig::Shapes(_) => self.source.open(Split::Test, ANY_SIZE).ok(),
            _ => None,
        };
        let drawn = drawn.and_then(|images| Some(images.class_names()?.len()));
        let missing = self
            .missing
            .iter()
            .find(|(_, split, _)| *split == Split::Test);
        let sought = missing.and_then(|(_, _, missing)| missing.sought.first().cloned());
        DatasetSummary {
            name: self.name.clone(),
            task,
            classes: given.map(|names| names.len()).or(drawn),
            is_there: missing.is_none(),
            path: sought.or_else(|| self.source.first_path()),
            origin: self.origin.clone(),
            citation: self.citation.clone(),
            metric: self.metric,
        }
    }
}
