//! Tensors on NVIDIA GPUs, exchanged by NCCL without a copy in the hosts' memory.
//!
//! NCCL gets the addresses of Burn's tensors. Its work is ordered after theirs, and theirs after its, by the host:
//! it starts once the device has finished what was queued, and a result is used once NCCL has finished. So it
//! runs behind the kernels that are queued in between.

use burn::backend::Cube;
use burn::tensor::{DType, Device, Tensor, TensorData};
use couplet_ranks::{
    Cause, Exchanged, Floats, Lost, Nccl, NcclError, NcclStartError, Pending, Team,
};

#[cfg(feature = "fusion")]
compile_error!(
    "the feature `nccl` needs tensors that are in memory, which those of the feature `fusion` need not be; leave out \
     one of both"
);

/// The ranks' GPUs, joined.
#[derive(Debug)]
pub(crate) struct Gpus {
    nccl: Nccl,
    ranks: usize,
}

impl Gpus {
    /// Joins the GPUs of all ranks, and exchanges a few numbers whose results are known. Every rank calls it.
    /// - number: of this rank's GPU, as in `cuda:NUMBER`.
    ///
    /// # Errors
    /// On all ranks if the GPUs cannot be joined, a rank gets wrong numbers, or one is lost.
    pub fn join(team: &Team, number: usize) -> Result<Self, NcclStartError> {
        let gpus = Self {
            nccl: Nccl::start(team, number)?,
            ranks: team.place().ranks,
        };
        let is_right = gpus.try_out(team.place().rank, &Device::cuda(number))?;
        let all = team.all_gather("the trial of NCCL", vec![u8::from(is_right)]);
        let wrong = all.wait()?.iter().position(|is_right| *is_right == 0);
        match wrong {
            Some(rank) => Err(NcclStartError::Failed(format!(
                "{}: NCCL {} gives wrong numbers",
                team.peers()[rank],
                gpus.version()
            ))),
            None => Ok(gpus),
        }
    }

    /// NCCL's version.
    pub fn version(&self) -> &str {
        self.nccl.version()
    }

    /// Whether a gather and a sum have the right results.
    fn try_out(&self, rank: usize, device: &Device) -> Result<bool, Lost> {
        const WHAT: &str = "the trial of NCCL";
        const SHAPE: [usize; 2] = [7, 143];
        let values = |rank: usize| -> Vec<f32> {
            let small = |number: usize| u16::try_from(number % 1000).map_or(0.0, f32::from);
            (0..SHAPE[0] * SHAPE[1])
                .map(|at| small(at + 11 * rank))
                .collect()
        };
        let own = Tensor::<2>::from_data(TensorData::new(values(rank), SHAPE), device);
        let sum = self.start_sum(WHAT, vec![own.clone().reshape([-1])], 1);
        let gathered = self.start_gather(WHAT, own)?.wait()?;
        let of_all: Vec<Vec<f32>> = (0..self.ranks).map(values).collect();
        let expected: Vec<f32> = (0..SHAPE[0] * SHAPE[1])
            .map(|at| of_all.iter().map(|values| values[at]).sum())
            .collect();
        let sum = sum.wait()?.swap_remove(0);
        Ok(to_host(gathered) == of_all.concat() && to_host(sum) == expected)
    }

    /// Starts an all-gather behind the device's work: the rows of all ranks, in the order of ranks.
    /// - rows: `[rows, width]`, the same shape on every rank, without a graph; gives `[ranks * rows, width]`.
    ///
    /// # Errors
    /// If the GPU fails.
    pub fn start_gather(&self, what: &'static str, rows: Tensor<2>) -> Result<GpuRows, Lost> {
        let [own, width] = rows.dims();
        let device = rows.device().without_autodiff();
        let flat = rows.reshape([own * width]);
        let all = Tensor::<1>::zeros([self.ranks * own * width], &device);
        let exchange = || -> Result<Exchanged, NcclError> {
            let (own, all) = (floats(flat)?, floats(all.clone())?);
            Ok(Exchanged::Gather { own, all })
        };
        let exchange = exchange().map_err(|error| failed(what, error.to_string()))?;
        Ok(GpuRows {
            pending: self.start(what, &device, vec![exchange])?,
            rows: all.reshape([self.ranks * own, width]),
        })
    }

    /// Starts an all-reduce behind the device's work: the sums over ranks.
    /// - tensors: the same shapes on every rank, without a graph.
    /// - bucket: short tensors are added together, up to so many floats.
    pub fn start_sum(&self, what: &'static str, tensors: Vec<Tensor<1>>, bucket: usize) -> GpuSum {
        let Some(device) = tensors
            .first()
            .map(|tensor| tensor.device().without_autodiff())
        else {
            return GpuSum::default();
        };
        let lens: Vec<usize> = tensors.iter().map(|tensor| tensor.dims()[0]).collect();
        let mut tensors = tensors.into_iter();
        let (mut exchanges, mut buckets) = (Vec::new(), Vec::new());
        for count in in_buckets(&lens, bucket) {
            let lens = &lens[lens.len() - tensors.len()..][..count];
            let parts: Vec<Tensor<1>> = tensors.by_ref().take(count).collect();
            match Bucket::new(parts, lens.to_vec(), &device) {
                Ok((bucket, exchange)) => {
                    exchanges.extend(exchange);
                    buckets.push(bucket);
                }
                Err(error) => return GpuSum::failed(failed(what, error.to_string())),
            }
        }
        match self.start(what, &device, exchanges) {
            Ok(pending) => GpuSum {
                buckets,
                pending: Some(Ok(pending)),
            },
            Err(lost) => GpuSum::failed(lost),
        }
    }

    /// Starts exchanges once the device has finished what was queued.
    fn start(
        &self,
        what: &'static str,
        device: &Device,
        exchanges: Vec<Exchanged>,
    ) -> Result<Pending<()>, Lost> {
        let synchronized = device.sync();
        synchronized.map_err(|error| failed(what, error.to_string()))?;
        Ok(self.nccl.start_exchanges(what, exchanges))
    }
}

/// Rows that may not be there yet.
pub(crate) struct GpuRows {
    pending: Pending<()>,
    rows: Tensor<2>,
}

impl GpuRows {
    /// The rows of all ranks.
    ///
    /// # Errors
    /// If a rank is lost, or the GPU has failed.
    pub fn wait(self) -> Result<Tensor<2>, Lost> {
        self.pending.wait()?;
        Ok(self.rows)
    }
}

/// Sums that may not be there yet.
#[derive(Default)]
pub(crate) struct GpuSum {
    buckets: Vec<Bucket>,
    /// `None` without tensors.
    pending: Option<Result<Pending<()>, Lost>>,
}

impl GpuSum {
    fn failed(lost: Lost) -> Self {
        Self {
            buckets: Vec::new(),
            pending: Some(Err(lost)),
        }
    }

    /// The sums, in the order of the tensors.
    ///
    /// # Errors
    /// If a rank is lost, or the GPU has failed.
    pub fn wait(self) -> Result<Vec<Tensor<1>>, Lost> {
        if let Some(pending) = self.pending {
            pending?.wait()?;
        }
        Ok(self.buckets.into_iter().flat_map(Bucket::split).collect())
    }
}

/// Tensors that are added together.
struct Bucket {
    sum: Tensor<1>,
    lens: Vec<usize>,
}

impl Bucket {
    /// The bucket, and the exchange that makes its sum, if it has floats.
    fn new(
        mut parts: Vec<Tensor<1>>,
        lens: Vec<usize>,
        device: &Device,
    ) -> Result<(Self, Option<Exchanged>), NcclError> {
        let len: usize = lens.iter().sum();
        if len == 0 {
            let sum = Tensor::from_data(TensorData::new(Vec::<f32>::new(), [0]), device);
            return Ok((Self { sum, lens }, None));
        }
        parts.retain(|part| part.dims()[0] > 0);
        // A tensor alone may have other owners, so its sum gets memory of its own; what is joined here has not.
        let (own, sum) = if parts.len() == 1 {
            (parts.swap_remove(0), Tensor::zeros([len], device))
        } else {
            let joined = Tensor::cat(parts, 0);
            (joined.clone(), joined)
        };
        let exchange = Exchanged::Sum {
            own: floats(own)?,
            sum: floats(sum.clone())?,
        };
        Ok((Self { sum, lens }, Some(exchange)))
    }

    fn split(self) -> Vec<Tensor<1>> {
        if self.lens.len() == 1 {
            return vec![self.sum];
        }
        let mut start = 0;
        let part = |len: &usize| {
            let part = self.sum.clone().narrow(0, start, *len);
            start += len;
            part
        };
        self.lens.iter().map(part).collect()
    }
}

/// How many tensors each bucket has: as many as fit, at least one.
fn in_buckets(lens: &[usize], bucket: usize) -> Vec<usize> {
    let mut counts = Vec::new();
    let (mut count, mut filled) = (0, 0);
    for len in lens {
        if count > 0 && filled + len > bucket {
            counts.push(count);
            (count, filled) = (0, 0);
        }
        count += 1;
        filled += len;
    }
    if count > 0 {
        counts.push(count);
    }
    counts
}

/// The memory of a tensor on an NVIDIA GPU.
fn floats(tensor: Tensor<1>) -> Result<Floats, NcclError> {
    let len = tensor.dims()[0];
    let unusable = |why: String| NcclError::Memory(why);
    let tensor = tensor.without_autodiff().try_into_primitive::<Cube>();
    let tensor = tensor.map_err(|error| unusable(format!("{error:?}")))?;
    if tensor.dtype != DType::F32 {
        return Err(unusable(format!(
            "it has {:?} instead of f32",
            tensor.dtype
        )));
    }
    let strides = tensor.meta.strides();
    if len > 1 && (strides.len() != 1 || strides[0] != 1) {
        return Err(unusable(format!("it has the strides {strides:?}")));
    }
    Floats::new(&tensor.client, tensor.handle, len)
}

fn failed(what: &'static str, message: String) -> Lost {
    Lost {
        what,
        cause: Cause::Transport {
            message,
            silent: Vec::new(),
        },
    }
}

/// # Panics
/// If the device fails.
fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("it has f32")
}

#[cfg(test)]
mod tests;
