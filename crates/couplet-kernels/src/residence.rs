//! Where tensors of a GPU are kept.

use burn::tensor::{Device, Tensor};

#[cfg(feature = "_cube")]
use crate::cube;

/// The values in memory that no other tensor is given: for tensors that stay as long as a run. Otherwise memory for the
/// outputs of every operation is searched for among them. Not on a GPU, the tensor itself.
/// - tensor: without a graph.
#[must_use]
pub fn settled<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "_cube")]
    if let Some(found) = cube::plain(&tensor) {
        return cube::tensor(cube::settled(found));
    }
    tensor
}

/// Memory of a device that nothing else gets until the tensor is dropped, and that counts for nothing after: for trials of
/// what fits beside it. Its values are undefined.
pub fn held(values: usize, device: &Device) -> Tensor<1> {
    let device = device.clone().without_autodiff();
    #[cfg(feature = "_cube")]
    if let Some(there) = cube::plain(&Tensor::<1>::empty([1], &device)) {
        let client = there.client.clone();
        let empty = |()| Tensor::empty([values], &device);
        return client.memory_dedicated_allocation((), empty);
    }
    Tensor::empty([values], &device)
}

/// Bytes that this process can still take of a GPU's memory, if the device tells.
#[cfg_attr(
    not(feature = "_cube"),
    expect(unused_variables, reason = "a build that knows no GPU")
)]
pub fn device_memory(device: &Device) -> Option<u64> {
    #[cfg(feature = "_cube")]
    {
        let there = Tensor::<1>::empty([1], &device.clone().without_autodiff());
        let client = cube::plain(&there)?.client;
        let reserved = device
            .memory_pool_usage()
            .map_or([0; 2], |usage| [usage.bytes_reserved, usage.bytes_in_use]);
        #[cfg(feature = "cuda")]
        if let Some(free) = cube::free_memory(&client) {
            return Some(free + (reserved[0] - reserved[1].min(reserved[0])));
        }
        let all = client.properties().memory.max_memory()?;
        Some(all.saturating_sub(reserved[1]))
    }
    #[cfg(not(feature = "_cube"))]
    None
}
