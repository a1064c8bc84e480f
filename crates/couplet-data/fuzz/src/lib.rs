//! Shared by the fuzz targets.

use std::path::Path;

use couplet_data::labelled::{LabelledConfig, Split};
use couplet_data::loader::TokenOptions;
use couplet_data::{DatasetStats, Interpolation, ResizeMode, Transform};
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

/// Opens a labelled dataset and reads its images; does nothing if it cannot be opened.
pub fn evaluate(table: serde_json::Value) {
    let config: LabelledConfig = serde_json::from_value(table).expect("the targets' configs parse");
    if let Ok(dataset) = config.open(Split::Test, 32) {
        let transform = Transform::eval(4, ResizeMode::Squash, Interpolation::Bilinear);
        let some = dataset.len().min(64);
        dataset.batch(0..some, &transform, MAX_PIXELS);
    }
}

/// Writes a shard.
pub fn write_shard(path: &Path, members: &[(&str, &[u8])]) {
    let file = std::fs::File::create(path).expect("a temporary file");
    let mut builder = tar::Builder::new(file);
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        let added = builder.append_data(&mut header, name, *bytes);
        added.expect("a temporary file");
    }
    builder.finish().expect("a temporary file");
}
