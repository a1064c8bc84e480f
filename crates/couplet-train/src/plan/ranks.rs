//! What a run needs with several ranks.

use couplet_data::loader::LoaderState;
use couplet_model::TrainableParameters;

use super::RunPlan;
use crate::config::ResolvedRun;
use crate::device::DeviceSetting;
use crate::ranks_model::{Interconnect, Link, Prediction, RankWork, STEP_SPREAD, SumAlgorithm};

/// Bytes of a parameter's gradient.
const GRADIENT_BYTES: f64 = 4.0;
/// 100 Gbit/s.
const NETWORK_BANDWIDTH: f64 = 12.5e9;

/// The ranks of a plan and their links.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RanksOptions {
    pub ranks: usize,
    /// By default all ranks are on one machine.
    pub ranks_per_node: Option<usize>,
    /// Bytes per second that a machine sends to the others; 100 Gbit/s by default.
    pub network: Option<f64>,
    /// Bytes per second that a rank sends to those of its machine; by default 4 GB/s on a CPU, 20 GB/s
    /// between CUDA devices, 10 GB/s between others.
    pub local: Option<f64>,
}

/// What each of several ranks needs.
#[derive(Debug, Clone, PartialEq)]
pub struct RanksPlan {
    pub ranks: usize,
    /// Parts of a batch; each rank takes as many.
    pub parts: usize,
    /// The plan of one rank: its batch is its part of `batch.global`.
    pub rank: RunPlan,
    pub interconnect: Interconnect,
    embed_dim: usize,
    trained: TrainableParameters,
}

/// A number of ranks that a run cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RanksError {
    #[error(
        "--ranks {ranks}: does not divide batch.global = {batch}; possible are {}",
        listed(.possible)
    )]
    Batch {
        ranks: usize,
        batch: usize,
        possible: Vec<usize>,
    },
    #[error(
        "--ranks {ranks}: does not divide the {parts} parts of a batch; possible are {}, or {ranks} with \
         batch.parts = {ranks}",
        listed(.possible)
    )]
    Parts {
        ranks: usize,
        parts: usize,
        possible: Vec<usize>,
    },
}

fn listed(numbers: &[usize]) -> String {
    let texts: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

impl ResolvedRun {
    /// Estimates what each of several ranks needs.
    /// - tokens: as [`ResolvedRun::plan`] takes them.
    ///
    /// # Errors
    /// If the ranks cannot share a batch equally.
    pub fn plan_ranks(
        &self,
        tokens: Option<usize>,
        options: &RanksOptions,
    ) -> Result<RanksPlan, RanksError> {
        let ranks = options.ranks;
        let parts = self.data.parts(&LoaderState::default());
        let batch = self.config.batch.global;
        if ranks == 0 || !parts.is_multiple_of(ranks) {
            let possible = (1..=parts).filter(|ranks| parts.is_multiple_of(*ranks));
            let possible = possible.collect();
            return Err(if ranks > 0 && batch.is_multiple_of(ranks) {
                RanksError::Parts {
                    ranks,
                    parts,
                    possible,
                }
            } else {
                RanksError::Batch {
                    ranks,
                    batch,
                    possible,
                }
            });
        }
        let spec = self.config.model.spec();
        let trained = self.trained_parameters();
        let rank = self.plan_of(spec.cost(), trained, tokens, ranks);
        let embed_dim = match self.data.classes {
            Some(_) => 0,
            None => spec.embed_dim,
        };
        Ok(RanksPlan {
            ranks,
            parts,
            interconnect: interconnect(rank.device, options),
            rank,
            embed_dim,
            trained,
        })
    }
}

/// The links that a plan assumes where they are not given.
fn interconnect(device: DeviceSetting, options: &RanksOptions) -> Interconnect {
    let (local, algorithm, overlap_cost) = match device {
        // Shared memory: the cores that compute do the copying.
        DeviceSetting::Flex => (4e9, SumAlgorithm::Pieces, 1.0),
        // NCCL over PCIe 4; its kernels take some of the multiprocessors.
        DeviceSetting::Cuda(_) => (20e9, SumAlgorithm::Ring, 0.2),
        _ => (10e9, SumAlgorithm::Pieces, 0.2),
    };
    // NCCL's constants of a step of a ring (`src/graph/tuning.cc`), and usual ones of MPI.
    let (local_latency, network_latency) = match algorithm {
        SumAlgorithm::Ring => (3.4e-6, 9.6e-6),
        SumAlgorithm::Pieces => (2e-6, 20e-6),
    };
    Interconnect {
        ranks_per_node: (options.ranks_per_node.unwrap_or(options.ranks)).clamp(1, options.ranks),
        local: Link {
            latency: local_latency,
            bandwidth: options.local.unwrap_or(local),
        },
        network: Link {
            latency: network_latency,
            bandwidth: options.network.unwrap_or(NETWORK_BANDWIDTH),
        },
        algorithm,
        overlap_cost,
    }
}

impl RanksPlan {
    /// The number of machines.
    pub fn nodes(&self) -> usize {
        self.ranks.div_ceil(self.interconnect.ranks_per_node)
    }

    /// Ranks that share the cores of a machine, if these are what computes.
    pub fn ranks_per_cores(&self) -> usize {
        match self.rank.device {
            DeviceSetting::Flex => self.interconnect.ranks_per_node,
            _ => 1,
        }
    }

    /// The work of one rank.
    /// - speed: samples per second of one rank without others.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub fn work(&self, speed: f64) -> RankWork {
        let rank = &self.rank;
        let TrainableParameters { image, text, joint } = self.trained;
        let seconds = rank.batch as f64 / speed;
        // Gradients are complete in the last micro-batch: only its last backward pass is left to hide behind.
        let last = rank.micro_batch as f64 / rank.batch as f64;
        RankWork {
            batch: rank.batch,
            embed_dim: self.embed_dim,
            seconds,
            hiding_seconds: seconds * last * rank.late_backward_flops / rank.step_flops,
            early_bytes: GRADIENT_BYTES * image.max(text) as f64,
            late_bytes: GRADIENT_BYTES * (image.min(text) + joint) as f64,
            loss_flops_per_second: rank.step_flops * speed,
            exchanges_feature_gradients: false,
            spread: STEP_SPREAD,
        }
    }

    /// The speed and the parts of a step.
    /// - speed: as [`Self::work`] takes it.
    pub fn predict(&self, speed: f64) -> Prediction {
        self.work(speed).predict(&self.interconnect, self.ranks)
    }
}
