//! Evaluation on held-out pairs: the training loss, and retrieval among them.

use burn::module::Param;
use burn::tensor::Tensor;
use couplet_data::Skipped;
use couplet_data::loader::LoaderState;
use couplet_eval::metric::LOSS;
use couplet_eval::{Encoder, Metrics, Protocol, Report, retrieval_metrics};
use couplet_loss::{Features, PairLoss, default_chunk, parts};
use couplet_model::l2_normalize;

use super::TrainError;
use crate::config::{HELD_OUT, ResolvedData};

/// Evaluates every pair once, without augmentation, in batches of the training size and in the
/// same order each time; the last batch may be smaller. As in open_clip, a batch's loss is
/// weighted by its number of pairs.
/// - chunk: pairs to encode at once.
/// - progress: called with the number of pairs done and their total.
/// - returns the report, and the samples that were skipped.
///
/// # Errors
/// If the data cannot be read, fewer than two pairs can be used, or the loss is not finite.
pub(super) fn held_out(
    encoder: &Encoder,
    data: &ResolvedData,
    loss: &dyn PairLoss,
    chunk: usize,
    mut progress: impl FnMut(usize, usize),
) -> Result<(Report, Vec<Skipped>), TrainError> {
    let loader = data.start_loader(&LoaderState::default());
    let loader = loader.map_err(TrainError::Threads)?;
    let model = encoder.model();
    let (mut images, mut texts, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    let (mut sum, mut pairs, mut is_last) = (0.0, 0, false);
    while !is_last {
        let mut batch = loader.next_batch()?;
        is_last = batch.next.epoch > 0;
        skipped.append(&mut batch.skipped);
        if batch.is_empty() {
            continue;
        }
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
        #[expect(clippy::cast_precision_loss, reason = "pairs are few")]
        let weight = batch.len() as f64;
        for part in parts(loss, &features, default_chunk(batch.len())) {
            let part: f32 = part.into_scalar();
            sum += f64::from(part) * weight;
        }
        images.push(features.image);
        texts.push(features.text);
        pairs += batch.len();
        progress(pairs + skipped.len(), data.epoch_len);
    }
    if pairs < 2 {
        return Err(TrainError::NothingHeldOut(skipped.into_iter().next()));
    }
    // Each feature takes part in the loss: one that is not finite makes it so.
    if !sum.is_finite() {
        return Err(TrainError::HeldOutNotFinite { loss: sum });
    }
    let each: Vec<usize> = (0..pairs).collect();
    let retrieval = retrieval_metrics(&Tensor::cat(images, 0), &Tensor::cat(texts, 0), &each);
    #[expect(clippy::cast_precision_loss, reason = "pairs are few")]
    let mean = sum / pairs as f64;
    let metrics = [vec![LOSS.of(mean)], retrieval.0].concat();
    let report = Report {
        dataset: HELD_OUT.into(),
        protocol: Protocol::HeldOut,
        metrics: Metrics(metrics),
        images: pairs,
        targets: pairs,
        skipped: skipped.iter().map(|one| one.samples).sum(),
    };
    Ok((report, skipped))
}
