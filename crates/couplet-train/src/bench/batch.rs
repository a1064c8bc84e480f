//! A batch of random pixels and captions.

use std::convert::Infallible;

use burn::tensor::Device;
use couplet_data::loader::{HostBatch, TOKEN_MULTIPLE};
use couplet_model::ModelSpec;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::settings::StepBenchSettings;
use crate::feed::{FedBatches, is_fed, pixel_bytes};
use crate::step::StepBatch;

/// The same batch for every step, on a GPU fed as in training.
pub(super) enum Batches {
    Host(Box<dyn Fn() -> HostBatch>),
    Gpu(FedBatches<Infallible>),
}

impl Batches {
    /// - device: without autodiff; first_pair: number of the batch's first pair among those of all ranks.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(
        settings: &StepBenchSettings,
        device: &Device,
        first_pair: u64,
    ) -> std::io::Result<Self> {
        let (batch, length) = (settings.batch, settings.tokens());
        let (pixels, tokens) = (pixels(settings), captions(settings, first_pair));
        let has_labels = settings.classes.is_some();
        let host = move || {
            let row = tokens.len() / batch;
            let mut host = HostBatch::from_host(&pixels, tokens.clone(), row, vec![length; batch]);
            if has_labels {
                host.labels = vec![0; batch];
            }
            host
        };
        let side = settings.spec.image.image_size();
        let kind = settings.device.resolved();
        if !is_fed(kind, pixel_bytes(kind, batch, side)) {
            return Ok(Self::Host(Box::new(host)));
        }
        let fed = FedBatches::start(device.clone(), side, move |_| Some(Ok(host())))?;
        Ok(Self::Gpu(fed))
    }

    pub fn next_batch(&self) -> StepBatch {
        match self {
            Self::Host(host) => host().into(),
            Self::Gpu(fed) => {
                let Ok(batch) = fed.batches().recv().expect("the thread goes on");
                batch
            }
        }
    }
}

/// Pseudo-random pixels, `[batch, height, width, 3]`.
pub(super) fn pixels(settings: &StepBenchSettings) -> Vec<u8> {
    let side = settings.spec.image.image_size();
    let mut state = 0x9e37_79b9_u32;
    let pixels = (0..settings.batch * side * side * 3).map(|_| {
        // Source: Marsaglia 2003, "Xorshift RNGs".
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    });
    pixels.collect()
}

/// Token ids `[batch, padded length]` of captions of the settings' length, padded as in the loader.
/// Words are as frequent as in texts: the n-th one of the vocabulary 1/n as often as the first (Zipf's law).
/// - first_pair: number of the batch's first pair among those of all ranks.
#[expect(clippy::cast_possible_truncation, reason = "vocabularies are small")]
pub(super) fn captions(settings: &StepBenchSettings, first_pair: u64) -> Vec<i32> {
    let spec = &settings.spec;
    let length = settings.tokens();
    let row = padded(spec, length);
    let last = i32::try_from(spec.text.vocab_size).unwrap_or(i32::MAX) - 1;
    let mut tokens = Vec::with_capacity(settings.batch * row);
    for pair in 0..settings.batch {
        let mut draws = ChaCha8Rng::seed_from_u64(first_pair + pair as u64);
        let word = |_| (f64::from(last).powf(draws.random::<f64>()) as i32).min(last - 1);
        // The last id of the vocabulary ends a caption; 0 pads it.
        tokens.extend((1..length).map(word));
        tokens.push(last);
        tokens.resize((pair + 1) * row, 0);
    }
    tokens
}

/// The padded caption length, in tokens, that the loader gives the text tower.
/// - longest: length of the batch's longest caption, start and end tokens included.
pub(crate) fn padded(spec: &ModelSpec, longest: usize) -> usize {
    let context = spec.text.context_length;
    if spec.text.reads_no_padding() {
        longest.next_multiple_of(TOKEN_MULTIPLE).min(context)
    } else {
        context
    }
}
