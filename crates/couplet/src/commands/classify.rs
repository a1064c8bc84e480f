//! `couplet classify`.

use anyhow::bail;
use burn::tensor::Tensor;
use couplet_data::LastCause;
use couplet_eval::{Classifier, Encoder};

use super::{image_files, open_model};
use crate::ClassifyArguments;

/// Images that are read and encoded at once.
const IMAGE_BATCH: usize = 32;
/// A text that is its label and nothing else.
const LABEL_ONLY: &str = "{}";

pub(crate) fn run(arguments: &ClassifyArguments) -> anyhow::Result<u8> {
    let images = image_files(&arguments.images)?;
    let (encoder, labels, logits) = if arguments.labels.is_empty() {
        of_head(arguments)?
    } else {
        of_labels(arguments)?
    };
    for chunk in images.chunks(IMAGE_BATCH) {
        let logits: Vec<f32> = logits(encoder.encode_images(chunk)?)
            .into_data()
            .try_to_vec()
            .map_err(LastCause)?;
        for (image, logits) in chunk.iter().zip(logits.chunks_exact(labels.len())) {
            println!("{}", image.display());
            for (label, share) in ranked(&labels, logits).into_iter().take(arguments.top) {
                println!("  {:6.2} %  {label}", 100.0 * share);
            }
        }
    }
    Ok(0)
}

/// From normalised image features to `[images, labels]`.
type Logits = Box<dyn Fn(Tensor<2>) -> Tensor<2>>;

/// By the classes that the model was fine-tuned to tell.
fn of_head(arguments: &ClassifyArguments) -> anyhow::Result<(Encoder, Vec<String>, Logits)> {
    let encoder = open_model(&arguments.model)?;
    let Some(head) = encoder.head().cloned() else {
        bail!(
            "{}: the model has no head of its own; say by --labels what the images may show",
            arguments.model.model.display()
        );
    };
    let logits = move |features| head.classifier.forward(features);
    Ok((encoder, head.class_names, Box::new(logits)))
}

/// By the texts that are given.
fn of_labels(arguments: &ClassifyArguments) -> anyhow::Result<(Encoder, Vec<String>, Logits)> {
    let labels: Vec<String> = arguments
        .labels
        .iter()
        .map(|label| label.trim().to_string())
        .collect();
    if labels.len() < 2 || labels.iter().any(String::is_empty) {
        bail!("--labels takes at least two, divided by commas, such as \"a dog,a cat\"");
    }
    let templates = if arguments.template.is_empty() {
        vec![LABEL_ONLY.to_string()]
    } else {
        arguments.template.clone()
    };
    if let Some(template) = templates.iter().find(|template| !template.contains("{}")) {
        bail!("--template \"{template}\" has no {{}} for the label");
    }
    let encoder = open_model(&arguments.model)?;
    let classifier = Classifier::new(&encoder, &labels, &templates)?;
    let scale: f32 = encoder.model().logit_scale.val().exp().into_scalar();
    let logits = move |features| classifier.scores(features).mul_scalar(scale);
    Ok((encoder, labels, Box::new(logits)))
}

/// Labels by the softmax of their logits, the likeliest first.
fn ranked<'a>(labels: &'a [String], logits: &[f32]) -> Vec<(&'a str, f32)> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f32 = weights.iter().sum();
    let mut ranked: Vec<_> = labels
        .iter()
        .map(String::as_str)
        .zip(weights.iter().map(|weight| weight / sum))
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}
