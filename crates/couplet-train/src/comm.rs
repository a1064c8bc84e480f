//! Communication between the ranks of a run: no other file depends on the transport.

use burn::tensor::Tensor;

/// Collective operations. Every rank calls the same methods in the same order. Sums add in rank
/// order, so all ranks get bit-identical results.
pub(crate) trait Comm: Send {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn ranks(&self) -> usize;

    /// All-gather: the rows of all ranks, in rank order.
    /// - rows: `[rows, width]`, the same shape on every rank; returns `[ranks * rows, width]`.
    fn gather_rows(&self, rows: Tensor<2>) -> Tensor<2>;

    /// All-reduce: the sum over ranks.
    /// - values: `[len]`, the same shape on every rank; returns that shape.
    fn sum(&self, values: Tensor<1>) -> Tensor<1>;

    /// All-reduce of a counter: the sum over ranks.
    fn count(&self, local: u64) -> u64;

    /// Whether `local` is true on any rank.
    fn any(&self, local: bool) -> bool;
}

/// A run with a single rank.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Solo;

impl Comm for Solo {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn gather_rows(&self, rows: Tensor<2>) -> Tensor<2> {
        rows
    }

    fn sum(&self, values: Tensor<1>) -> Tensor<1> {
        values
    }

    fn count(&self, local: u64) -> u64 {
        local
    }

    fn any(&self, local: bool) -> bool {
        local
    }
}

#[cfg(test)]
pub(crate) mod threads {
    //! Ranks as threads of one process.

    use std::sync::{Arc, Barrier, Mutex};

    use super::{Comm, Tensor};

    /// One of several threads, which exchange tensors through shared memory.
    pub struct Threads {
        rank: usize,
        shared: Arc<Shared>,
    }

    struct Shared {
        barrier: Barrier,
        /// One per rank.
        entries: Mutex<Vec<Option<Tensor<2>>>>,
    }

    impl Threads {
        /// Creates a handle for each of `ranks` threads.
        pub fn team(ranks: usize) -> Vec<Self> {
            let shared = Arc::new(Shared {
                barrier: Barrier::new(ranks),
                entries: Mutex::new(vec![None; ranks]),
            });
            (0..ranks)
                .map(|rank| Self {
                    rank,
                    shared: shared.clone(),
                })
                .collect()
        }

        /// The tensors of all ranks, in rank order.
        fn exchange(&self, own: Tensor<2>) -> Vec<Tensor<2>> {
            self.shared.entries.lock().unwrap()[self.rank] = Some(own);
            self.shared.barrier.wait();
            let all: Option<Vec<_>> = self
                .shared
                .entries
                .lock()
                .unwrap()
                .iter()
                .cloned()
                .collect();
            // No thread may write its next tensor before all have read this one.
            self.shared.barrier.wait();
            all.expect("every rank has written its tensor")
        }

        fn scalar(&self, local: f32) -> Vec<f32> {
            let device = burn::tensor::Device::flex();
            let own = Tensor::<2>::from_floats([[local]], &device);
            let all = self.exchange(own).into_iter();
            all.map(Tensor::into_scalar::<f32>).collect()
        }
    }

    impl Comm for Threads {
        fn rank(&self) -> usize {
            self.rank
        }

        fn ranks(&self) -> usize {
            self.shared.entries.lock().unwrap().len()
        }

        fn gather_rows(&self, rows: Tensor<2>) -> Tensor<2> {
            Tensor::cat(self.exchange(rows), 0)
        }

        fn sum(&self, values: Tensor<1>) -> Tensor<1> {
            let all = self.exchange(values.unsqueeze());
            let sum = all.into_iter().reduce(|a, b| a + b);
            sum.expect("there is at least one rank").squeeze_dim(0)
        }

        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "tests count to ten"
        )]
        fn count(&self, local: u64) -> u64 {
            self.scalar(local as f32).iter().sum::<f32>() as u64
        }

        fn any(&self, local: bool) -> bool {
            self.scalar(f32::from(u8::from(local)))
                .iter()
                .any(|yes| *yes > 0.0)
        }
    }
}
