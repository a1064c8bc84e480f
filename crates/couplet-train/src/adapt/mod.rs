//! Fine-tuning by low-rank updates.

mod adaptation;
mod table;

pub use adaptation::Adaptation;
pub(crate) use adaptation::is_update;
pub use table::{AdaptConfig, AdaptKind, TowerAdaptConfig};
