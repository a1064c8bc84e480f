//! What a program gives a run by value, next to its config.

use std::sync::Arc;

use couplet_data::source::MapDataset;
use couplet_loss::PairLoss;

/// Datasets and a loss that no file describes. The config names them (`source = "custom"`,
/// `loss.kind = "custom"`), so that a resumed run asks for them again.
#[derive(Clone, Default)]
pub(super) struct Given {
    /// For `[data.train]`.
    pub train: Option<Arc<dyn MapDataset>>,
    /// For `[data.val]`.
    pub val: Option<Arc<dyn MapDataset>>,
    pub loss: Option<Arc<dyn PairLoss>>,
}
