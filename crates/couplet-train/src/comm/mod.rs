//! Communication between the ranks of a run: only the files of this folder turn tensors into exchanges.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use couplet_eval::Division;
use couplet_ranks::{Lost, Pending, Place, Team};

#[cfg(feature = "nccl")]
pub(crate) mod nccl;
#[cfg(test)]
pub(crate) mod threads;

/// Floats of a bucket of gradients: enough for a network's bandwidth, and few enough that one is sent while the
/// next is read from a GPU or packed.
const BUCKET: usize = 25_000_000 / size_of::<f32>();

/// The ranks of a run. Every rank calls the same methods in the same order. Sums add in the order of ranks, so
/// all ranks get the same bits.
///
/// Bytes, and floats of the host, go through the team. Tensors do too, by a copy in the host's memory, unless the
/// ranks' GPUs are joined ([`Self::with_gpus`]); then NCCL orders the sums, the same way on all ranks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Comm {
    /// `None` if this is the only rank.
    team: Option<Arc<Team>>,
    #[cfg(feature = "nccl")]
    gpus: Option<Arc<nccl::Gpus>>,
    journal: Option<Journal>,
}

/// When a rank waited for exchanges.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<Passage>>>);

/// A time in which a rank waited for an exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passage {
    pub what: &'static str,
    pub begun: Instant,
    pub ended: Instant,
}

impl Journal {
    /// What was written since the last call.
    pub fn take(&self) -> Vec<Passage> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Waits, and writes when into the journal if there is one.
fn note<T>(journal: Option<&Journal>, what: &'static str, wait: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = wait();
    if let Some(Journal(passages)) = journal {
        let mut passages = passages.lock().unwrap_or_else(PoisonError::into_inner);
        passages.push(Passage {
            what,
            begun,
            ended: Instant::now(),
        });
    }
    result
}

impl Comm {
    /// A run with a single rank.
    pub fn alone() -> Self {
        Self::default()
    }

    pub fn of(team: Team) -> Self {
        let is_alone = team.place().ranks == 1;
        Self {
            team: (!is_alone).then(|| Arc::new(team)),
            #[cfg(feature = "nccl")]
            gpus: None,
            journal: None,
        }
    }

    /// The same ranks, whose tensors do not leave the GPUs.
    #[cfg(feature = "nccl")]
    pub fn with_gpus(&self, gpus: nccl::Gpus) -> Self {
        Self {
            gpus: Some(Arc::new(gpus)),
            ..self.clone()
        }
    }

    /// The same ranks; how long this one waits for them is written into the journal.
    pub fn with_journal(&self, journal: Journal) -> Self {
        Self {
            journal: Some(journal),
            ..self.clone()
        }
    }

    pub fn place(&self) -> Place {
        self.team
            .as_ref()
            .map_or_else(Place::alone, |team| team.place().clone())
    }

    pub fn rank(&self) -> usize {
        self.team.as_ref().map_or(0, |team| team.place().rank)
    }

    pub fn ranks(&self) -> usize {
        self.team.as_ref().map_or(1, |team| team.place().ranks)
    }

    /// Whether this is rank 0, which alone writes files and looks at the clock.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    pub fn is_alone(&self) -> bool {
        self.team.is_none()
    }

    /// The other ranks.
    pub fn team(&self) -> Option<&Team> {
        self.team.as_deref()
    }

    /// All-gather: the rows of all ranks, in the order of ranks.
    /// - rows: `[rows, width]`, the same shape on every rank, without a graph; returns
    ///   `[ranks * rows, width]`.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn gather_rows(&self, what: &'static str, rows: Tensor<2>) -> Result<Tensor<2>, Lost> {
        let Some(team) = &self.team else {
            return Ok(rows);
        };
        #[cfg(feature = "nccl")]
        if let Some(gpus) = &self.gpus {
            let gathered = gpus.start_gather(what, rows)?;
            return note(self.journal.as_ref(), what, || gathered.wait());
        }
        let ([own, width], device) = (rows.dims(), rows.device());
        let bytes = bytemuck::cast_slice(&to_host(rows)).to_vec();
        let all = team.all_gather(what, bytes);
        let all = note(self.journal.as_ref(), what, || all.wait())?;
        let all = floats(&all);
        Ok(from_host(all, [own * self.ranks(), width], &device))
    }

    /// All-gather: the numbers of all ranks, in the order of ranks; the same count on every rank.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn gather_numbers(&self, what: &'static str, own: Vec<f32>) -> Result<Vec<f32>, Lost> {
        let Some(team) = &self.team else {
            return Ok(own);
        };
        let own = bytemuck::cast_slice(&own).to_vec();
        Ok(floats(&team.all_gather(what, own).wait()?))
    }

    /// Starts an all-reduce in the background: the sums over ranks.
    /// - tensors: the same shapes on every rank, without a graph.
    pub fn start_sum(&self, what: &'static str, tensors: Vec<Tensor<1>>) -> PendingSum {
        let Some(team) = &self.team else {
            return PendingSum::Own(tensors);
        };
        #[cfg(feature = "nccl")]
        if let Some(gpus) = &self.gpus {
            return PendingSum::OnGpus(Box::new(OnGpus {
                what,
                journal: self.journal.clone(),
                sum: gpus.start_sum(what, tensors, BUCKET),
            }));
        }
        let device = tensors.first().map(Tensor::device);
        // The next ones are read from a GPU while a bucket travels.
        let (mut sums, mut bucket, mut len) = (Vec::new(), Vec::new(), 0);
        for tensor in tensors {
            len += tensor.dims()[0];
            // Copies nothing that is f32. Another dtype, as of a program's own loss, is to fail or pass here and
            // not on the thread of the exchanges.
            bucket.push(HostValues(tensor.into_data().convert::<f32>()));
            if len >= BUCKET {
                sums.push(team.sum(what, std::mem::take(&mut bucket)));
                len = 0;
            }
        }
        if !bucket.is_empty() {
            sums.push(team.sum(what, bucket));
        }
        PendingSum::Started(Box::new(Started {
            what,
            journal: self.journal.clone(),
            device,
            sums,
        }))
    }

    /// Everyone's bytes, in the order of ranks.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn gather(&self, what: &'static str, own: Vec<u8>) -> Result<Vec<Vec<u8>>, Lost> {
        match &self.team {
            Some(team) => team.gather(what, own).wait(),
            None => Ok(vec![own]),
        }
    }

    /// The same for a rank that waits for rank 0 to save: a signal to stop does not shorten the wait.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn gather_patiently(&self, what: &'static str, own: Vec<u8>) -> Result<Vec<Vec<u8>>, Lost> {
        match &self.team {
            Some(team) => team.gather_patiently(what, own).wait(),
            None => Ok(vec![own]),
        }
    }

    /// The bytes of rank 0.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn of_first(&self, what: &'static str, own: Vec<u8>) -> Result<Vec<u8>, Lost> {
        match &self.team {
            Some(team) => {
                let bytes = team.broadcast(what, own);
                note(self.journal.as_ref(), what, || bytes.wait())
            }
            None => Ok(own),
        }
    }

    /// The floats of rank 0; the others' are ignored.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn floats_of_first(&self, what: &'static str, own: Vec<f32>) -> Result<Vec<f32>, Lost> {
        match &self.team {
            Some(team) => {
                let own = bytemuck::cast_slice(&own).to_vec();
                Ok(floats(&team.broadcast(what, own).wait()?))
            }
            None => Ok(own),
        }
    }

    /// The numbers of rank 0, of the same count on every rank.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn numbers_of_first(&self, what: &'static str, own: &[f64]) -> Result<Vec<f64>, Lost> {
        let bytes = own.iter().flat_map(|number| number.to_le_bytes());
        let bytes = self.of_first(what, bytes.collect())?;
        let numbers = bytes.chunks_exact(size_of::<f64>());
        let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        Ok(numbers.map(number).collect())
    }
}

impl Division for Comm {
    fn rank(&self) -> usize {
        self.rank()
    }

    fn ranks(&self) -> usize {
        self.ranks()
    }

    fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, Box<dyn Error + Send + Sync>> {
        Ok(self.gather("the evaluation of the other ranks", own)?)
    }
}

/// Sums over ranks that may not be there yet.
pub(crate) enum PendingSum {
    /// There is one rank.
    Own(Vec<Tensor<1>>),
    Started(Box<Started>),
    #[cfg(feature = "nccl")]
    OnGpus(Box<OnGpus>),
}

/// Sums that NCCL makes.
#[cfg(feature = "nccl")]
pub(crate) struct OnGpus {
    what: &'static str,
    journal: Option<Journal>,
    sum: nccl::GpuSum,
}

/// Sums that the team makes.
pub(crate) struct Started {
    what: &'static str,
    journal: Option<Journal>,
    /// `None` without tensors.
    device: Option<Device>,
    sums: Vec<Pending<Vec<HostValues>>>,
}

/// A tensor in the host's memory, which is not copied if it is there already.
struct HostValues(TensorData);

impl AsMut<[f32]> for HostValues {
    fn as_mut(&mut self) -> &mut [f32] {
        self.0.as_mut_slice().expect("the values were made f32")
    }
}

impl PendingSum {
    /// The sums, in the order of the tensors.
    ///
    /// # Errors
    /// If a rank is lost.
    pub fn wait(self) -> Result<Vec<Tensor<1>>, Lost> {
        let Started {
            what,
            journal,
            device,
            sums,
        } = match self {
            Self::Own(tensors) => return Ok(tensors),
            Self::Started(started) => *started,
            #[cfg(feature = "nccl")]
            Self::OnGpus(on_gpus) => {
                let OnGpus { what, journal, sum } = *on_gpus;
                return note(journal.as_ref(), what, || sum.wait());
            }
        };
        let mut all = Vec::new();
        for sum in sums {
            for HostValues(sum) in note(journal.as_ref(), what, || sum.wait())? {
                let device = device.as_ref().expect("there is a tensor");
                all.push(Tensor::from_data(sum, device));
            }
        }
        Ok(all)
    }
}

/// # Panics
/// If the device fails or the tensor is not f32.
fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data()
        .try_into_vec()
        .expect("features and gradients are f32")
}

fn from_host<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// # Panics
/// If the bytes are no whole floats.
fn floats(bytes: &[u8]) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(bytes)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::threads::on_ranks;
    use super::{BUCKET, Comm, to_host};

    #[expect(clippy::cast_possible_truncation, reason = "remainders of 97")]
    #[test]
    fn tensors_of_any_lengths_are_summed() {
        let device = Device::flex();
        // Shorter and longer than what is exchanged at once, and than a bucket.
        let lens = [3, 0, BUCKET + 5, 1, 0, 1_000_000, 0];
        let sums = |comm: &Comm| {
            let rank = u8::try_from(comm.rank()).unwrap();
            let value = |len: usize| {
                let values: Vec<f32> = (0..len)
                    .map(|at| f32::from((at % 97) as u8 + rank))
                    .collect();
                Tensor::<1>::from_floats(&values[..], &device)
            };
            comm.start_sum("values", lens.map(value).to_vec())
                .wait()
                .unwrap()
        };
        let alone = sums(&Comm::alone());
        for (ranks, others) in [(2, 1.0), (3, 3.0)] {
            for sums in on_ranks(ranks, |comm| sums(&comm)) {
                assert_eq!(sums.len(), lens.len());
                for (sum, own) in sums.into_iter().zip(&alone) {
                    let sum_of = |x: &f32| f32::from(ranks as u8) * x + others;
                    let expected: Vec<f32> = to_host(own.clone()).iter().map(sum_of).collect();
                    assert!(to_host(sum) == expected);
                }
            }
        }
    }
}
