//! The threads of a step.

use couplet_data::LastCause;
use couplet_model::ModelSpec;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::cores::cores;
use crate::device::DeviceSetting;

/// Limits memory: each lane has its own gradients of all parameters.
const MAX_LANES: usize = 4;
/// Floating-point operations of a pair's forward pass that make more than one lane worthwhile.
const MOST_FLOPS: f64 = 2e9;
/// The fewest rows that make a lane worthwhile.
const MIN_ROWS: usize = 4;

/// The threads that compute the steps of a run on the CPU; none on a GPU, which runs one pass at a time.
#[derive(Debug, Default)]
pub(crate) struct StepPools {
    /// As many threads as cores.
    all: Option<ThreadPool>,
    /// Those of each lane, which computes a part of a micro-batch in parallel with the others: so it uses
    /// cores that single-threaded operations would leave idle. Empty if micro-batches are not divided.
    lanes: Vec<ThreadPool>,
}

impl StepPools {
    /// The threads of a run on `device`.
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

    /// The threads for micro-batches of `rows` rows on a CPU with `cores` cores.
    ///
    /// # Errors
    /// If the system cannot start threads.
    pub fn new(spec: &ModelSpec, rows: usize, cores: usize) -> std::io::Result<Self> {
        let lanes = match count(spec, rows, cores) {
            1 => 0,
            lanes => lanes,
        };
        let lane = |at| pool(&format!("lane-{at}"), cores / lanes);
        Ok(Self {
            all: Some(pool("step", cores)?),
            lanes: (0..lanes).map(lane).collect::<Result<_, _>>()?,
        })
    }

    /// Runs `work` on these threads. A step has hundreds of operations that are divided among threads. From a
    /// thread that is not one of them, each would wake another one and sleep until it is done, and the loader
    /// would hardly get a core between them.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.all {
            Some(all) => all.install(work),
            None => work(),
        }
    }

    pub(super) fn lanes(&self) -> &[ThreadPool] {
        &self.lanes
    }
}

fn pool(name: &str, threads: usize) -> std::io::Result<ThreadPool> {
    let name = name.to_string();
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |thread| format!("{name}-{thread}"));
    (pool.build()).map_err(|error| std::io::Error::other(LastCause(error)))
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
    // Batch norms need the whole micro-batch. And the operations of larger models are worth dividing
    // themselves, which needs the memory of one lane's gradients.
    let pair = spec.forward_flops(spec.text.context_length);
    if spec.image.has_batch_norm() || pair > MOST_FLOPS {
        return 1;
    }
    MAX_LANES.min(cores).min(rows / MIN_ROWS).max(1)
}
