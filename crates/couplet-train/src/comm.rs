//! What the ranks of a run tell each other: the only file that knows how.

use burn::tensor::Tensor;

/// The one door between ranks. Every rank calls the same methods in the same order; sums
/// are taken in the order of ranks, so that all ranks hold the same bits.
pub(crate) trait Comm: Send {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// The rows of all ranks, in the order of ranks.
    /// - rows: `[rows, width]`, as many on every rank; returns `[ranks * rows, width]`.
    fn gather_rows(&self, rows: Tensor<2>) -> Tensor<2>;

    /// The sum over ranks.
    /// - values: `[len]`, as many on every rank; returns the same shape.
    fn sum(&self, values: Tensor<1>) -> Tensor<1>;

    /// The sum over ranks.
    fn count(&self, local: u64) -> u64;

    /// Whether any rank says yes.
    fn any(&self, local: bool) -> bool;
}

/// A run of one rank: nobody to talk to.
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
    //! Ranks that are threads of one process.

    use std::sync::{Arc, Barrier, Mutex};

    use super::{Comm, Tensor};

    /// One of several threads that share a table with a place for each.
    pub struct Threads {
        rank: usize,
        table: Arc<Table>,
    }

    struct Table {
        barrier: Barrier,
        places: Mutex<Vec<Option<Tensor<2>>>>,
    }

    impl Threads {
        /// As many as `ranks`, to be handed to a thread each.
        pub fn team(ranks: usize) -> Vec<Self> {
            let table = Arc::new(Table {
                barrier: Barrier::new(ranks),
                places: Mutex::new(vec![None; ranks]),
            });
            (0..ranks)
                .map(|rank| Self {
                    rank,
                    table: table.clone(),
                })
                .collect()
        }

        /// Everyone's tensor, in the order of ranks.
        fn exchange(&self, own: Tensor<2>) -> Vec<Tensor<2>> {
            self.table.places.lock().unwrap()[self.rank] = Some(own);
            self.table.barrier.wait();
            let all: Option<Vec<_>> = self.table.places.lock().unwrap().iter().cloned().collect();
            // Nobody lays down the next one before all have read this one.
            self.table.barrier.wait();
            all.expect("every rank has laid down its own")
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
            self.table.places.lock().unwrap().len()
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
