//! The features of held-out pairs, computed alone or by all ranks together.

use std::ops::Range;

use burn::tensor::Tensor;
use couplet_data::{Skipped, with_causes};
use couplet_eval::division::{append_values, read_values};
use couplet_eval::{Division, DivisionError, Encoder};
use serde::{Deserialize, Serialize};

use super::super::TrainError;
use crate::config::ResolvedData;

/// Pairs that are encoded at once, if no fewer may be: as few as in other evaluations, so that every rank has
/// some.
const PAIRS: usize = 64;
/// The bytes of a length in a message.
const LEN: usize = size_of::<u64>();

/// Features of pairs, and the samples that have none.
#[derive(Debug, Default)]
pub(super) struct PairFeatures {
    /// `[pairs, embed_dim]`, not normalized.
    pub images: Vec<f32>,
    pub texts: Vec<f32>,
    pub skipped: Vec<Skipped>,
}

/// What a rank's message holds after its features.
#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    /// The number of samples that all ranks read together.
    samples: usize,
    skipped: Vec<Skipped>,
}

impl PairFeatures {
    /// Encodes the usable ones of neighbouring samples. The model gets those of the same samples at once,
    /// whichever others are encoded or unusable.
    /// - samples: by their places in the order of evaluation, from a multiple of what is encoded at once.
    /// - progress: called with an estimate of all samples that are done, and their total.
    pub fn encode(
        encoder: &Encoder,
        data: &ResolvedData,
        samples: Range<usize>,
        most: usize,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self, TrainError> {
        let mut found = Self::default();
        if samples.is_empty() {
            return Ok(found);
        }
        let loader = data.load_once(samples.clone(), at_once(most));
        let loader = loader.map_err(TrainError::Threads)?;
        let mut done = samples.start;
        while done < samples.end {
            let mut batch = loader.next_batch()?;
            let is_last = batch.next.epoch > 0;
            done = if is_last {
                samples.end
            } else {
                batch.next.samples()
            };
            found.skipped.append(&mut batch.skipped);
            if !batch.is_empty() {
                let rows = 0..batch.len();
                let (tokens, length) = batch.tokens(rows.clone());
                let images = encoder.encode_pixels_raw(batch.pixels(rows));
                let texts = encoder.encode_tokens_raw(tokens, length);
                found.images.append(&mut values(images));
                found.texts.append(&mut values(texts));
            }
            let own = (done - samples.start) * data.epoch_len / samples.len();
            progress(own, data.epoch_len);
        }
        Ok(found)
    }

    /// Encodes this rank's share of all samples, and gets the features of the others', in one exchange.
    pub fn encode_divided(
        encoder: &Encoder,
        data: &ResolvedData,
        most: usize,
        division: &dyn Division,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Self, TrainError> {
        let own = division.share(division.rank(), data.epoch_len, at_once(most));
        let own = Self::encode(encoder, data, own, most, &mut progress);
        let own = own.map(|own| own.to_message(data.epoch_len));
        let all = division.gather_results(own.map_err(|error| with_causes(&error)))?;
        progress(data.epoch_len, data.epoch_len);
        let (mut found, mut samples) = (Self::default(), None);
        for (rank, message) in all.into_iter().enumerate() {
            let differs = |what: &str| DivisionError::Differs {
                rank,
                what: what.into(),
            };
            let rest = found.add_message(&message);
            let rest = rest.ok_or_else(|| differs("the version of the program"))?;
            if *samples.get_or_insert(rest) != rest {
                return Err(differs("the number of pairs in `data.val`").into());
            }
        }
        Ok(found)
    }

    /// - samples: the number of samples that all ranks read together.
    fn to_message(&self, samples: usize) -> Vec<u8> {
        let rest = Rest {
            samples,
            skipped: self.skipped.clone(),
        };
        let rest = serde_json::to_vec(&rest).expect("numbers and texts serialize as JSON");
        let values = self.images.len() + self.texts.len();
        let mut message = Vec::with_capacity(values * 4 + rest.len() + LEN + 1);
        append_values(&mut message, &self.images);
        append_values(&mut message, &self.texts);
        message.extend(&rest);
        message.extend((rest.len() as u64).to_le_bytes());
        message
    }

    /// Adds the pairs of a rank that follow these.
    /// - returns the rank's number of samples; `None` if it is not a message of this program's version.
    fn add_message(&mut self, message: &[u8]) -> Option<usize> {
        let (message, len) = message.split_last_chunk::<LEN>()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let (values, rest) = message.split_at_checked(message.len().checked_sub(len)?)?;
        let mut rest: Rest = serde_json::from_slice(rest).ok()?;
        if !values.len().is_multiple_of(8) {
            return None;
        }
        let (images, texts) = values.split_at(values.len() / 2);
        self.images.extend(read_values(images));
        self.texts.extend(read_values(texts));
        self.skipped.append(&mut rest.skipped);
        Some(rest.samples)
    }
}

/// - most: pairs that may be encoded at once.
fn at_once(most: usize) -> usize {
    most.clamp(1, PAIRS)
}

fn values(features: Tensor<2>) -> Vec<f32> {
    (features.into_data().try_to_vec()).expect("features are f32")
}
