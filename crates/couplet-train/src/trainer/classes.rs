//! What a run that learns to tell classes starts from.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use couplet_eval::{Classifier, Encoder};
use couplet_model::{ClassifierHead, Clip};

use super::TrainError;
use crate::config::{Classes, HeadStart, ResolvedRun};

/// The head of a run's first step.
pub(super) fn first_head(
    model: &Clip,
    checked: &ResolvedRun,
    classes: &Classes,
    device: &Device,
) -> Result<ClassifierHead, TrainError> {
    let data = &checked.data;
    let spec = checked.config.model.spec();
    let names = &classes.class_names;
    let weight = match classes.head {
        HeadStart::Zeros => Tensor::zeros([names.len(), spec.embed_dim], device),
        HeadStart::ZeroShot => {
            let tokenizer = data.tokens.tokenizer.clone();
            let encoder = Encoder::new(model.valid(), &spec, &data.preprocess, tokenizer)?;
            let classifier = Classifier::new(&encoder, names, &classes.templates)?;
            let scale: f32 = encoder.model().logit_scale.val().exp().into_scalar();
            Tensor::from_inner(classifier.into_weights().mul_scalar(scale))
        }
    };
    Ok(ClassifierHead::new(weight))
}
