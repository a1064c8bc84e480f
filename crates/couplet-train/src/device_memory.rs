//! What a run keeps on its device and beside it.

use burn::module::Param;
use burn::tensor::Tensor;
#[cfg(feature = "cuda")]
use couplet_data::printable_path;
use couplet_kernels::{device_memory, settled};
use couplet_model::{Clip, ParameterMapper, map_parameters};

use crate::device::DeviceSetting;
use crate::memory;

impl DeviceSetting {
    /// Bytes of the device's memory that this process can still take, if the device tells.
    pub(crate) fn free_memory(self) -> Option<u64> {
        match self.resolved() {
            Self::Flex => memory::free(),
            gpu => device_memory(&gpu.open().ok()?),
        }
    }

    /// Where compiled kernels are kept for later runs, as a line for a run's head.
    pub fn kernel_cache_note(self) -> Option<String> {
        match self.resolved() {
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => couplet_kernels::kernel_cache()
                .map(|folder| format!("kernels    kept in {}", printable_path(folder))),
            _ => None,
        }
    }
}

/// The model with its parameters where they are to stay, for a run of many steps.
/// - model: whose parameters nothing else holds.
pub(crate) fn settle(model: Clip) -> Clip {
    struct Settle;
    impl ParameterMapper for Settle {
        fn map<const D: usize>(
            &mut self,
            _name: &str,
            param: Param<Tensor<D>>,
        ) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let is_trained = tensor.is_require_grad();
                Tensor::from_inner(settled(tensor.inner())).set_require_grad(is_trained)
            })
        }
    }
    map_parameters(model, &mut Settle)
}
