//! Bytes as a table of image paths and captions.
#![no_main]

use couplet_data_fuzz::{open, survey};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("there is room for a file");
    for name in ["pairs.csv", "pairs.tsv"] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("there is room for a file");
        if let Some(set) = open(json!({ "source": "csv", "path": path })) {
            let survey = survey(&set);
            assert_eq!(survey.samples, set.samples().unwrap_or_default());
        }
    }
});
