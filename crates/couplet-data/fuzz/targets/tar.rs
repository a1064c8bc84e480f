//! Bytes as a webdataset shard, indexed and as a stream.
#![no_main]

use couplet_data_fuzz::{open, survey};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("there is room for a file");
    let path = folder.path().join("0.tar");
    std::fs::write(&path, bytes).expect("there is room for a file");
    let table = |stream| json!({ "source": "webdataset", "shards": path, "stream": stream });
    for stream in [false, true] {
        if let Some(set) = open(table(stream)) {
            let survey = survey(&set);
            assert!(survey.skipped.len() <= survey.samples);
        }
    }
});
