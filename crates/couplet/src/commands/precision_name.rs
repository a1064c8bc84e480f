//! The precision of matrix products and convolutions, as an argument.

use clap::ValueEnum;
use couplet_model::Precision;

/// As configs name them, with the names that open_clip gives them too.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PrecisionName {
    #[value(name = "fp32", alias = "f32")]
    F32,
    #[value(name = "bf16", alias = "amp_bf16")]
    Bf16,
    #[value(name = "fp16", aliases = ["f16", "amp"])]
    F16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::F32 => Self::F32,
            PrecisionName::Bf16 => Self::Bf16,
            PrecisionName::F16 => Self::F16,
        }
    }
}
