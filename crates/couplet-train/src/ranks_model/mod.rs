//! What a training step costs with several ranks: seconds by part, for any number of ranks, from one rank's
//! step and the links between ranks.
//!
//! A rank's step, in the order of time:
//!
//! | part | seconds |
//! |---|---|
//! | compute | the step of one rank alone; and [`RankWork::loss_seconds`] for the pairs of other ranks, since every rank compares its images and texts with those of all |
//! | waiting | σ · compute · E(K), for the slowest of K ranks; E(K) is [`expected_maximum`] |
//! | gather | the features of all ranks: `8 · embed_dim` bytes a pair |
//! | sums | of gradients, `4` bytes a parameter by default: what does not hide behind the rest of the backward pass, and what hidden exchanges take from it |
//! | latency | of the features, of the two log-sum-exps a pair, of the agreement of the step, and of each bucket that is not hidden |
//!
//! How long an exchange takes is in [`Interconnect`]. The model knows neither congestion by other jobs, nor storage, nor
//! a rank's loader: it is the speed that a run can have, not the one that it is certain to have.
//! `experiments/ranks/model.md` compares it with published runs.

mod imbalance;
mod interconnect;
#[cfg(test)]
mod published;
#[cfg(test)]
mod tests;

pub use self::imbalance::expected_maximum;
pub use self::interconnect::{Interconnect, Link, ParseBandwidthError, SumAlgorithm, bandwidth};

/// Bytes of the gradients that are summed in one exchange. PyTorch's `DistributedDataParallel` uses
/// as many.
pub const BUCKET_BYTES: f64 = 25e6;

/// Spread of the step times of equal ranks, relative to their mean, where nothing is measured. Equal GPUs of one
/// machine differ by 8% (at most 22%); read as ±2 standard deviations, this is 2%. Source: Sinha et al. 2022, "Not
/// All GPUs Are Created Equal", arXiv 2208.11035.
pub const STEP_SPREAD: f64 = 0.02;

/// Exchanges of a step besides those of gradients: features, log-sum-exps, agreement.
const SMALL_EXCHANGES: f64 = 3.0;

/// A step of one rank, as it is without other ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankWork {
    /// Pairs of one rank.
    pub batch: usize,
    /// Width of the features that are gathered; 0 if none are, as with `[classify]`.
    pub embed_dim: usize,
    /// Seconds of the step alone: forward, loss of these pairs, backward, update.
    pub seconds: f64,
    /// Seconds of the backward pass that remain after the early gradients are complete: their sums
    /// can hide behind it.
    pub hiding_seconds: f64,
    /// Bytes of the gradients whose sums can hide: in Couplet those of the larger tower, behind the other's
    /// backward pass.
    pub early_bytes: f64,
    /// Bytes of all other gradients.
    pub late_bytes: f64,
    /// Floating-point operations per second of the products of the loss.
    pub loss_flops_per_second: f64,
    /// Whether the gradients of features are exchanged as well. Couplet does not need it, open_clip's
    /// `--gather-with-grad` does.
    pub exchanges_feature_gradients: bool,
    /// Standard deviation of a rank's step time, relative to its mean.
    pub spread: f64,
}

/// Seconds of one step by part.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct StepParts {
    /// Computing of a rank of mean speed.
    pub compute: f64,
    /// Waiting for the slowest rank.
    pub waiting: f64,
    /// Exchange of features.
    pub gather: f64,
    /// Sums of gradients that are not hidden, and what the hidden ones take from computing.
    pub sums: f64,
    pub latency: f64,
}

impl StepParts {
    /// Seconds of the step.
    pub fn total(&self) -> f64 {
        self.compute + self.waiting + self.exchange()
    }

    /// Seconds in which no rank computes because data is on its way.
    pub fn exchange(&self) -> f64 {
        self.gather + self.sums + self.latency
    }
}

/// What K ranks give.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Prediction {
    pub ranks: usize,
    /// Pairs of all ranks.
    pub batch: usize,
    pub seconds: StepParts,
    pub samples_per_second: f64,
    /// Samples per second of one of the ranks, relative to a rank that is alone and has only its own pairs.
    pub weak_efficiency: f64,
    /// Seconds of the whole batch on one rank, relative to the seconds of all ranks together: the same
    /// batch on one rank has as many logits.
    pub strong_efficiency: f64,
}

impl RankWork {
    /// Seconds that the loss takes in addition for the pairs of other ranks: six products of
    /// `[own, embed_dim]` with `[others, embed_dim]`, two of which are the logits of the own images and texts.
    /// - batch: pairs of all ranks.
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
    pub fn loss_seconds(&self, batch: usize) -> f64 {
        let others = batch.saturating_sub(self.batch) as f64;
        let products = 12.0 * self.batch as f64 * others * self.embed_dim as f64;
        if products > 0.0 {
            products / self.loss_flops_per_second
        } else {
            0.0
        }
    }

    /// The work of each of as many ranks that share this rank's pairs. All of its seconds are divided, the
    /// optimiser's too, which takes as long for few pairs: with few of them, the division is too good.
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
    pub fn divided(&self, ranks: usize) -> Self {
        let divided = Self {
            batch: self.batch / ranks,
            seconds: self.seconds / ranks as f64,
            hiding_seconds: self.hiding_seconds / ranks as f64,
            ..*self
        };
        // The whole batch's logits are in its seconds already.
        let others = divided.loss_seconds(self.batch);
        Self {
            seconds: (divided.seconds - others).max(0.0),
            ..divided
        }
    }

    /// A step of as many ranks, each with this work.
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
    pub fn predict(&self, interconnect: &Interconnect, ranks: usize) -> Prediction {
        let batch = self.batch * ranks;
        let compute = self.seconds + self.loss_seconds(batch);
        let seconds = StepParts {
            compute,
            waiting: self.spread * compute * expected_maximum(ranks),
            gather: self.gather_seconds(interconnect, ranks),
            sums: self.sum_seconds(interconnect, ranks),
            latency: self.latency_seconds(interconnect, ranks),
        };
        let total = seconds.total();
        Prediction {
            ranks,
            batch,
            seconds,
            samples_per_second: batch as f64 / total,
            weak_efficiency: self.seconds / total,
            strong_efficiency: compute / total,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^53")]
    fn gather_seconds(&self, interconnect: &Interconnect, ranks: usize) -> f64 {
        // Image and text features in f32, and two log-sum-exps if there is a contrastive loss.
        let pair = match self.embed_dim {
            0 => 0.0,
            embed_dim => 8.0 * embed_dim as f64 + 8.0,
        };
        let all = pair * (self.batch * ranks) as f64;
        let times = 1.0 + f64::from(u8::from(self.exchanges_feature_gradients));
        times * interconnect.gather_seconds(all, ranks)
    }

    fn sum_seconds(&self, interconnect: &Interconnect, ranks: usize) -> f64 {
        let early = interconnect.sum_seconds(self.early_bytes, ranks);
        let late = interconnect.sum_seconds(self.late_bytes, ranks);
        let hidden = early.min(self.hiding_seconds);
        late + (early - hidden) + hidden * interconnect.overlap_cost
    }

    fn latency_seconds(&self, interconnect: &Interconnect, ranks: usize) -> f64 {
        let buckets = (self.late_bytes / BUCKET_BYTES).ceil();
        let exchange = interconnect.latency_seconds(ranks);
        (SMALL_EXCHANGES + 2.0 * buckets) * exchange
    }
}
