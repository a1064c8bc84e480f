//! Why there is no next batch.

use crate::error::{printable, printable_text};
use crate::sample::Skipped;

/// Why there is no next batch.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    #[error(
        "{about}{skipped} of {samples} samples were skipped in epoch {}{}, more than \
         data.max_skipped = {max_skipped} allows{}; `couplet data check` lists all; fix the data or raise \
         data.max_skipped, and a run continues with --resume", epoch + 1, in_brackets(causes), example(list)
    )]
    TooManySkipped {
        epoch: u64,
        skipped: usize,
        /// "about " if the number of lost samples is an estimate, else empty.
        about: &'static str,
        /// Samples in the epoch, including lost ones.
        samples: usize,
        max_skipped: f64,
        /// How many for which cause, if it is known.
        causes: String,
        /// The samples skipped in the batch that failed.
        list: Vec<Skipped>,
    },
    #[error(
        "the dataset has fewer usable samples than the batch size, {batch_size}; fix the data or lower \
         the batch size"
    )]
    TooFewUsable { batch_size: usize },
    #[error(
        "no shard holds a sample: each needs an image and a caption of the same name; check the pattern of the shards"
    )]
    NoSamples,
    #[error(
        "the data loader's thread exited unexpectedly; this is a bug of Couplet, please report it with the log"
    )]
    Died,
}

/// Whether too many samples of an epoch were skipped.
/// - epoch_len: samples per epoch, of all parts of a batch; skipped, lost: so far, of any of them.
/// - max_skipped: the largest fraction that may be, from 0 to 1.
/// - returns the error of a loader, [`LoaderError::TooManySkipped`], without causes and examples.
pub fn check_skipped(
    epoch: u64,
    epoch_len: usize,
    (skipped, lost): (usize, usize),
    max_skipped: f64,
) -> Option<LoaderError> {
    let (bad, samples) = (skipped + lost, epoch_len + lost);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a fraction needs no more than 53 bits"
    )]
    let share = bad as f64 / samples as f64;
    (share > max_skipped).then(|| LoaderError::TooManySkipped {
        epoch,
        skipped: bad,
        about: if lost > 0 { "about " } else { "" },
        samples,
        max_skipped,
        causes: String::new(),
        list: Vec::new(),
    })
}

fn in_brackets(causes: &str) -> String {
    if causes.is_empty() {
        String::new()
    } else {
        format!(" ({causes})")
    }
}

/// One of the skipped samples, for an error message.
fn example(list: &[Skipped]) -> String {
    list.first().map_or(String::new(), |one| {
        let [key, shard] = [&one.key, &one.shard].map(|name| printable(name));
        let detail = printable_text(&one.detail);
        format!(", such as {key} of {shard}: {detail}")
    })
}
