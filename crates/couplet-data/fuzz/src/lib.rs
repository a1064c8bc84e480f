//! Shared by the fuzz targets.

use couplet_data::DatasetStats;
use couplet_data::loader::TokenOptions;
use couplet_data::source::{PairDataset, SourceConfig};

/// Larger images are rejected, so that decompression bombs cost no time.
pub const MAX_PIXELS: u64 = 1 << 20;

/// Opens the dataset that a config's `[data.train]` describes; `None` if it cannot be opened.
pub fn open(table: serde_json::Value) -> Option<PairDataset> {
    let config: SourceConfig = serde_json::from_value(table).expect("the targets' configs parse");
    if !config.problems().is_empty() {
        return None;
    }
    config.open(0, 32).ok()
}

/// Reads, decodes and tokenizes every sample.
pub fn survey(dataset: &PairDataset) -> DatasetStats {
    let tokens = TokenOptions {
        tokenizer: couplet_data::Tokenizer::clip(),
        context_length: 77,
        pad_id: 0,
        cut: true,
    };
    DatasetStats::collect(dataset, &tokens, MAX_PIXELS, |_| {})
}
