//! Reads the input as a Parquet file with the columns image, caption and label.
#![no_main]

use couplet_data_fuzz::{evaluate, open, survey};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("0.parquet");
    std::fs::write(&path, bytes).expect("a temporary file");
    for stream in [false, true] {
        if let Some(dataset) = open(json!({ "source": "parquet", "files": path, "stream": stream })) {
            // A footer may claim any number of rows.
            if dataset.samples().is_some_and(|samples| samples < 1000) {
                survey(&dataset);
            }
        }
    }
    for key in ["label_column", "caption_column"] {
        evaluate(json!({ "source": "parquet", "files": path, key: key.replace("_column", "") }));
    }
});
