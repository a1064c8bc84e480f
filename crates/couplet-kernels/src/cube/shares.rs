//! Launches over many tensors.

use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;

use super::UNITS;

/// Vectors that a cube reads of each tensor.
pub(super) const VECTORS: usize = 4 * UNITS as usize;
/// The most tensors of one kind in a launch.
const MOST_TENSORS: usize = 16;

/// How many tensors of each of `kinds` kinds a launch may have.
pub(super) fn most_tensors(client: &Client, kinds: usize) -> usize {
    let bindings = client.properties().hardware.max_bindings as usize;
    // The factor, the sums and CubeCL's own.
    (bindings.saturating_sub(3) / kinds).clamp(1, MOST_TENSORS)
}

pub(super) fn cubes(tensor: &CubeTensor, vector: usize) -> usize {
    (tensor.meta.num_elements() / vector).div_ceil(VECTORS)
}

/// How tensors are shared out to cubes.
pub(super) struct Shares {
    /// The cube after each tensor's last.
    pub ends: Vec<u32>,
    /// Each tensor's vectors.
    pub lens: Vec<u32>,
}

impl Shares {
    pub fn new<'a>(tensors: impl Iterator<Item = &'a CubeTensor>, vector: usize) -> Self {
        let narrow = |value: usize| u32::try_from(value).expect("tensors are below 2^32 values");
        let (mut end, mut ends, mut lens) = (0, Vec::new(), Vec::new());
        for tensor in tensors {
            end += cubes(tensor, vector);
            ends.push(narrow(end));
            lens.push(narrow(tensor.meta.num_elements() / vector));
        }
        Self { ends, lens }
    }

    /// Of all tensors.
    pub fn cubes(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }
}
