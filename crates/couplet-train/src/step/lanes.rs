//! Parts of a batch that are encoded side by side, each on cores of its own: what a CPU's
//! elementwise operations leave idle. Each has a graph of its own, and their gradients are
//! added in the order of the rows.

use std::ops::Range;
use std::thread;

use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use couplet_data::LastCause;
use couplet_model::{
    Clip, ForwardContext, ImageTowerSpec, ModelSpec, ParameterMapper, ParameterVisitor,
    map_parameters, visit_parameters,
};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::encode::{Encoded, Encoding, GradientSum, Passes};
use crate::device::DeviceSetting;

/// Each lane has gradients of all parameters.
const MOST: usize = 4;
/// Rows of a micro-batch that are worth a lane.
const LEAST_ROWS: usize = 4;

/// The threads of each lane; empty where a batch is not divided.
#[derive(Debug, Default)]
pub(crate) struct LanePools(Vec<ThreadPool>);

impl LanePools {
    /// Those for micro-batches of `rows` on a CPU with so many cores.
    ///
    /// # Errors
    /// If the system gives no threads.
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
}

fn count(spec: &ModelSpec, rows: usize, cores: usize) -> usize {
    // The batch norms of a ResNet read the whole micro-batch.
    if matches!(spec.image, ImageTowerSpec::ResNet(_)) {
        return 1;
    }
    MOST.min(cores).min(rows / LEAST_ROWS).max(1)
}

/// How many lanes a run has: a GPU runs one pass at a time.
/// - rows: of a micro-batch.
pub(crate) fn lane_count(device: DeviceSetting, spec: &ModelSpec, rows: usize) -> usize {
    match device.resolved() {
        DeviceSetting::Flex => count(spec, rows, cores()),
        _ => 1,
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Those of a run.
/// - rows: of a micro-batch.
///
/// # Errors
/// If the system gives no threads.
pub(crate) fn lanes(
    device: DeviceSetting,
    spec: &ModelSpec,
    rows: usize,
) -> std::io::Result<LanePools> {
    if device.resolved() != DeviceSetting::Flex {
        return Ok(LanePools::default());
    }
    LanePools::new(spec, rows, cores())
}

/// One part's passes and gradients.
pub(super) struct Lane {
    pub passes: Passes,
    pub sum: GradientSum,
    /// Images and texts whose graphs are kept until their gradient is known.
    pub kept: Option<(Encoded, Encoded)>,
}

/// The lanes of one step.
pub(super) struct Lanes<'a> {
    pools: &'a [ThreadPool],
    lanes: Vec<Lane>,
}

impl<'a> Lanes<'a> {
    pub fn new(
        model: &Clip,
        pass: &ForwardContext,
        encoding: &Encoding,
        pools: &'a LanePools,
    ) -> Self {
        let lanes = (0..pools.0.len().max(1)).map(|at| {
            // Leaves that two graphs share would make one graph of them.
            let model = if at == 0 { model.clone() } else { copy(model) };
            Lane {
                passes: Passes::new(model.clone(), pass, encoding),
                sum: GradientSum::new(model),
                kept: None,
            }
        });
        Self {
            pools: &pools.0,
            lanes: lanes.collect(),
        }
    }

    /// Does the work on each lane's part of the rows, all at once.
    /// - work: gets the lane and its rows, of which there may be none.
    /// - returns what it gave, in the order of the rows.
    pub fn run<T: Send>(
        &mut self,
        rows: &Range<usize>,
        work: impl Fn(&mut Lane, Range<usize>) -> T + Sync,
    ) -> Vec<T> {
        let part = |at: usize, lanes: usize| {
            let bound = |at: usize| rows.start + rows.len() * at / lanes;
            bound(at)..bound(at + 1)
        };
        let count = self.lanes.len();
        let [lane] = &mut self.lanes[..] else {
            let work = &work;
            return thread::scope(|scope| {
                let lanes = self.lanes.iter_mut().zip(self.pools).enumerate();
                let threads: Vec<_> = lanes
                    .map(|(at, (lane, pool))| {
                        scope.spawn(move || pool.install(|| work(lane, part(at, count))))
                    })
                    .collect();
                let ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
                ended
                    .map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            });
        };
        vec![work(lane, rows.clone())]
    }

    /// The sums of all lanes' gradients.
    pub fn into_params(self, model: &Clip) -> GradientsParams {
        let sums = self.lanes.into_iter().map(|lane| lane.sum.into_params());
        sums.reduce(|sum, part| add(model, sum, part))
            .unwrap_or_default()
    }
}

/// The same weights as other leaves, under the same ids.
fn copy(model: &Clip) -> Clip {
    struct Copy;
    impl ParameterMapper for Copy {
        fn map<const D: usize>(
            &mut self,
            _name: &str,
            param: Param<Tensor<D>>,
        ) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let is_trained = tensor.is_require_grad();
                Tensor::from_inner(tensor.inner()).set_require_grad(is_trained)
            })
        }
    }
    map_parameters(model.clone(), &mut Copy)
}

fn add(model: &Clip, sum: GradientsParams, part: GradientsParams) -> GradientsParams {
    struct Add {
        sum: GradientsParams,
        part: GradientsParams,
    }
    impl ParameterVisitor for Add {
        fn visit<const D: usize>(&mut self, _name: &str, param: &Param<Tensor<D>>) {
            let (sum, part) = (
                self.sum.remove::<D>(param.id),
                self.part.remove::<D>(param.id),
            );
            let sum = match (sum, part) {
                (Some(sum), Some(part)) => couplet_kernels::add(sum, part),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return,
            };
            self.sum.register(param.id, sum);
        }
    }
    let mut add = Add { sum, part };
    visit_parameters(model, &mut add);
    add.sum
}
