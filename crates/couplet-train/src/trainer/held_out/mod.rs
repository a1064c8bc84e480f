//! Evaluation on held-out pairs: the training loss, and retrieval among them.

mod pairs;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use couplet_data::Skipped;
use couplet_eval::metric::LOSS;
use couplet_eval::{Division, Encoder, Metrics, Protocol, Report, retrieval_metrics};
use couplet_loss::{Features, PairLoss, default_chunk, parts};
use couplet_model::l2_normalize;

use super::TrainError;
use crate::config::{HELD_OUT, ResolvedData};
use pairs::PairFeatures;

/// Evaluates every pair once, without augmentation, in batches of the training size and in the
/// same order each time; the last batch may be smaller. As in open_clip, a batch's loss is
/// weighted by its number of pairs.
/// - most: pairs that may be encoded at once.
/// - division: the ranks that encode the pairs together, all with the same `most`; `None` to encode them
///   alone. All get the numbers of one rank.
/// - progress: called with the number of pairs done and their total; if there are other ranks, with an
///   estimate from this rank's.
/// - returns the report, and the samples that were skipped.
///
/// # Errors
/// If the data cannot be read on some rank, fewer than two pairs can be used, or the loss is not finite.
pub(super) fn held_out(
    encoder: &Encoder,
    data: &ResolvedData,
    (loss, most): (&dyn PairLoss, usize),
    division: Option<&dyn Division>,
    progress: impl FnMut(usize, usize),
) -> Result<(Report, Vec<Skipped>), TrainError> {
    let PairFeatures {
        images,
        texts,
        skipped,
    } = match division.filter(|division| division.ranks() > 1) {
        Some(division) => PairFeatures::encode_divided(encoder, data, most, division, progress)?,
        None => PairFeatures::encode(encoder, data, 0..data.epoch_len, most, progress)?,
    };
    let model = encoder.model();
    let (device, embed_dim) = (model.device(), encoder.spec().embed_dim);
    let pairs = images.len() / embed_dim.max(1);
    if pairs < 2 {
        return Err(TrainError::NothingHeldOut(skipped.into_iter().next()));
    }
    let images = unit_rows(images, embed_dim, &device);
    let texts = unit_rows(texts, embed_dim, &device);
    let mut losses = Vec::new();
    for start in (0..pairs).step_by(data.batch_size) {
        let len = data.batch_size.min(pairs - start);
        let features = Features {
            image: images.clone().narrow(0, start, len),
            text: texts.clone().narrow(0, start, len),
            logit_scale: model.logit_scale.val(),
            logit_bias: model.logit_bias.as_ref().map(Param::val),
        };
        #[expect(clippy::cast_precision_loss, reason = "pairs are few")]
        let weight = len as f64;
        let parts = parts(loss, &features, default_chunk(len));
        losses.extend(parts.into_iter().map(|part| (part, weight)));
    }
    // Read last, so that a GPU is not idle between them.
    let mut sum = 0.0;
    for (part, weight) in losses {
        sum += f64::from(part.into_scalar::<f32>()) * weight;
    }
    // Each feature takes part in the loss: one that is not finite makes it so.
    if !sum.is_finite() {
        return Err(TrainError::HeldOutNotFinite { loss: sum });
    }
    let each: Vec<usize> = (0..pairs).collect();
    let retrieval = retrieval_metrics(&images, &texts, &each);
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

/// - values: `[rows, width]`; returns the same shape, L2-normalized.
fn unit_rows(values: Vec<f32>, width: usize, device: &Device) -> Tensor<2> {
    let shape = [values.len() / width.max(1), width];
    l2_normalize(Tensor::from_data(TensorData::new(values, shape), device))
}

#[cfg(test)]
mod tests;
