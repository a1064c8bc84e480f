//! What is written once a resumed run can go on.

use serde::{Deserialize, Serialize};

/// What changed in a run, from a step on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChangeNote {
    /// Steps trained before it.
    pub step: u64,
    pub changes: Vec<String>,
}

/// What a resumed run writes into its folder once it can go on.
#[derive(Debug)]
pub(super) struct Pending {
    pub note: ChangeNote,
    /// The texts of the config until now and from now on.
    pub earlier_config: String,
    pub config: String,
}
