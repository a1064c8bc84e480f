//! Where tensors of a GPU are kept.

use burn::tensor::Tensor;

#[cfg(feature = "_cube")]
use crate::cube;

/// The values in memory that no other tensor is given: for tensors that stay as long as a run. Otherwise memory for the
/// outputs of every operation is searched for among them. Not on a GPU, the tensor itself.
/// - tensor: without a graph.
#[must_use]
pub fn settled<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "_cube")]
    if let Some(found) = cube::plain(&tensor) {
        let client = found.client.clone();
        let copy = client.memory_persistent_allocation(found, |found| found.copy());
        return cube::tensor(copy);
    }
    tensor
}
