//! Images of colored shapes for evaluation.

use std::hash::Hasher;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{Images, LabelledDataset, Split, Targets};
use crate::sample::{ImageData, SampleError};
use crate::shapes::{LabelledShapes, ShapesClasses, ShapesSplit};

/// `source = "shapes"` in a dataset file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelledShapesConfig {
    /// Which (shape, color) pairs the test images show.
    pub split: ShapesSplit,
    /// What counts as a class: the shapes, or the (shape, color) pairs.
    pub classes: ShapesClasses,
    /// Number of images in each split.
    pub samples: usize,
}

impl LabelledShapesConfig {
    pub(super) fn open(&self, split: Split, image_size: u32) -> LabelledDataset {
        let shapes = LabelledShapes {
            split: match split {
                Split::Test => self.split,
                Split::Train => ShapesSplit::Train,
            },
            classes: self.classes,
            image_size,
        };
        let labels = (0..self.samples).map(|index| shapes.label(index));
        LabelledDataset {
            path: "shapes".into(),
            class_names: Some(shapes.class_names()),
            templates: None,
            targets: Targets::Classes(labels.collect()),
            images: Box::new(shapes),
        }
    }
}

impl Images for LabelledShapes {
    fn read(&self, index: usize) -> Result<ImageData, SampleError> {
        Ok(Self::read(self, index))
    }

    fn locate(&self, index: usize) -> (String, String) {
        ("shapes".into(), index.to_string())
    }

    fn fingerprint(&self, hasher: &mut dyn Hasher) {
        let split = match self.split {
            ShapesSplit::Test => 0,
            ShapesSplit::HeldOut => 1,
            ShapesSplit::Train => 2,
        };
        hasher.write(&[split]);
        hasher.write(&self.image_size.to_le_bytes());
    }
}
