//! The images of a labelled set, each with its class.

use super::{Source, SourceError};
use crate::labelled::{LabelledSet, Targets};
use crate::sample::{Fault, Sample};

/// Images of classes; a caption is the class's name in a template.
pub(super) struct LabelledSource {
    images: LabelledSet,
    labels: Vec<usize>,
    /// One a class.
    captions: Vec<String>,
}

impl LabelledSource {
    /// - captions: one a class.
    pub fn new(images: LabelledSet, captions: Vec<String>) -> Result<Self, SourceError> {
        let fail = |message: String| SourceError {
            path: images.path().to_path_buf(),
            message,
        };
        let Targets::Classes(labels) = images.targets() else {
            return Err(fail("a classifier needs one class an image".into()));
        };
        let classes = captions.len();
        if let Some(label) = labels.iter().find(|label| **label >= classes) {
            return Err(fail(format!(
                "a training image has the label {label}, of {classes} classes"
            )));
        }
        Ok(Self {
            labels: labels.clone(),
            images,
            captions,
        })
    }
}

impl Source for LabelledSource {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, Fault> {
        let label = self.labels[index];
        Ok(Sample {
            picture: self.images.picture(index)?,
            caption: self.captions[label].clone(),
            label: Some(label),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        self.images.locate(index)
    }
}
