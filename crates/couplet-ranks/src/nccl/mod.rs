//! Exchanges between the GPUs of ranks by NCCL (feature `nccl`), beside the wire: sums and gathers of floats that
//! never leave the GPUs' memory. The ranks meet by the wire, which also carries everything else.

mod buffer;
mod driver;
mod error;
mod library;
mod loading;
mod plane;
#[cfg(all(test, target_os = "linux"))]
mod stand_in;

#[cfg(feature = "nccl")]
pub use buffer::Floats;
#[cfg(feature = "nccl")]
pub use error::{NcclError, NcclStartError};
#[cfg(feature = "nccl")]
pub use plane::{Exchanged, Nccl, find_nccl};
