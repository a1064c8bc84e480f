//! Random draws as pure functions of their purpose.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a random stream is for; two purposes never share a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Order = 1,
    Resample = 2,
    Augment = 3,
    Shapes = 4,
    Caption = 5,
    Shards = 6,
    Shuffle = 7,
}

/// The random stream for one (seed, purpose, epoch, sample).
pub(crate) fn stream(seed: u64, purpose: Purpose, epoch: u64, sample: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (slot, value) in key
        .chunks_exact_mut(8)
        .zip([seed, purpose as u64, epoch, sample])
    {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
