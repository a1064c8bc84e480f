//! What the targets share.

use couplet_data::DatasetStats;
use couplet_data::loader::TokenOptions;
use couplet_data::source::{PairDataset, SourceConfig};

/// Larger images are refused, so that a bomb costs no time.
pub const MAX_PIXELS: u64 = 1 << 20;

/// Opens a set as a config's `[data.train]` says, if it can be opened.
pub fn open(table: serde_json::Value) -> Option<PairDataset> {
    let table: SourceConfig = serde_json::from_value(table).expect("the targets' tables are sound");
    if !table.problems().is_empty() {
        return None;
    }
    table.open(0, 32).ok()
}

/// Reads, decodes and tokenizes everything.
pub fn survey(set: &PairDataset) -> DatasetStats {
    let tokens = TokenOptions {
        tokenizer: couplet_data::Tokenizer::clip(),
        context_length: 77,
        pad_id: 0,
        cut: true,
    };
    DatasetStats::of(set, &tokens, MAX_PIXELS, |_| {})
}
