//! Reads the input as the files of CIFAR and MNIST, and as an array of NumPy's.
#![no_main]

use couplet_data_fuzz::{evaluate, write_shard};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(root.join(name), bytes).expect("a temporary file");
    };
    for (classes, name) in [(10, "test_batch.bin"), (100, "test.bin")] {
        put(name, bytes);
        evaluate(json!({ "source": "cifar", "path": root, "classes": classes }));
    }
    // Images, then labels.
    let (images, labels) = bytes.split_at(bytes.len().saturating_sub(10));
    for ends in [["", ""], [".gz", ".gz"]] {
        put(&format!("t10k-images-idx3-ubyte{}", ends[0]), images);
        put(&format!("t10k-labels-idx1-ubyte{}", ends[1]), labels);
        evaluate(json!({ "source": "idx", "path": root }));
    }
    std::fs::create_dir(root.join("test")).expect("a temporary folder");
    put("dataset_type.txt", b"multilabel");
    put("test/nshards.txt", b"1");
    write_shard(&root.join("test/0.tar"), &[("1.png", b"image"), ("1.npy", bytes)]);
    evaluate(json!({ "source": "webdataset", "path": root }));
});
