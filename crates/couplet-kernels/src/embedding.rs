//! Rows of a table by token.

use std::sync::Arc;

use burn::backend::{DispatchTensor, Flex};
use burn::tensor::{Int, Tensor, TensorData, module};
use burn_flex::FlexTensor;

use crate::fresh::fresh;
use crate::graph::{Composed, Kernel, apply, compose, is_supported};
use crate::values::{CHUNK, Dense, tensor};

/// Rows that are summed at once.
const GROUP: usize = 8;

/// The rows of `weight` that `ids` name.
/// - weight: `[vocabulary, width]`; ids: `[batch, tokens]`; returns `[batch, tokens, width]`.
/// - runs: of the same ids, made on the host, for a GPU. With them, the backward pass gathers and sums in parallel and in
///   a fixed order, as it does on the CPU. Without, it is Burn's, which on a GPU adds one token after the other.
///
/// # Panics
/// On the CPU, if an id is not below `vocabulary`.
pub fn embedding(weight: Tensor<2>, ids: Tensor<2, Int>, runs: Option<&TokenRuns>) -> Tensor<3> {
    if is_supported(&weight) {
        let shape = ids.dims();
        let ids = ids.into_data().convert::<i64>();
        let ids = ids.try_to_vec::<i64>().expect("converted");
        let lookup = Lookup {
            ids: ids.into_iter().map(row_of).collect(),
            shape,
        };
        return apply(lookup, [weight.into_dispatch()]).0;
    }
    let composed = runs.and_then(|runs| {
        let operation = Embedding {
            ids: ids.clone().inner(),
            runs: runs.clone(),
        };
        compose(operation, [&weight.clone().into_dispatch()])
    });
    composed.unwrap_or_else(|| module::embedding(weight, ids))
}

fn row_of(id: i64) -> usize {
    usize::try_from(id).expect("ids are not negative")
}

/// On the CPU: copies rows, and sums their gradients, by all threads.
#[derive(Debug, Clone)]
struct Lookup {
    ids: Arc<[usize]>,
    /// `[batch, tokens]`
    shape: [usize; 2],
}

/// Rows that one task writes.
fn rows_per_task(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

impl Kernel<Flex, 1> for Lookup {
    /// The shape of the table.
    type Saved = [usize; 2];

    fn forward(&self, [weight]: [FlexTensor; 1]) -> (FlexTensor, [usize; 2]) {
        let weight = Dense::<f32>::new(weight);
        let table = <[usize; 2]>::try_from(weight.shape()).expect("tables are of rank 2");
        let (width, values) = (table[1], weight.values());
        let rows = rows_per_task(width);
        let copy = |at: usize, out: &mut [f32]| {
            for (id, out) in self.ids[at * rows..]
                .iter()
                .zip(out.chunks_exact_mut(width))
            {
                out.copy_from_slice(&values[id * width..][..width]);
            }
        };
        let (out, _) = fresh(self.ids.len() * width, rows * width, copy);
        let [batch, tokens] = self.shape;
        (tensor(out, &[batch, tokens, width]), table)
    }

    fn backward(
        &self,
        [vocabulary, width]: [usize; 2],
        gradient: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let gradient = Dense::<f32>::new(gradient);
        let values = gradient.values();
        // Each token's places one after the other, in their own order.
        let mut places: Vec<usize> = (0..self.ids.len()).collect();
        places.sort_by_key(|place| self.ids[*place]);
        let rows = rows_per_task(width);
        let sum = |at: usize, out: &mut [f32]| {
            let [first, end] = [at * rows, at * rows + out.len() / width];
            let start = places.partition_point(|place| self.ids[*place] < first);
            let here = places[start..].iter();
            for place in here.take_while(|place| self.ids[**place] < end) {
                let out = &mut out[(self.ids[*place] - first) * width..][..width];
                for (sum, value) in out.iter_mut().zip(&values[place * width..][..width]) {
                    *sum += value;
                }
            }
        };
        let (sums, _) = fresh(vocabulary * width, rows * width, sum);
        [Some(tensor(sums, &[vocabulary, width]))]
    }
}

/// Where each token of a batch is, for the sums of [`embedding`]'s gradient.
#[derive(Debug, Clone)]
pub struct TokenRuns(Arc<Runs>);

#[derive(Debug)]
struct Runs {
    /// The rows of the level before whose sums are the rows of this level, [`GROUP`] each. The index after the last
    /// row is that of zeros.
    levels: Vec<Vec<i32>>,
    /// Each token's row of the last level.
    of_token: Vec<i32>,
}

impl TokenRuns {
    /// - ids: `[batch, tokens]`, row-major.
    ///
    /// # Panics
    /// If an id is not below `vocabulary`.
    pub fn new(ids: &[i32], vocabulary: usize) -> Self {
        let index = |at: usize| i32::try_from(at).expect("a batch's tokens fit in 32 bits");
        let mut order: Vec<i32> = (0..ids.len()).map(index).collect();
        order.sort_by_key(|at| ids[usize::try_from(*at).expect("positions are not negative")]);
        // The rows of each token that occurs, one after the other.
        let mut rows = order;
        let mut counts = vec![0_usize; vocabulary];
        for id in ids {
            counts[usize::try_from(*id).expect("ids are not negative")] += 1;
        }
        let (mut len, mut levels) = (ids.len(), Vec::new());
        while counts.iter().any(|count| *count > 1) {
            let (mut level, mut start) = (Vec::new(), 0);
            for count in &mut counts {
                for group in rows[start..start + *count].chunks(GROUP) {
                    level.extend_from_slice(group);
                    let padding = GROUP - group.len();
                    level.extend(std::iter::repeat_n(index(len), padding));
                }
                start += *count;
                *count = count.div_ceil(GROUP);
            }
            len = level.len() / GROUP;
            rows = (0..len).map(index).collect();
            levels.push(level);
        }
        let mut rows = rows.into_iter();
        let row = |count: usize| match count {
            0 => index(len),
            _ => rows.next().expect("every token has a row"),
        };
        let of_token = counts.into_iter().map(row).collect();
        Self(Arc::new(Runs { levels, of_token }))
    }
}

#[derive(Debug, Clone)]
struct Embedding {
    ids: Tensor<2, Int>,
    runs: TokenRuns,
}

impl Composed<1> for Embedding {
    type Saved = ();

    fn forward(&self, [weight]: [DispatchTensor; 1]) -> (DispatchTensor, ()) {
        let weight: Tensor<2> = Tensor::from_dispatch(weight);
        (
            module::embedding(weight, self.ids.clone()).into_dispatch(),
            (),
        )
    }

    fn backward(
        &self,
        (): (),
        gradient: DispatchTensor,
        _: [bool; 1],
    ) -> [Option<DispatchTensor>; 1] {
        let gradient: Tensor<3> = Tensor::from_dispatch(gradient);
        let width = gradient.dims()[2];
        let mut sums: Tensor<2> = gradient.flatten(0, 1);
        let Runs { levels, of_token } = &*self.runs.0;
        for level in levels {
            let groups = level.len() / GROUP;
            let rows = select(sums, level).reshape([groups, GROUP, width]);
            sums = rows.sum_dim(1).reshape([groups, width]);
        }
        [Some(select(sums, of_token).into_dispatch())]
    }
}

/// - rows: `[rows, width]`, after which follow zeros; returns `[at, width]`.
fn select(rows: Tensor<2>, at: &[i32]) -> Tensor<2> {
    let [_, width] = rows.dims();
    let device = rows.device();
    let zeros = Tensor::zeros([1, width], (&device, rows.dtype()));
    let at = TensorData::new(at.to_vec(), [at.len()]);
    let rows = Tensor::cat(vec![rows, zeros], 0);
    rows.select(0, Tensor::<1, Int>::from_data(at, &device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_name_every_row_once() {
        // Token 3 occurs 70 times, token 0 twice, token 5 once.
        let mut ids = vec![3; 70];
        ids.extend([0, 5, 0]);
        let runs = TokenRuns::new(&ids, 7).0;
        assert_eq!(runs.levels.len(), 3);
        assert_eq!(runs.levels[0].len() / GROUP, 1 + 9 + 1);
        assert_eq!(runs.levels[0][..3], [70, 72, 73]);
        assert_eq!(runs.levels[2].len() / GROUP, 3);
        assert_eq!(runs.of_token, [0, 3, 3, 1, 3, 2, 3]);
        let alone = TokenRuns::new(&[2, 0], 3).0;
        assert!(alone.levels.is_empty());
        assert_eq!(alone.of_token, [1, 2, 0]);
    }
}
