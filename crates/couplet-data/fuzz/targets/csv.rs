//! Reads the input as a table of image paths and captions.
#![no_main]

use couplet_data_fuzz::{open, survey};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["pairs.csv", "pairs.tsv"] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a temporary file");
        if let Some(dataset) = open(json!({ "source": "csv", "path": path })) {
            let survey = survey(&dataset);
            assert_eq!(survey.samples, dataset.samples().unwrap_or_default());
        }
    }
});
