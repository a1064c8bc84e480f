//! Floats in the memory of a GPU.

use std::any::Any;
use std::fmt;
#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(feature = "nccl")]
use cubecl::cuda::CudaRuntime;
#[cfg(feature = "nccl")]
use cubecl_runtime::{client::Client, runtime::Runtime, server::Handle};

#[cfg(feature = "nccl")]
use super::error::NcclError;

/// Contiguous `f32`s of a CubeCL buffer, which stays where it is as long as this lives.
pub struct Floats {
    address: u64,
    len: usize,
    /// CubeCL's hold on the memory.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is held, not read"))]
    pin: Box<dyn Any + Send>,
}

impl Floats {
    /// Waits until the work that writes the buffer is queued on the GPU; `Device::sync` waits until it is done.
    /// - len: the number of floats.
    ///
    /// # Errors
    /// If the client is not one of CUDA, the buffer is too short, or work that should have written it has failed.
    #[cfg(feature = "nccl")]
    pub fn new(client: &Client, handle: Handle, len: usize) -> Result<Self, NcclError> {
        let resource = client
            .get_resource::<<CudaRuntime as Runtime>::Server>(handle)
            .map_err(|error| NcclError::Memory(error.to_string()))?;
        let (address, bytes) = (resource.resource().ptr, resource.resource().size);
        let needed = len.checked_mul(size_of::<f32>());
        if needed.is_none_or(|needed| bytes < needed as u64) {
            return Err(NcclError::Short { bytes, floats: len });
        }
        Ok(Self {
            address,
            len,
            pin: Box::new(resource),
        })
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// The number of floats.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
impl Floats {
    /// Memory of this process, for a stand-in of NCCL.
    pub(crate) fn of_host(values: &[f32]) -> Self {
        let cells: Vec<AtomicU32> = values.iter().map(|value| value.to_bits().into()).collect();
        Self::of_cells(cells.into())
    }

    fn of_cells(cells: Arc<[AtomicU32]>) -> Self {
        Self {
            address: cells.as_ptr() as u64,
            len: cells.len(),
            pin: Box::new(cells),
        }
    }

    fn cells(&self) -> &Arc<[AtomicU32]> {
        let cells = self.pin.downcast_ref();
        cells.expect("it was made by `of_host`")
    }

    /// Another owner of the same memory.
    pub(crate) fn share(&self) -> Self {
        Self::of_cells(self.cells().clone())
    }

    pub(crate) fn host(&self) -> Vec<f32> {
        let cells = self.cells().iter();
        let values = cells.map(|cell| f32::from_bits(cell.load(Ordering::Acquire)));
        values.collect()
    }
}

impl fmt::Debug for Floats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floats")
            .field("address", &format_args!("{:#x}", self.address))
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
