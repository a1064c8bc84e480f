//! `[ranks]`: how the ranks of a run work together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[ranks]`: how the ranks of a run work together. It changes nothing for a run of one rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RanksConfig {
    /// How features and gradients travel between ranks. All other exchanges are small and always go through
    /// the machines' memory.
    #[serde(default)]
    pub data: DataPlane,
}

/// How features and gradients travel between ranks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DataPlane {
    /// By NCCL if all ranks can, else through the machines' memory.
    #[default]
    Auto,
    /// Through the machines' memory, by MPI. A fixed number of ranks has the same bits in every run on CPUs.
    Host,
    /// By NCCL, from GPU to GPU: needs a build with the feature `nccl`, its library, and a `cuda` device on every
    /// rank. It is an error if a rank cannot.
    Nccl,
}
