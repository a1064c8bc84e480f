//! Reads the input as COCO captions, and as the `.json` next to an image.
#![no_main]

use couplet_data_fuzz::{evaluate, open, survey};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("1.json");
    std::fs::write(&path, bytes).expect("a temporary file");
    std::fs::write(folder.path().join("1.png"), b"image").expect("a temporary file");
    evaluate(json!({ "source": "coco-captions", "annotations": path, "images": folder.path() }));
    let table = json!({ "source": "folder", "path": folder.path(), "caption_key": "caption" });
    if let Some(dataset) = open(table) {
        assert_eq!(survey(&dataset).samples, 1);
    }
});
