//! Reads the input as the index next to a shard.
#![no_main]

use couplet_data_fuzz::{open, survey, write_shard};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("0.tar");
    // The shard that `make_seeds.py` writes an index of.
    let members: [(&str, &[u8]); 4] =
        [("0.png", b"image"), ("0.txt", b"a cat"), ("1.png", b"image"), ("1.txt", b"a dog")];
    write_shard(&path, &members);
    let index = folder.path().join("0.tar.index.json");
    // With the right digest, so that the rest is read too.
    couplet_data::source::index_shards(&[path.display().to_string()], |_, _, _| {})
        .expect("the shard is whole");
    let own = std::fs::read(&index).expect("the index was written");
    let own: serde_json::Value = serde_json::from_slice(&own).expect("the index is JSON");
    let mut bytes = bytes.to_vec();
    if let Ok(mut changed) = serde_json::from_slice::<serde_json::Value>(&bytes)
        && let Some(table) = changed.as_object_mut()
    {
        for key in ["headers", "shard_len"] {
            table.insert(key.into(), own[key].clone());
        }
        bytes = changed.to_string().into_bytes();
    }
    std::fs::write(&index, bytes).expect("a temporary file");
    if let Some(dataset) = open(json!({ "source": "webdataset", "shards": path })) {
        survey(&dataset);
    }
});
