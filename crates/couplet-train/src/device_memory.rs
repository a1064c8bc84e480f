//! What a run keeps on its device and beside it, and what its head says of it.

use burn::module::Param;
use burn::tensor::Tensor;
#[cfg(feature = "cuda")]
use couplet_data::printable_path;
use couplet_kernels::{device_memory, settled};
use couplet_model::{Clip, ParameterMapper, Precision, map_parameters};

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

    /// Why the device is slower than it could be, or than `precision` promises, and what to do.
    pub fn slow_because(self, precision: Precision) -> Option<&'static str> {
        match self.resolved() {
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => couplet_kernels::cublas_problem(),
            Self::Flex if precision == Precision::F16 => Some(
                "CPUs compute fp16 in software: fp32 is faster, and bf16 takes as little memory",
            ),
            Self::Flex if precision == Precision::Bf16 && !couplet_kernels::multiplies_bf16() => {
                Some(
                    "this processor has no instructions for bf16 (AVX512_BF16 or AMX): it saves memory here, but no time",
                )
            }
            _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_without_instructions_is_told() {
        let why = |precision| DeviceSetting::Flex.slow_because(precision);
        assert_eq!(why(Precision::F32), None);
        assert!(why(Precision::F16).unwrap().contains("fp16"));
        let has_bf16 = couplet_kernels::multiplies_bf16();
        assert_eq!(why(Precision::Bf16).is_none(), has_bf16);
    }
}
