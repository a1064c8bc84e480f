//! A classifier's file: `head.safetensors`, with the names of its classes.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};

use crate::digest::FileDigest;
use crate::files::FolderError;
use crate::head::ClassifierHead;
use crate::tensors::{HostTensor, NamedTensors};
use crate::weights::{self, WeightsError};

const WEIGHT: &str = "weight";
const BIAS: &str = "bias";
/// The file's metadata key of the class names, a JSON list.
const CLASS_NAMES: &str = "class_names";

impl ClassifierHead {
    /// Writes the classifier with the names of its classes, and syncs the file to disk.
    /// - returns the file's digest.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, class_names: &[String]) -> Result<FileDigest, WeightsError> {
        let tensors = NamedTensors::from([
            (WEIGHT.into(), HostTensor::from_tensor(self.weight.val())),
            (BIAS.into(), HostTensor::from_tensor(self.bias.val())),
        ]);
        let names = serde_json::to_string(class_names).expect("names have a JSON form");
        weights::save_with(
            path,
            &tensors,
            BTreeMap::from([(CLASS_NAMES.into(), names)]),
        )
    }

    /// Reads what [`Self::save`] wrote.
    /// - returns the classifier and the names of its classes.
    ///
    /// # Errors
    /// If the file is damaged, or is not a classifier's.
    pub fn load(path: &Path, device: &Device) -> Result<(Self, Vec<String>), FolderError> {
        let names = weights::metadata(path)?.remove(CLASS_NAMES);
        let mut tensors = weights::read(path)?.tensors;
        let names = names.and_then(|names| serde_json::from_str::<Vec<String>>(&names).ok());
        let unsound = |message: &str| FolderError::unsound(path, &[message.to_string()]);
        let names = names.ok_or_else(|| unsound("the metadata `class_names` is missing"))?;
        let (Some(weight), Some(bias)) = (tensors.remove(WEIGHT), tensors.remove(BIAS)) else {
            return Err(unsound(
                "a classifier needs the tensors `weight` and `bias`",
            ));
        };
        if weight.shape.len() != 2 || weight.shape[0] != names.len() || bias.shape != [names.len()]
        {
            return Err(unsound(&format!(
                "{} classes with weights {:?} and biases {:?}",
                names.len(),
                weight.shape,
                bias.shape
            )));
        }
        weights::check_finite(path, [(WEIGHT, &weight), (BIAS, &bias)])?;
        let head = Self::from_parts(
            Tensor::from_data(weight.into_data(), device),
            Tensor::from_data(bias.into_data(), device),
        );
        Ok((head, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Clip;
    use crate::presets;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.safetensors");
        let device = Device::flex();
        let weight = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, -4.0], [0.5, 0.0]], &device);
        let names: Vec<String> = ["a cat", "\"dog\"", "ibis"].map(String::from).into();
        ClassifierHead::new(weight).save(&path, &names).unwrap();
        let (head, read) = ClassifierHead::load(&path, &device).unwrap();
        assert_eq!((read, head.classes()), (names, 3));
        let logits = head.forward(Tensor::<2>::from_floats([[1.0, 1.0]], &device));
        assert_eq!(
            logits.into_data().try_to_vec::<f32>().unwrap(),
            [3.0, -1.0, 0.5]
        );
        let spec = presets::find("ViT-Ti-8-32").unwrap();
        let tensors = weights::parameters(&Clip::init(&spec, 0, &device));
        weights::save(&path, &tensors).unwrap();
        let error = ClassifierHead::load(&path, &device)
            .unwrap_err()
            .to_string();
        assert!(error.contains("head.safetensors"), "{error}");
    }
}
