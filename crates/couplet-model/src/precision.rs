//! The dtype of the towers' matrix products.

use burn::tensor::{DType, Device, FloatDType, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The dtype of matrix products and convolutions. Parameters, a transformer's residual
/// stream, norms and softmax stay as wide as the parameters are, which is f32; between
/// the convolutions of a ResNet everything but the norms is narrow.
///
/// Source: PyTorch's automatic mixed precision, which sorts operations in the same way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    #[serde(rename = "fp32", alias = "f32")]
    F32,
    /// bfloat16: the range of fp32 with 8 bits of mantissa.
    #[serde(rename = "bf16")]
    Bf16,
    /// Half precision: 11 bits of mantissa, at most 65504. Gradients are scaled.
    #[serde(rename = "fp16", alias = "f16")]
    F16,
}

/// As configs name it: `fp32`, `bf16`, `fp16`.
impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "fp32",
            Self::Bf16 => "bf16",
            Self::F16 => "fp16",
        })
    }
}

impl Precision {
    /// The dtype that a device must support; `None` for the parameters' own.
    pub fn dtype(self) -> Option<DType> {
        match self {
            Self::F32 => None,
            Self::Bf16 => Some(DType::BF16),
            Self::F16 => Some(DType::F16),
        }
    }

    /// Whether `device` has the dtype.
    pub fn is_supported(self, device: &Device) -> bool {
        self.dtype()
            .is_none_or(|dtype| device.supports_dtype(dtype))
    }

    /// The dtype in which `x` is multiplied.
    pub(crate) fn of_products<const D: usize>(self, x: &Tensor<D>) -> DType {
        self.dtype().unwrap_or(x.dtype())
    }

    /// Casts `x` for a matrix product.
    pub(crate) fn narrow<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        let dtype = self.of_products(&x);
        if x.dtype() == dtype { x } else { x.cast(dtype) }
    }
}

/// Casts half precision to f32, for sums, norms and softmax.
pub(crate) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.cast(FloatDType::F32),
        _ => x,
    }
}
