//! What was found at a path, and samples of it.

use std::path::{Path, PathBuf};

use super::trial::Trial;
use crate::formats::DataError;
use crate::source::SourceConfig;

/// What was found at a path.
#[derive(Debug)]
pub struct Detected {
    /// The training pairs.
    pub source: SourceConfig,
    /// What they are, for people: `images with a .txt next to each`.
    pub kind: String,
    /// Samples that were read to find out.
    pub trial: Trial,
    /// The validation split, if there is one of the same kind.
    pub val: Option<SourceConfig>,
    /// A folder of classes with the test images, if the data are classes.
    pub test_classes: Option<PathBuf>,
    /// What was found beside and is not used.
    pub notes: Vec<String>,
}

/// A split's source and what it is, before samples are read.
pub(super) struct Candidate {
    pub source: SourceConfig,
    pub kind: String,
}

impl Detected {
    /// Reads samples of a candidate.
    /// - place: what the error names.
    pub(super) fn of(candidate: Candidate, place: &Path) -> Result<Self, DataError> {
        let trial = Trial::run(&candidate.source)?;
        if trial.read == 0 {
            let problem = trial.problem.as_deref().unwrap_or("there are no samples");
            let message = format!("{}, but none can be read: {problem}", candidate.kind);
            return Err(DataError::invalid(place, message));
        }
        Ok(Self {
            source: candidate.source,
            kind: candidate.kind,
            trial,
            val: None,
            test_classes: None,
            notes: Vec::new(),
        })
    }
}
