//! `couplet classify`.

use anyhow::{anyhow, bail};
use couplet_eval::Classifier;

use super::{image_files, open_model};
use crate::ClassifyArguments;

/// Images that are read and encoded at once.
const IMAGE_BATCH: usize = 32;
/// A text that is its label and nothing else.
const LABEL_ONLY: &str = "{}";

pub(crate) fn run(arguments: &ClassifyArguments) -> anyhow::Result<u8> {
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
    let images = image_files(&arguments.images)?;
    let encoder = open_model(&arguments.model)?;
    let classifier = Classifier::new(&encoder, &labels, &templates)?;
    let scale: f32 = encoder.model().logit_scale.val().exp().into_scalar();
    for chunk in images.chunks(IMAGE_BATCH) {
        let scores: Vec<f32> = classifier
            .scores(encoder.encode_images(chunk)?)
            .into_data()
            .try_to_vec()
            .map_err(|error| anyhow!("{error:?}"))?;
        for (image, scores) in chunk.iter().zip(scores.chunks_exact(labels.len())) {
            println!("{}", image.display());
            for (label, share) in ranked(&labels, scores, scale)
                .into_iter()
                .take(arguments.top)
            {
                println!("  {:6.2} %  {label}", 100.0 * share);
            }
        }
    }
    Ok(0)
}

/// Labels by the softmax of their scaled similarities, the likeliest first.
fn ranked<'a>(labels: &'a [String], scores: &[f32], scale: f32) -> Vec<(&'a str, f32)> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores
        .iter()
        .map(|score| ((score - most) * scale).exp())
        .collect();
    let sum: f32 = weights.iter().sum();
    let mut ranked: Vec<_> = labels
        .iter()
        .map(String::as_str)
        .zip(weights.iter().map(|weight| weight / sum))
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}
