//! The training loss over pairs that are not trained on, and retrieval among them.

use burn::module::Param;
use burn::tensor::Tensor;
use couplet_eval::{Encoder, Metrics, Protocol, Report, retrieval_metrics};
use couplet_loss::{Features, Loss, default_chunk};
use couplet_model::l2_normalize;

use super::TrainError;
use crate::config::CheckedData;

/// Reads the pairs in batches as large as in training, without augmentation and in an order
/// that is the same each time. Pairs that fill no batch are left out.
/// - chunk: pairs that are encoded at once.
/// - progress: told how many pairs are done, and of how many.
pub(super) fn held_out(
    encoder: &Encoder,
    data: &CheckedData,
    loss: Loss,
    chunk: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<Report, TrainError> {
    let loader = data.start_loader(couplet_data::loader::Position::default());
    let loader = loader.map_err(TrainError::Threads)?;
    let batches = data.epoch_len / data.batch_size;
    let model = encoder.model();
    let (mut images, mut texts) = (Vec::new(), Vec::new());
    let (mut sum, mut skipped) = (0.0, 0);
    for at in 0..batches {
        let batch = loader.next_batch()?;
        skipped += batch.skipped.len();
        let (mut image, mut text) = (Vec::new(), Vec::new());
        for start in (0..batch.len()).step_by(chunk.max(1)) {
            let rows = start..batch.len().min(start + chunk.max(1));
            let (tokens, length) = batch.tokens(rows.clone());
            image.push(encoder.encode_pixels_raw(batch.pixels(rows)));
            text.push(encoder.encode_tokens_raw(tokens, length));
        }
        let features = Features {
            image: l2_normalize(Tensor::cat(image, 0)),
            text: l2_normalize(Tensor::cat(text, 0)),
            logit_scale: model.logit_scale.val(),
            logit_bias: model.logit_bias.as_ref().map(Param::val),
        };
        let rows_at_once = default_chunk(batch.len());
        for start in (0..batch.len()).step_by(rows_at_once) {
            let rows = start..batch.len().min(start + rows_at_once);
            let part: f32 = loss.of_rows(rows, features.clone()).into_scalar();
            sum += f64::from(part);
        }
        images.push(features.image);
        texts.push(features.text);
        progress((at + 1) * data.batch_size, batches * data.batch_size);
    }
    let pairs = batches * data.batch_size;
    let each: Vec<usize> = (0..pairs).collect();
    let retrieval = retrieval_metrics(&Tensor::cat(images, 0), &Tensor::cat(texts, 0), &each);
    #[expect(clippy::cast_precision_loss, reason = "batches are few")]
    let mean = sum / batches as f64;
    let metrics = [vec![(crate::config::LOSS, mean)], retrieval.0].concat();
    Ok(Report {
        dataset: crate::config::HELD_OUT.into(),
        protocol: Protocol::HeldOut,
        metrics: Metrics(metrics),
        images: pairs,
        targets: pairs,
        skipped,
    })
}
