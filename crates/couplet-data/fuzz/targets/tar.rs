//! Reads the input as a webdataset shard, indexed and streamed.
#![no_main]

use couplet_data_fuzz::{open, survey};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("0.tar");
    std::fs::write(&path, bytes).expect("a temporary file");
    let table = |stream| json!({ "source": "webdataset", "shards": path, "stream": stream });
    for stream in [false, true] {
        if let Some(dataset) = open(table(stream)) {
            let survey = survey(&dataset);
            assert!(survey.skipped.len() <= survey.samples);
        }
    }
});
