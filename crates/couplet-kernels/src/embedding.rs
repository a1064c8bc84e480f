//! Rows of a table by token.

use std::sync::Arc;

use burn::backend::DispatchTensor;
use burn::tensor::{Int, Tensor, TensorData, module};

use crate::graph::{Composed, compose};

/// Rows that are summed at once.
const GROUP: usize = 8;

/// The rows of `weight` that `ids` name.
/// - weight: `[vocabulary, width]`; ids: `[batch, tokens]`; returns `[batch, tokens, width]`.
/// - runs: of the same ids, made on the host. With them, the backward pass gathers and sums in parallel and in a fixed
///   order. Without, it is Burn's, which on a GPU adds one token after the other.
pub fn embedding(weight: Tensor<2>, ids: Tensor<2, Int>, runs: Option<&TokenRuns>) -> Tensor<3> {
    let composed = runs.and_then(|runs| {
        let operation = Embedding {
            ids: ids.clone().inner(),
            runs: runs.clone(),
        };
        compose(operation, [&weight.clone().into_dispatch()])
    });
    composed.unwrap_or_else(|| module::embedding(weight, ids))
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
