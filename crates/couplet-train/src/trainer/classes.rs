//! The initial classification head of a run with `[classify]`.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use couplet_eval::{Classifier, Encoder};
use couplet_model::{ClassifierHead, Clip};

use super::TrainError;
use crate::config::{Classes, HeadStart, ResolvedRun};

/// The head that a new run starts from: zeros, or the zero-shot classifier of the class names.
pub(super) fn first_head(
    model: &Clip,
    run: &ResolvedRun,
    classes: &Classes,
    device: &Device,
) -> Result<ClassifierHead, TrainError> {
    let data = &run.data;
    let spec = run.config.model.spec();
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

/// What a classification head starts from.
pub(super) fn describe_head(classes: &Classes) -> String {
    let from = match classes.head {
        HeadStart::Zeros => "initialized with zeros",
        HeadStart::ZeroShot => "initialized with the features of the class names",
    };
    let count = classes.class_names.len();
    format!("new        a head of {count} classes, {from}")
}
