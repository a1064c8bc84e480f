//! k-nearest-neighbor classification.

use burn::tensor::Tensor;
use couplet_kernels::matmul;
use rayon::prelude::*;

/// Rows of the similarity matrix that are in memory at once.
const ROWS: usize = 256;

/// Predicts the most frequent class among the `k` nearest training images by cosine similarity. Of
/// classes with the same number of votes, the first one wins, as in scikit-learn's
/// `KNeighborsClassifier`.
/// - train, test: `[images, embed_dim]`, L2-normalized; labels: the classes of `train`.
/// - returns a class for each row of `test`.
///
/// # Panics
/// If there are no training images, or the device fails.
pub fn nearest_neighbours(
    train: &Tensor<2>,
    labels: &[usize],
    test: &Tensor<2>,
    k: usize,
) -> Vec<usize> {
    assert!(!labels.is_empty(), "there are no training images");
    let k = k.clamp(1, labels.len());
    let classes = labels.iter().max().map_or(0, |most| most + 1);
    let mut found = Vec::with_capacity(test.dims()[0]);
    for first in (0..test.dims()[0]).step_by(ROWS) {
        let end = test.dims()[0].min(first + ROWS);
        let some = test.clone().narrow(0, first, end - first);
        let scores = matmul(some, train.clone().transpose()).into_data();
        let scores: Vec<f32> = scores.try_to_vec().expect("similarities are f32");
        let votes = scores
            .par_chunks(labels.len())
            .map(|scores| vote(scores, labels, classes, k));
        found.extend(votes.collect::<Vec<_>>());
    }
    found
}

fn vote(scores: &[f32], labels: &[usize], classes: usize, k: usize) -> usize {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Of equally near images, the earlier ones count.
    let nearer = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    order.select_nth_unstable_by(k - 1, nearer);
    let mut votes = vec![0_usize; classes];
    for at in &order[..k] {
        votes[labels[*at]] += 1;
    }
    let most = votes.iter().max().copied().unwrap_or(0);
    votes.iter().position(|count| *count == most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_majority_wins_and_then_the_first_class() {
        let device = Device::flex();
        let train =
            Tensor::<2>::from_floats([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]], &device);
        let labels = [2, 1, 1, 0];
        let test = Tensor::<2>::from_floats([[1.0, 0.0], [0.0, 1.0]], &device);
        assert_eq!(nearest_neighbours(&train, &labels, &test, 1), [2, 0]);
        assert_eq!(nearest_neighbours(&train, &labels, &test, 3), [1, 1]);
        assert_eq!(nearest_neighbours(&train, &labels, &test, 2), [1, 0]);
    }
}
