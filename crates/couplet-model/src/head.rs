//! A linear classifier on top of an image tower.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::Clip;
use crate::files::FolderError;
use crate::names::{ParameterMapper, map_parameters};
use crate::weights::{self, HostTensor, NamedTensors, WeightsError};

const WEIGHT: &str = "weight";
const BIAS: &str = "bias";
/// Where a file of a head keeps the names of its classes, as a JSON list.
const CLASS_NAMES: &str = "class_names";

/// Tells classes by an image's normalised features.
/// Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3.
#[derive(Module, Debug)]
pub struct ClassifierHead {
    /// `[classes, embed_dim]`
    weight: Param<Tensor<2>>,
    /// `[classes]`
    bias: Param<Tensor<1>>,
}

impl ClassifierHead {
    /// - weight: `[classes, embed_dim]`; the bias is 0.
    pub fn new(weight: Tensor<2>) -> Self {
        let bias = Tensor::zeros([weight.dims()[0]], &weight.device());
        Self::of(weight, bias)
    }

    fn of(weight: Tensor<2>, bias: Tensor<1>) -> Self {
        Self {
            weight: Param::from_tensor(weight),
            bias: Param::from_tensor(bias),
        }
    }

    /// - features: `[batch, embed_dim]`, L2-normalised.
    /// - returns logits `[batch, classes]`.
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        features.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }

    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Writes it with the names of its classes, and syncs it to disk.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path, class_names: &[String]) -> Result<(), WeightsError> {
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
    /// - returns the names of its classes too.
    ///
    /// # Errors
    /// If the file is damaged, or is not a head's.
    pub fn load(path: &Path, device: &Device) -> Result<(Self, Vec<String>), FolderError> {
        let mut tensors = weights::read(path)?.tensors;
        let names = weights::metadata(path)?.remove(CLASS_NAMES);
        let names = names.and_then(|names| serde_json::from_str::<Vec<String>>(&names).ok());
        let unsound = |message: &str| FolderError::unsound(path, &[message.to_string()]);
        let names = names.ok_or_else(|| unsound("it does not name its classes"))?;
        let (Some(weight), Some(bias)) = (tensors.remove(WEIGHT), tensors.remove(BIAS)) else {
            return Err(unsound("a head has a weight and a bias"));
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
        let head = Self::of(
            Tensor::from_data(weight.into_data(), device),
            Tensor::from_data(bias.into_data(), device),
        );
        Ok((head, names))
    }
}

impl Clip {
    /// The same model with a classifier, whose parameters are then visited as `head.weight`
    /// and `head.bias`.
    #[must_use]
    pub fn with_head(mut self, head: ClassifierHead) -> Self {
        self.head = Some(head);
        self
    }

    /// The same model without a classifier, and the classifier.
    #[must_use]
    pub fn split_head(mut self) -> (Self, Option<ClassifierHead>) {
        let head = self.head.take();
        (self, head)
    }

    /// The classifier, if it has one.
    pub fn head(&self) -> Option<&ClassifierHead> {
        self.head.as_ref()
    }

    /// The same model, of which only the image tower and the classifier ask for gradients.
    #[must_use]
    pub fn freeze_all_but_classifier(self) -> Self {
        struct Still;
        impl ParameterMapper for Still {
            fn map<const D: usize>(
                &mut self,
                name: &str,
                param: Param<Tensor<D>>,
            ) -> Param<Tensor<D>> {
                if name.starts_with("visual.") || name.starts_with("head.") {
                    param
                } else {
                    param.set_require_grad(false)
                }
            }
        }
        map_parameters(self, &mut Still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParameterVisitor, presets, visit_parameters};

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

    #[test]
    fn only_the_image_tower_and_the_head_are_trained() {
        struct Trained(Vec<String>);
        impl ParameterVisitor for Trained {
            fn visit<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
                    self.0.push(name.into());
                }
            }
        }
        let device = Device::flex().autodiff();
        let spec = presets::find("ViT-Ti-8-32").unwrap();
        let head = ClassifierHead::new(Tensor::zeros([3, spec.embed_dim], &device));
        let model = Clip::init(&spec, 0, &device).with_head(head);
        let mut trained = Trained(Vec::new());
        visit_parameters(&model.freeze_all_but_classifier(), &mut trained);
        assert!(
            trained.0.contains(&"head.weight".into()) && trained.0.contains(&"head.bias".into())
        );
        let is_part = |name: &String| name.starts_with("visual.") || name.starts_with("head.");
        assert!(trained.0.len() > 20 && trained.0.iter().all(is_part));
    }
}
