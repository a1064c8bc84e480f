//! The images of a labelled set, each with its class.

use super::{MapDataset, SourceError};
use crate::labelled::{LabelledDataset, Targets};
use crate::sample::{Sample, SampleError};

/// Images of classes; a caption is the class's name in a template.
pub(super) struct LabelledSource {
    images: LabelledDataset,
    labels: Vec<usize>,
    /// One a class.
    captions: Vec<String>,
}

impl LabelledSource {
    /// - captions: one a class.
    pub fn new(images: LabelledDataset, captions: Vec<String>) -> Result<Self, SourceError> {
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

impl MapDataset for LabelledSource {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
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
