//! The threads of lanes. A lane computes a part of a micro-batch on its own cores, in parallel with
//! the others, which uses cores that single-threaded CPU operations would leave idle.

use couplet_data::LastCause;
use couplet_model::ModelSpec;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::cores::cores;
use crate::device::DeviceSetting;

/// Limits memory: each lane has its own gradients of all parameters.
const MAX_LANES: usize = 4;
/// The fewest rows that make a lane worthwhile.
const MIN_ROWS: usize = 4;

/// A thread pool per lane; empty if micro-batches are not divided.
#[derive(Debug, Default)]
pub(crate) struct LanePools(Vec<ThreadPool>);

impl LanePools {
    /// The pools of a run on `device`; none on a GPU, which runs one pass at a time.
    /// - rows: of a micro-batch.
    ///
    /// # Errors
    /// If the system cannot start threads.
    pub fn for_device(
        device: DeviceSetting,
        spec: &ModelSpec,
        rows: usize,
    ) -> std::io::Result<Self> {
        match device.resolved() {
            DeviceSetting::Flex => Self::new(spec, rows, cores()),
            _ => Ok(Self::default()),
        }
    }

    /// The pools for micro-batches of `rows` rows on a CPU with `cores` cores.
    ///
    /// # Errors
    /// If the system cannot start threads.
    pub fn new(spec: &ModelSpec, rows: usize, cores: usize) -> std::io::Result<Self> {
        let lanes = count(spec, rows, cores);
        if lanes < 2 {
            return Ok(Self::default());
        }
        let pool = |at| {
            let pool = ThreadPoolBuilder::new()
                .num_threads(cores / lanes)
                .thread_name(move |thread| format!("lane-{at}-{thread}"));
            (pool.build()).map_err(|error| std::io::Error::other(LastCause(error)))
        };
        (0..lanes).map(pool).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn pools(&self) -> &[ThreadPool] {
        &self.0
    }
}

/// The number of lanes of a run on `device`.
/// - rows: of a micro-batch.
pub(crate) fn lane_count(device: DeviceSetting, spec: &ModelSpec, rows: usize) -> usize {
    match device.resolved() {
        DeviceSetting::Flex => count(spec, rows, cores()),
        _ => 1,
    }
}

fn count(spec: &ModelSpec, rows: usize, cores: usize) -> usize {
    // Batch norms need the whole micro-batch.
    if spec.image.has_batch_norm() {
        return 1;
    }
    MAX_LANES.min(cores).min(rows / MIN_ROWS).max(1)
}
