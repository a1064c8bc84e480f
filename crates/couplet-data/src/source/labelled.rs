//! The images of a labelled dataset as pairs, each with its class.

use super::dataset::{MapDataset, PairDataset};
use crate::formats::DataError;
use crate::labelled::{LabelledDataset, Targets};
use crate::listing::ListedFile;
use crate::sample::{Sample, SampleError};

/// Images of classes; the caption is a template filled with the class name.
struct LabelledPairs {
    images: LabelledDataset,
    labels: Vec<usize>,
    /// One per class.
    captions: Vec<String>,
}

/// The images of a labelled dataset as pairs, each with its class.
/// - captions: one per class.
///
/// # Errors
/// If the dataset does not have one class per image, or a class has no caption.
pub fn labelled_pairs(
    images: LabelledDataset,
    captions: Vec<String>,
) -> Result<PairDataset, DataError> {
    let fail = |message: String| DataError::invalid(images.path(), message);
    let Targets::Classes(labels) = images.targets() else {
        return Err(fail("a classifier needs one class per image".into()));
    };
    let classes = captions.len();
    if let Some(label) = labels.iter().find(|label| **label >= classes) {
        return Err(fail(format!(
            "a training image has the label {label}, but there are {classes} classes"
        )));
    }
    Ok(PairDataset::indexed(LabelledPairs {
        labels: labels.clone(),
        images,
        captions,
    }))
}

impl MapDataset for LabelledPairs {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, index: usize, _epoch: u64) -> Result<Sample, SampleError> {
        let label = self.labels[index];
        Ok(Sample {
            image: self.images.read(index)?,
            caption: self.captions[label].clone(),
            label: Some(label),
        })
    }

    fn locate(&self, index: usize, _epoch: u64) -> (String, String) {
        self.images.locate(index)
    }

    fn listing(&self) -> Vec<ListedFile> {
        self.images.files()
    }
}
